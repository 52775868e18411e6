"""Weights in files: they come back as they were, and nothing that is not weights is taken for such."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emstore.errors import Damaged, EmstoreError, InvalidInput, NotFound, SourceUnreadable
from emstore.networks import archive, read_weights, shipped, shipped_weights, write_weights
from emstore.weights import Weights
from random_weights import random_weights

WEIGHTS = random_weights("autoencoder", filters=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "w.npz"
    write_weights(path, WEIGHTS, record={"activity": {"name": "autoencoder"}, "params": {"seed": 3}})
    return path


def test_weights_come_back(path: Path) -> None:
    found, record = read_weights(path)
    assert found.digest == WEIGHTS.digest
    assert (found.name, found.licence, dict(found.settings)) == (WEIGHTS.name, WEIGHTS.licence, dict(WEIGHTS.settings))
    assert list(found.arrays) == list(WEIGHTS.arrays)
    assert record == {"activity": {"name": "autoencoder"}, "params": {"seed": 3}}


def test_the_same_weights_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_weights(tmp_path / "two.npz", *read_weights(path)[:1], record=read_weights(path)[1])
    assert (tmp_path / "two.npz").read_bytes() == path.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["two.npz", "w.npz"]


def test_numpy_opens_it_without_pickle(path: Path) -> None:
    with np.load(path, allow_pickle=False) as found:
        for name, values in WEIGHTS.arrays.items():
            np.testing.assert_array_equal(found[name], values)


def test_weights_that_come_with_emstore_can_all_be_read() -> None:
    for name in shipped():
        weights = shipped_weights(name)
        assert weights.name == name
        assert weights.licence
        assert weights.figures["converged"]


def test_weights_that_do_not_come_with_emstore() -> None:
    with pytest.raises(NotFound, match="no weights 'other'"):
        shipped_weights("other")


# ---------------------------------------------------------------------------------------------------- hostile files


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as held:
        return {each: held.read(each) for each in held.namelist()}


def packed(path: Path, content: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as held:
        for name, data in content.items():
            held.writestr(name, data)
    return path


def npy(values: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(values), **how)
    return buffer.getvalue()


def header(text: str) -> bytes:
    line = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


FACTS = "facts.json"
HOSTILE = {
    "empty": lambda c: {},
    "facts_missing": lambda c: {k: v for k, v in c.items() if k != FACTS},
    "facts_last": lambda c: {**{k: v for k, v in c.items() if k != FACTS}, FACTS: c[FACTS]},
    "facts_no_json": lambda c: {**c, FACTS: b"\xff{"},
    "facts_a_list": lambda c: {**c, FACTS: b"[]"},
    "facts_not_finite": lambda c: {**c, FACTS: c[FACTS].replace(b'"version": 1', b'"version": NaN')},
    "facts_deep": lambda c: {**c, FACTS: b'{"a":' + b"[" * 100_000},
    "facts_huge": lambda c: {**c, FACTS: b" " * (archive.MOST_FACTS + 1)},
    "facts_more": lambda c: {**c, FACTS: c[FACTS].replace(b'"version": 1', b'"version": 1, "code": "x"')},
    "facts_other_version": lambda c: {**c, FACTS: c[FACTS].replace(b'"version": 1', b'"version": 2')},
    "facts_wrong_type": lambda c: {**c, FACTS: c[FACTS].replace(b'"settings": {', b'"settings": [{').replace(b"}\n", b"}]\n")},
    "name_escapes": lambda c: {**c, "../../evil.npy": npy([1.0])},
    "name_absolute": lambda c: {**c, "/evil.npy": npy([1.0])},
    "name_hidden": lambda c: {**c, "a/../evil.npy": npy([1.0])},
    "name_of_code": lambda c: {**c, "evil.py": b"raise SystemExit"},
    "array_missing": lambda c: {k: v for k, v in c.items() if not k.startswith("output/bias")},
    "array_more": lambda c: {**c, "more/bias.npy": npy([1.0])},
    "array_of_text": lambda c: {**c, "output/bias.npy": npy(["a"])},
    "array_of_structs": lambda c: {**c, "output/bias.npy": npy(np.zeros(1, [("a", "f4")]))},
    "array_not_finite": lambda c: {**c, "output/bias.npy": npy(np.float32([np.nan]))},
    "array_huge_shape": lambda c: {**c, "output/bias.npy": header("{'descr':'<f4','fortran_order':False,'shape':(10**15,)}")},
    "array_vast_shape": lambda c: {
        **c,
        "output/bias.npy": header("{'descr':'<f4','fortran_order':False,'shape':(999999999999999,)}"),
    },
    "array_negative_shape": lambda c: {
        **c,
        "output/bias.npy": header("{'descr':'<f4','fortran_order':False,'shape':(-1,-1)}") + bytes(4),
    },
    "array_header_runs": lambda c: {**c, "output/bias.npy": header("__import__('os').abort()")},
    "array_header_long": lambda c: {**c, "output/bias.npy": header("{" + " " * 60_000 + "}")},
    "array_short": lambda c: {**c, "output/bias.npy": c["output/bias.npy"][:-2]},
    "array_long": lambda c: {**c, "output/bias.npy": c["output/bias.npy"] + b"x"},
    "array_no_npy": lambda c: {**c, "output/bias.npy": b"PK"},
    "array_changed": lambda c: {**c, "output/bias.npy": npy(np.float32([7.0]))},
    "many_members": lambda c: {**c, **{f"a{n}.npy": b"" for n in range(archive.MOST_ARRAYS + 1)}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what: str, path: Path, tmp_path: Path) -> None:
    bad = packed(tmp_path / "bad.npz", HOSTILE[what](members(path)))
    with pytest.raises(EmstoreError) as refused:
        read_weights(bad)
    assert str(tmp_path) not in str(refused.value)


def test_bombs_are_refused_before_they_are_unpacked(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand times as large unpacked, told or not told."""
    monkeypatch.setattr(archive, "LARGEST", 24 << 20)
    honest = packed(tmp_path / "honest.npz", {**members(path), "bomb/a.npy": bytes(32 << 20)})
    lying = tmp_path / "lying.npz"
    lying.write_bytes(honest.read_bytes().replace(struct.pack("<I", 32 << 20), struct.pack("<I", 1 << 10)))
    many = packed(tmp_path / "many.npz", {**members(path), **{f"bomb/a{n}.npy": bytes(1 << 20) for n in range(32)}})
    for bomb in (honest, lying, many):
        assert bomb.stat().st_size < 200_000
        tracemalloc.start()
        try:
            with pytest.raises(SourceUnreadable):
                read_weights(bomb)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_a_name_that_is_there_twice_is_refused(path: Path, tmp_path: Path) -> None:
    bad = packed(tmp_path / "bad.npz", members(path))
    with zipfile.ZipFile(bad, "a") as held, pytest.warns(UserWarning, match="Duplicate"):
        held.writestr("output/bias.npy", npy(np.float32([7.0])))
    with pytest.raises(SourceUnreadable, match="twice"):
        read_weights(bad)


