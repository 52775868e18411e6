"""Whatever happens to a stored object, `verify` names that object and no other, and no reader takes it for the truth."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emstore
from command_line import result
from emstore.errors import Damaged
from emstore.geometry import Axis, Grid
from emstore.header import Header, RawHeader
from emstore.store import Place, Version, open_store, verify
from emstore.store.transaction import bury
from emstore.volume import MemoryArray, Volume
from sealed import ramp, seal
from seaweed import Seaweed

SHAPE = (70, 700, 300)


def made() -> Volume:
    """A volume of several shards and levels, with a parsed and a raw header."""
    values = ramp(SHAPE, "u2") + np.random.default_rng(1).integers(0, 99, SHAPE).astype("u2")
    axes = (
        Axis("z", 70, spacing=20.0, unit="nanometer"),
        *(Axis(n, s, spacing=5.0, unit="nanometer") for n, s in zip("yx", SHAPE[1:], strict=True)),
    )
    header = Header(
        "memory", {"beam": {"kV": 5}}, raw=(RawHeader("a.hdr", lambda: b"\0\1\2 header"), RawHeader("b.hdr", lambda: b"b" * 999))
    )
    return Volume("noise", MemoryArray(values), Grid(axes), header)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two versions."""
    root = tmp_path_factory.mktemp("pristine") / "lab.zarr"
    emstore.create_store(str(root))
    seal(made(), f"{root}/lab/raw")
    seal(
        Volume("small", MemoryArray(ramp((9, 8), "u1")), Grid((Axis("y", 9), Axis("x", 8))), Header("memory")), f"{root}/lab/raw"
    )
    return root


@pytest.fixture
def lab(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "lab.zarr"))


def objects(root: Path) -> list[str]:
    """Return every key of version 1."""
    return sorted(p.relative_to(root).as_posix() for p in (root / "lab/raw/v1").rglob("*") if p.is_file())


def found(root: Path, place: Place | None = None, *, data: bool = True) -> dict[str, str]:
    """Return problem by key; fail if a key is named twice."""
    findings = [f for one in verify(open_store(str(root)), place or Place(), data=data) for f in one.findings]
    assert len({f.key for f in findings}) == len(findings), findings
    return {f.key: str(f.problem) for f in findings}


def test_the_version_is_worth_damaging(pristine: Path) -> None:
    keys = objects(pristine)
    assert sum("/s0/image/c/" in key for key in keys) > 2
    assert any("/s1/" in key for key in keys)
    assert {"lab/raw/v1/.emstore/header.json", "lab/raw/v1/.emstore/source/header.zip"} <= set(keys)
    assert found(pristine) == {}


@given(st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_named(pristine: Path, data: st.DataObject) -> None:
    # The text of a reservation, "what is being made", is for people and changes nothing.
    key = data.draw(st.sampled_from([k for k in objects(pristine) if not k.endswith("txn.json")]))
    path = pristine / key
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bad)
    try:
        assert found(pristine, Place("lab", "raw", 1)).keys() == {key}
        kind = "wrong content"
        assert set(found(pristine, Place("lab", "raw", 1)).values()) <= {kind, "holds another object's content"}
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("how", ["delete", "cut", "grow", "empty"])
def test_any_object_of_another_size_is_named_without_reading_it(lab: Path, how: str) -> None:
    for key in objects(lab):
        path = lab / key
        good = path.read_bytes()
        if how == "delete":
            path.unlink()
        else:
            path.write_bytes({"cut": good[:-1], "grow": good + b"\n", "empty": b""}[how])
        named = found(lab, Place("lab", "raw"), data=False)
        if how == "grow" and key.endswith(("txn.json", "v1/zarr.json")):
            named.setdefault(key, "")  # a line end after a JSON document changes nothing in it
        assert named.keys() == {key}, (how, key)
        if how == "delete":
            assert named[key] == "missing"
        path.write_bytes(good)


def test_swapped_objects_are_named(lab: Path) -> None:
    shards = [k for k in objects(lab) if "/s0/image/c/" in k]
    pairs = [
        (shards[0], shards[1]),
        ("lab/raw/v1/s0/image/zarr.json", "lab/raw/v1/s1/image/zarr.json"),
        (shards[0], "lab/raw/v1/.emstore/header.json"),
    ]
    for one, two in pairs:
        a, b = (lab / one).read_bytes(), (lab / two).read_bytes()
        (lab / one).write_bytes(b)
        (lab / two).write_bytes(a)
        named = found(lab)
        assert named.keys() == {one, two}
        if len(a) == len(b):
            assert set(named.values()) == {"holds another object's content"}
        (lab / one).write_bytes(a)
        (lab / two).write_bytes(b)


