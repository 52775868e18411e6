"""Every instrument file, one test each: equal to its reference reader, or refused as it must be."""

import pytest

import manifest_table

FOLDER = manifest_table.data_folder()
ROWS = manifest_table.manifest(FOLDER) if (FOLDER / "MANIFEST.csv").is_file() else []


@pytest.mark.skipif(not ROWS, reason=f"no MANIFEST.csv in {FOLDER} (set EMSTORE_TEST_DATA)")
def test_the_manifest_names_every_file() -> None:
    named = {row["path"] for row in ROWS}
    there = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()} - {"MANIFEST.csv"}
    assert there == named


@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_file(row: dict[str, str]) -> None:
    result = manifest_table.check(FOLDER, row)
    assert result.ok, result.result