def test_changed_numbers_are_named_damage(path: Path, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="digest"):
        read_weights(packed(tmp_path / "bad.npz", HOSTILE["array_changed"](members(path))))


def test_a_pickle_is_never_run(path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    objects = np.empty(1, object)
    objects[0] = Runs(mark)
    for content in (npy(objects, allow_pickle=True), pickle.dumps(Runs(mark))):
        with pytest.raises(SourceUnreadable):
            read_weights(packed(tmp_path / "bad.npz", {**members(path), "output/bias.npy": content}))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(SourceUnreadable):
        read_weights(tmp_path / "bare.npz")
    assert not mark.exists()


def test_other_packing_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="method"):
        read_weights(packed(tmp_path / "bad.npz", members(path), method=zipfile.ZIP_LZMA))


def test_every_cut_and_flip_is_found(path: Path, tmp_path: Path) -> None:
    """Or makes no difference to the weights: some bytes of a zip archive mean nothing."""
    data = path.read_bytes()
    bad = tmp_path / "bad.npz"
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(data), 40):
        bad.write_bytes(data[:cut])
        with pytest.raises(SourceUnreadable):
            read_weights(bad)
    for at in rng.integers(0, len(data), 300):
        bad.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :])
        try:
            found, _ = read_weights(bad)
        except EmstoreError:
            continue
        assert found.digest == WEIGHTS.digest


def test_a_file_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"no\.npz"):
        read_weights(tmp_path / "no.npz")
    with pytest.raises(SourceUnreadable):
        read_weights(tmp_path)


def test_facts_that_are_not_json_are_not_written(tmp_path: Path) -> None:
    weights = Weights("w", WEIGHTS.architecture, WEIGHTS.settings, WEIGHTS.arrays, figures={"loss": float("nan")})
    with pytest.raises(InvalidInput, match="finite"):
        write_weights(tmp_path / "w.npz", weights)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a//b", "a/", "", ".hidden", "a\\b", "C:evil", "é", "a" * 200, "__proto__/a"]
)
def test_names_that_could_not_be_read_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_weights(tmp_path / "w.npz", Weights("w", "other", {}, {name: np.ones(1)}))
    assert list(tmp_path.iterdir()) == []


def test_weights_of_any_network_come_back(tmp_path: Path) -> None:
    """Not only emstore's own networks are trained."""
    arrays = {"Block-1/norm.mean": np.ones((0, 3), "f2"), "step": np.array(7, ">i8"), "on": np.array([True, False])}
    weights = Weights("Somebody's", "their.network", {"sizes": [3, 3]}, arrays, None, {"steps": None}, ("A note.",))
    write_weights(tmp_path / "w.npz", weights)
    found, record = read_weights(tmp_path / "w.npz")
    assert (found.digest, list(found.arrays), record) == (weights.digest, list(arrays), None)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values)
        assert found.arrays[name].shape == values.shape


def test_more_than_may_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST", archive.MOST_FACTS + 10_000)
    with pytest.raises(InvalidInput, match="more than a file may hold"):
        write_weights(tmp_path / "w.npz", WEIGHTS)