def test_same_size_swap_says_whose_content_it_is(lab: Path) -> None:
    version = lab / "lab/raw/v1"
    sizes: dict[int, list[Path]] = {}
    for path in version.rglob("*"):
        if path.is_file() and ".emstore" not in path.parts:
            sizes.setdefault(path.stat().st_size, []).append(path)
    a, b = next(pair for pair in sizes.values() if len(pair) > 1 and pair[0].read_bytes() != pair[1].read_bytes())[:2]
    left, right = a.read_bytes(), b.read_bytes()
    a.write_bytes(right)
    b.write_bytes(left)
    keys = {p.relative_to(lab).as_posix() for p in (a, b)}
    assert found(lab) == dict.fromkeys(keys, "holds another object's content")


@pytest.mark.parametrize("name", ["s0/image/c/9/9/9", "s7/zarr.json", "junk", ".emstore/junk.json", "s0/image/c/0/0/0#1"])
def test_extra_objects_are_named(lab: Path, name: str) -> None:
    path = lab / "lab/raw/v1" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert found(lab, data=False) == {f"lab/raw/v1/{name}": "not part of the version"}


def test_links_are_named_whatever_they_lead_to(lab: Path, tmp_path: Path) -> None:
    key = next(k for k in objects(lab) if "/s0/image/c/" in k)
    good = (lab / key).read_bytes()
    (tmp_path / "same").write_bytes(good)
    for target in (tmp_path / "same", tmp_path / "nothing", Path("/etc/passwd")):
        (lab / key).unlink()
        (lab / key).symlink_to(target)
        assert found(lab) == {key: "is a link"}, target
    (lab / key).unlink()
    (lab / key).write_bytes(good)
    (lab / "lab/raw/v1/s1/image").rename(tmp_path / "image")
    (lab / "lab/raw/v1/s1/image").symlink_to(tmp_path / "image")
    assert found(lab) == {"lab/raw/v1/s1/image": "is a link"}


@pytest.mark.parametrize("to", ["lab/raw/v3", "lab/other/v1", "other/raw/v1"])
def test_a_version_copied_elsewhere_is_named(lab: Path, to: str) -> None:
    dataset, array, _ = to.split("/")
    shutil.copytree(lab / "lab/raw/v1", lab / to)
    for group in (dataset, f"{dataset}/{array}"):
        source = lab / ("lab/zarr.json" if "/" not in group else "lab/raw/zarr.json")
        if not (lab / group / "zarr.json").exists():
            shutil.copy(source, lab / group / "zarr.json")
    assert found(lab) == {f"{to}/zarr.json": "holds another object's content"}


