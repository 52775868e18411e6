"""Files made to break a reader, through the whole of ``emstore ingest``: one clear error or a correct read, and no harm."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import emstore
import hostile_files
from command_line import emstore as command
from command_line import result
from emstore.cli.exit_codes import exit_codes
from emstore.errors import Kind
from emstore.store import verify

DRIVER = Path(__file__).resolve().parents[1] / "support" / "hostile_driver.py"

READ_RIGHT = {
    "small-then-ten-gigabytes.nii.gz": [16, 16, 16],
    "png-small-with-bomb.png": [10, 10],
    "noise-after-magic.nii": [4, 4, 4],
    "folder-with-loop": [4, 4],
    "folder-with-fifo-and-socket": [4, 4],
    "name-newline": [4, 4, 4],
    "name-escape": [4, 4, 4],
    "name-right-to-left": [4, 4, 4],
    "name-not-utf-8": [4, 4, 4],
    "name-long": [4, 4, 4],
    "name-dash": [4, 4, 4],
    "name-percent": [4, 4, 4],
    "name-backslash": [4, 4, 4],
    "name-brackets": [4, 4, 4],
}
"""What is sound at heart, and its shape; everything else made here must be refused."""

KINDS = {
    "bomb.zip": "capacity",
    "slip.zip": "source_unreadable",
    "slip-absolute.zip": "source_unreadable",
    "a-million-names.zip": "capacity",
    "empty-folder": "not_found",
    "dangling": "not_found",
    "device": "source_unreadable",
    "fifo.nii": "source_unreadable",
    "folder-deep": "capacity",
    "folder-with-link-out": "source_unreadable",
    "folder-mixed": "ambiguous_source",
    "dicom-huge.dcm": "capacity",
    "dicom-deflate-bomb.dcm": "capacity",
    "nion-pickled.ndata1": "source_unsupported",
    "hdf5-huge.h5": "memory_budget",
    "hdf5-external-link.h5": "source_unsupported",
    "zarr-1e18.zarr": "capacity",
    "zarr-chunk-terabyte.zarr": "capacity",
    "png-bomb.png": "capacity",
    "tiff-loop.tif": "source_unreadable",
    "tiff-million-square.tif": "source_incomplete",
    "half.mp4": "source_incomplete",
}
"""The kinds that matter to who gets the message."""


@dataclass(frozen=True)
class Outcome:
    """What every command did, and the store they did it to."""

    store: Path
    sources: dict[str, Path]
    results: dict[str, dict[str, Any]]
    around: dict[str, str]
    """What lay beside the sources before and after."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    base = tmp_path_factory.mktemp("hostile")
    (base / "files").mkdir()
    sources = hostile_files.make(base / "files")
    real = Path(os.environ.get("EMSTORE_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "hostile"
    sources |= {f"real {p.name}": p for p in sorted(real.iterdir())} if real.is_dir() else {}
    store = base / "lab.zarr"
    emstore.create_store(str(store))
    jobs = []
    for number, (name, path) in enumerate(sources.items()):
        arguments = ("ingest", "--json", "--", path, store / "hostile" / f"a{number}")
        job = {"name": name, "arguments": [os.fsencode(a).hex() for a in arguments], "folder": str(base / "runs" / str(number))}
        jobs.append(job)
    (base / "jobs.json").write_text(json.dumps(jobs))
    before = listing(base / "files")
    subprocess.run([sys.executable, DRIVER, base / "jobs.json", base / "results.json"], check=True, timeout=500, cwd=base)
    results = json.loads((base / "results.json").read_text())
    yield Outcome(store, sources, results, {"before": before, "after": listing(base / "files")})
    subprocess.run(["rm", "-rf", base], check=True)  # deeper than shutil can go


def listing(folder: Path) -> str:
    """Return a digest of every name below a folder and beside it."""
    found = subprocess.run(["find", folder, "-printf", "%P %y %s %T@\\n"], capture_output=True, check=True).stdout
    return hashlib.sha256(b"\n".join(sorted(found.splitlines()))).hexdigest()


def test_every_file_ends_in_one_clear_error_or_a_correct_read(outcome: Outcome) -> None:
    codes = {code for code, _, _ in exit_codes()} - {70}
    problems = []
    for name, done in outcome.results.items():
        last = json.loads(done["out"].splitlines()[-1]) if done["out"] else {}
        wrong = [
            f"killed for {done['killed']}" if done["killed"] else "",
            f"exit {done['code']}" if done["code"] not in codes else "",
            f"said {done['err'][-200:]!r}" if done["err"] else "",
            f"took {done['peak'] >> 20} MiB" if done["peak"] >= 1 << 30 else "",
            f"took {done['seconds']:.0f} s" if done["seconds"] >= 60 else "",
            f"left {done['left']}" if done["left"] else "",
        ]
        if done["code"]:
            if last.get("exit_code") != done["code"] or last.get("kind") not in set(Kind) or not last.get("what"):
                wrong.append(f"the error is {last}")
            if done["out"].count('"exit_code"') != 1:
                wrong.append("more than one error")
        elif not name.startswith("real ") and READ_RIGHT.get(name.removesuffix("-in-folder")) is None:
            wrong.append(f"was read as {[v['shape'] for v in last['versions']]}")
        if name in KINDS and last.get("kind") != KINDS[name]:
            wrong.append(f"is {last.get('kind')}, not {KINDS[name]}: {last.get('what')}")
        problems += [f"{name}: {text}" for text in wrong if text]
    assert problems == []
    assert len(outcome.results) == len(outcome.sources) > 200


def test_what_is_sound_at_heart_is_read(outcome: Outcome) -> None:
    for name, shape in READ_RIGHT.items():
        done = outcome.results[name]
        assert done["code"] == 0, (name, done["out"])
        assert [v["shape"] for v in json.loads(done["out"].splitlines()[-1])["versions"]] == [shape]


def test_nothing_is_sealed_but_what_was_read(outcome: Outcome) -> None:
    good = sum(done["code"] == 0 for done in outcome.results.values())
    store, place = emstore.store.resolve(str(outcome.store))
    checked = verify(store, place, data=True)
    assert [one.findings for one in checked if not one.ok] == []
    assert len(checked) == good
    assert {state["state"] for state in result("status", outcome.store)["versions"]} <= {"sealed", "unfinished"}
    assert result("gc", outcome.store)["dry_run"] is False
    assert {state["state"] for state in result("status", outcome.store)["versions"]} <= {"sealed", "aborted"}
    assert len(result("ls", outcome.store)["versions"]) == good


def test_nothing_outside_the_store_changes(outcome: Outcome) -> None:
    assert outcome.around["before"] == outcome.around["after"]
    search = ["find", outcome.store.parent, "-name", "slipped*", "-o", "-name", "owned*"]
    assert subprocess.run(search, capture_output=True, check=True).stdout == b""
    assert not Path("/slipped-by-emstore.tif").exists()


def test_no_output_drives_a_terminal(outcome: Outcome) -> None:
    for name, done in outcome.results.items():
        assert not {c for c in done["out"] + done["err"] if not c.isprintable()} - {"\n"}, name
    for name in ("name-escape", "name-right-to-left", "name-not-utf-8"):
        said = command("inspect", "--", outcome.sources[name])
        assert said.returncode == 0, said.stderr
        assert not {c for c in said.stdout + said.stderr if not c.isprintable()} - {"\n"}


def test_links_that_lead_out_are_told_when_left_out(outcome: Outcome) -> None:
    found = result("inspect", "--allow-partial", outcome.sources["folder-with-link-out"])
    assert [one["name"] for one in found["skipped"]] == ["s2.tif"]
    found = result("inspect", outcome.sources["folder-with-fifo-and-socket"])
    assert [one["name"] for one in found["ignored"]] == ["s2.tif", "s3.tif"]


def test_a_file_nobody_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.nii"
    path.write_bytes(hostile_files.nifti_header(4, 4, 4) + bytes(128))
    path.chmod(0)
    emstore.create_store(str(tmp_path / "s.zarr"))
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    assert result("ingest", path, tmp_path / "s.zarr/d/a", code=5)["kind"] == "source_unreadable"
