"""gc clears what dead writers left and nothing else; `status` and `ls` say what each version number is."""

from pathlib import Path

import pytest

import emstore
from command_line import result
from emstore.geometry import Axis
from emstore.store import Place, Transaction, begin, collect, digest, open_store, verify
from sealed import ramp, seal, volume


def start(root: Path, name: str) -> Transaction:
    store = open_store(str(root))
    held = begin(store.backend, Place("lab", "raw"), settings=digest(name.encode()), task=name, store_id=store.id)
    assert isinstance(held, Transaction)
    return held


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Versions 1 sealed, 2 unfinished, 3 aborted, 4 being written, 5 sealed."""
    root = tmp_path / "lab.zarr"
    emstore.create_store(str(root))
    small = volume("small", ramp((9, 8), "u1"), Axis("y", 9), Axis("x", 8))
    seal(small, f"{root}/lab/raw")
    left = start(root, "left")
    left.put("s0/image/c/0/0", b"half")
    left.release()
    gone = start(root, "gone")
    gone.put("s0/image/c/0/0", b"half")
    gone.abort("the source changed")
    start(root, "live").put("s0/image/c/0/0", b"half")
    seal(small, f"{root}/lab/raw")
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and "lease" not in p.parts}


def states(root: Path) -> list[str]:
    return [v["state"] for v in result("status", root)["versions"]]


def test_every_number_has_its_state(lab: Path) -> None:
    assert states(lab) == ["sealed", "unfinished", "aborted", "writing", "sealed"]
    assert [v["ref"].rpartition("/")[2] for v in result("ls", lab)["versions"]] == ["v1", "v5"]
    assert result("info", lab)["states"]["sealed"] == 2
    assert result("status", f"{lab}/lab/raw/v3")["versions"][0]["reason"] == "the source changed"
    assert emstore.open(f"{lab}/lab/raw").place.version == 5


def test_a_dry_run_changes_nothing(lab: Path) -> None:
    (lab / "lab/raw/v1/s0/image/c/0/9#1").write_bytes(b"half")
    before = tree(lab)
    planned = collect(open_store(str(lab)), Place(), dry_run=True)
    assert tree(lab) == before
    assert {one.key for one in planned} == {"lab/raw/v2/", "lab/raw/v1/s0/image/c/0/9#1"}
    assert planned == collect(open_store(str(lab)), Place())
    assert tree(lab) != before


def test_sealed_and_live_versions_are_never_touched(lab: Path) -> None:
    (lab / "lab/raw/v4/s0/image/c/0/1#7").write_bytes(b"on its way")
    kept = {key: body for key, body in tree(lab).items() if key.startswith(("lab/raw/v1/", "lab/raw/v4/", "lab/raw/v5/"))}
    collect(open_store(str(lab)), Place())
    after = tree(lab)
    assert {key: after.get(key) for key in kept} == kept
    assert not [key for key in after if key.startswith("lab/raw/v2/s0")]
    assert states(lab) == ["sealed", "aborted", "aborted", "writing", "sealed"]
    assert all(one.ok for one in verify(open_store(str(lab)), Place(), data=True))
    assert start(lab, "next").place.version == 6
    assert collect(open_store(str(lab)), Place()) == []


def test_a_writer_killed_in_its_very_first_put_hides_nothing(lab: Path) -> None:
    (lab / "lab/raw/v6/.emstore").mkdir(parents=True)
    (lab / "lab/raw/v6/.emstore/txn.json#1").write_bytes(b"{")
    assert len(states(lab)) == 5
    collect(open_store(str(lab)), Place())
    assert not (lab / "lab/raw/v6").exists()
    assert all(one.ok for one in verify(open_store(str(lab)), Place()))
