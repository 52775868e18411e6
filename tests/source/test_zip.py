"""Zips are opened where the user pointed at one, whatever number of files they hold; nothing leads out of them."""

import zipfile
from pathlib import Path

import pytest

from emstore.errors import Capacity, SourceUnreadable
from emstore.source import Source


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_all_members_come_in_natural_order_and_beside_each_other(tmp_path: Path) -> None:
    members = {"scan/b10.ser": b"ten", "scan/b2.ser": b"two", "scan/a.emi": b"list", "__MACOSX/x": b"junk", ".DS_Store": b"junk"}
    path = packed(tmp_path / "scan.zip", members)
    with Source.of([path]) as source:
        assert [item.name for item in source.items] == ["scan.zip/scan/a.emi", "scan.zip/scan/b2.ser", "scan.zip/scan/b10.ser"]
        assert [item.head for item in source.items] == [b"list", b"two", b"ten"]
        assert len({item.path.parent for item in source.items}) == 1
        assert {item.packed_in for item in source.items} == {path}
        unpacked = [item.path for item in source.items]
    assert not any(file.exists() for file in unpacked)


@pytest.mark.parametrize("mark", [".zgroup", "a/zarr.json"])
def test_a_zipped_zarr_group_is_one_thing(tmp_path: Path, mark: str) -> None:
    path = packed(tmp_path / "store.zspy", {mark: b"{}", "a/0": b"chunk"})
    with Source.of([path]) as source:
        assert [item.path for item in source.items] == [path]


@pytest.mark.parametrize("name", ["../out.dm3", "a/../../out.dm3", "/out.dm3", "a\\..\\..\\out.dm3"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "bad.zip", {name: b"x", "good.dm3": b"y"})
    with pytest.raises(SourceUnreadable, match="leads out"):
        Source.of([path])
    assert not (tmp_path / "out.dm3").exists()


def test_members_that_inflate_beyond_reason_together_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb.zip", {f"{n}.raw": bytes(2_000_000) for n in range(4)})
    with pytest.raises(Capacity, match="inflates to 8000000 bytes"):
        Source.of([path])