def test_a_version_of_another_store_is_named(lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    emstore.create_store(str(other))
    shutil.copytree(lab / "lab", other / "lab")
    assert found(other).keys() == {"lab/raw/v1/zarr.json", "lab/raw/v2/zarr.json"}


def test_a_deleted_seal_is_no_unfinished_work(lab: Path) -> None:
    (lab / "lab/raw/v1/zarr.json").unlink()
    assert found(lab) == {"lab/raw/v1/zarr.json": "missing"}
    before = objects(lab)
    assert result("gc", lab)["cleared"] == []
    assert objects(lab) == before
    assert [v["state"] for v in result("status", lab)["versions"]] == ["damaged", "sealed"]


def test_a_damaged_seal_hides_nothing_else(lab: Path) -> None:
    (lab / "lab/raw/v1/zarr.json").write_bytes(b"{")
    assert [v["state"] for v in result("status", lab)["versions"]] == ["damaged", "sealed"]
    assert [v["ref"] for v in result("ls", lab)["versions"]] == [f"{lab}/lab/raw/v2"]
    assert result("gc", lab)["cleared"] == []
    assert result("verify", lab, "--data", code=10)["versions"][0]["findings"][0]["key"] == "lab/raw/v1/zarr.json"
    assert result("info", f"{lab}/lab/raw/v1", code=10)["kind"] == "damaged"


@pytest.mark.parametrize("key", ["lab/zarr.json", "lab/raw/zarr.json"])
def test_documents_of_groups_are_part_of_it(lab: Path, key: str) -> None:
    good = (lab / key).read_bytes()
    (lab / key).write_bytes(good.replace(b'"group"', b'"array"'))
    assert found(lab) == {key: "wrong content"}
    (lab / key).unlink()
    assert found(lab) == {key: "missing"}
    (lab / "strangers").mkdir()
    (lab / key).write_bytes(good)
    assert found(lab) == {}, "a stranger's folder is left alone"


def test_aborted_versions_are_whole_as_they_are(lab: Path) -> None:
    shutil.rmtree(lab / "lab/raw/v2")
    (lab / "lab/raw/v2/.emstore").mkdir(parents=True)
    (lab / "lab/raw/v2/.emstore/txn.json").write_bytes((lab / "lab/raw/v1/.emstore/txn.json").read_bytes())
    assert bury(open_store(str(lab)).backend, Place("lab", "raw", 2), "test")
    assert found(lab) == {}
    assert result("verify", f"{lab}/lab/raw/v2", code=3)["kind"] == "not_found"


def test_exit_codes_and_json_of_the_command(lab: Path) -> None:
    whole = result("verify", lab, "--data")
    assert whole["ok"] is True
    assert [v["findings"] for v in whole["versions"]] == [[], []]
    key = next(k for k in objects(lab) if "/s0/image/c/" in k)
    (lab / key).unlink()
    damaged = result("verify", lab, code=10)
    assert damaged["ok"] is False
    assert damaged["versions"][0]["findings"] == [{"key": key, "problem": "missing", "detail": None}]
    assert damaged["versions"][1]["ok"] is True


def read(version: Version, level: int = 0) -> np.ndarray:
    array = version.array(level)
    return array[tuple(slice(0, n) for n in array.shape)]


def damage_on_disk(root: Path) -> tuple[str, Callable[[str, bytes | None], None]]:
    def change(key: str, data: bytes | None) -> None:
        if data is None:
            (root / key).unlink()
        else:
            (root / key).write_bytes(data)

    return str(root), change


def damage_on_s3(root: Path, server: Seaweed, name: str) -> tuple[str, Callable[[str, bytes | None], None]]:
    import obstore

    url = server.url(name)
    store = emstore.store.url.open_backend(url)._store
    for path in root.rglob("*"):
        if path.is_file():
            obstore.put(store, path.relative_to(root).as_posix(), path.read_bytes())

    def change(key: str, data: bytes | None) -> None:
        if data is None:
            obstore.delete(store, key)
        else:
            obstore.put(store, key, data)

    return url, change


@pytest.mark.parametrize("where", ["disk", "seaweed"])
def test_no_reader_takes_damage_for_the_truth(
    lab: Path, where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "disk":
        url, change = damage_on_disk(Path(shutil.copytree(lab, lab.parent / "copy.zarr")))
    else:
        server: Seaweed = request.getfixturevalue("seaweed")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url, change = damage_on_s3(lab, server, lab.parent.name)
    ref = f"{url}/lab/raw/v1"
    np.testing.assert_array_equal(read(emstore.open(ref)), made().data[(slice(None),) * 3])
    shard = next(k for k in objects(lab) if "/s0/image/c/" in k)
    good = (lab / shard).read_bytes()
    chance = np.random.default_rng(4)
    for at in [0, len(good) - 1, *chance.integers(0, len(good), 6).tolist()]:
        bad = bytearray(good)
        bad[at] ^= 1 << int(chance.integers(8))
        change(shard, bytes(bad))
        with pytest.raises(Damaged, match=shard):
            read(emstore.open(ref))
    for data in (good[:-1], good[:100], b"", None):
        change(shard, data)
        with pytest.raises(Damaged, match=shard):
            read(emstore.open(ref))
        assert found_at(url) == {shard}
    change(shard, good)
    for key, use in {
        ".emstore/header.json": lambda version: version.header_tree(),
        ".emstore/source/header.zip": lambda version: version.source(),
        ".emstore/manifest.json": lambda version: version.manifest,
    }.items():
        body = (lab / "lab/raw/v1" / key).read_bytes()
        for data in (body[:-1], body[:9] + bytes([body[9] ^ 1]) + body[10:], b"", None):
            change(f"lab/raw/v1/{key}", data)
            with pytest.raises(Damaged, match=key):
                use(emstore.open(ref))
        change(f"lab/raw/v1/{key}", body)
    assert found_at(url) == set()
    seal_body = json.loads((lab / "lab/raw/v1/zarr.json").read_bytes())
    seal_body["attributes"]["emstore"]["volume"]["name"] = "forged"
    change("lab/raw/v1/zarr.json", json.dumps(seal_body).encode())
    with pytest.raises(Damaged, match="seal"):
        emstore.open(ref)


def found_at(url: str) -> set[str]:
    return {f.key for one in verify(open_store(url), Place("lab", "raw", 1), data=True) for f in one.findings}
