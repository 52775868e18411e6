"""Weights are versions: sealed, opened by everybody's readers under their own names, read back as they were."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import emstore
import emstore_schemas
from command_line import call, result
from emstore.errors import Damaged, InvalidInput, Kind
from emstore.geometry import Axis, AxisKind
from emstore.networks import read_weights
from emstore.store import begin, digest, resolve, seal_weights, verify
from emstore.weights import Weights
from other_readers import inline_documents, with_tensorstore, with_zarr
from range_server import serve
from sealed import _record, ramp, seal, seal_some_weights, volume


def weights(**changes: Any) -> Weights:
    random = np.random.default_rng(4)
    arrays: dict[str, npt.NDArray[Any]] = {
        "encoder_1/kernel": random.normal(size=(3, 3, 1, 32)).astype("f4"),
        "encoder_1/bias": np.zeros(32, "f4"),
        "block/conv/kernel": random.normal(size=(2, 5)),
        "block/norm.mean": random.normal(size=7).astype("f2"),
        "block/conv_2/kernel": random.normal(size=(5, 2)),
        "scale": np.array(0.25, "f4"),
        "steps": np.array([7], "i8"),
        "big": random.integers(-9, 9, size=(700, 1100)),
        "none": np.zeros((0, 3), "f4"),
        "mask": np.array([True, False]),
    }
    given: dict[str, Any] = {
        "name": "autoencoder-digital",
        "architecture": "autoencoder",
        "settings": {"filters": 32, "output": "relu", "sizes": [3, 3]},
        "arrays": arrays,
        "licence": "CC0-1.0",
        "figures": {"steps": 1200, "validation": [0.5, 0.25], "unknown": None},
        "notes": ("stopped early",),
    }
    return Weights(**{**given, **changes})


def equal(a: Weights, b: Weights) -> None:
    assert (a.name, a.architecture, a.settings, a.licence, a.figures, a.notes) == (
        b.name, b.architecture, b.settings, b.licence, b.figures, b.notes,
    )  # fmt: skip
    assert list(a.arrays) == list(b.arrays)
    for name, values in a.arrays.items():
        same(values, b.arrays[name])
    assert a.digest == b.digest


def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


@pytest.fixture
def lab(tmp_path: Path) -> str:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    return str(tmp_path / "lab.zarr")


def test_weights_come_back(lab: str) -> None:
    sealed = seal_some_weights(weights(), f"{lab}/nets/first")
    again = emstore.open(f"{lab}/nets/first")
    assert (again.id, again.is_model, again.is_table) == (sealed.id, True, False)
    equal(again.weights(), weights())
    assert all(one.ok for one in verify(*resolve(sealed.ref), data=True))
    assert "ome" not in sealed.document["attributes"]
    emstore_schemas.validate("version", sealed.document["attributes"]["emstore"])


def test_big_endian_and_transposed_arrays_come_back_as_the_same_numbers(lab: str) -> None:
    values = np.arange(12.0).reshape(3, 4)
    sealed = seal_some_weights(weights(arrays={"a": values.astype(">f8"), "b": values.T}), f"{lab}/nets/first")
    found = sealed.weights().arrays
    np.testing.assert_array_equal(found["a"], values)
    np.testing.assert_array_equal(found["b"], values.T)
    assert found["a"].dtype == np.dtype("f8")


@pytest.mark.parametrize("remote", [False, True])
def test_other_readers_open_it(lab: str, remote: bool, tmp_path: Path) -> None:
    truth = weights()
    seal_some_weights(truth, f"{lab}/nets/first")
    with serve(tmp_path) as served:
        where = f"{served.url}/lab.zarr/nets/first/v1" if remote else f"{lab}/nets/first/v1"
        equal(emstore.open(where).weights(), truth)
        tree = xr.open_datatree(where, engine="zarr", chunks=None, consolidated=True)
        group = with_zarr(where)
        for name, values in truth.arrays.items():
            same(np.asarray(group[f"s0/{name}"][...]), values)
            same(tree[f"s0/{name}"].to_numpy(), values)
            same(np.asarray(with_tensorstore(f"{where}/s0/{name}").read().result()), values)


def test_the_documents_are_in_the_seal_and_beside_the_data(lab: str) -> None:
    seal_some_weights(weights(), f"{lab}/nets/first")
    with serve(Path(lab)) as served:
        found = inline_documents(f"{served.url}/nets/first/v1")
    groups = {"s0", "s0/encoder_1", "s0/block", "s0/block/conv", "s0/block/conv_2"}
    assert found == groups | {f"s0/{name}" for name in weights().arrays}


def test_xarray_of_a_model(lab: str) -> None:
    version = seal_some_weights(weights(), f"{lab}/nets/first")
    dataset = version.xarray()
    assert dataset.attrs["architecture"] == "autoencoder"
    tree = version.datatree()
    assert tree.attrs["settings"]["filters"] == 32
    for name, values in weights().arrays.items():
        same(dataset[name].values, values)
        same(tree[f"s0/{name}"].to_numpy(), values)


def test_a_model_is_neither_image_nor_table(lab: str) -> None:
    version = seal_some_weights(weights(), f"{lab}/nets/first")
    for wrong in (version.volume, version.grid, version.array, version.dask, version.table):
        with pytest.raises(InvalidInput, match=r"holds a model[\s\S]*Version\.weights"):
            wrong()
    with pytest.raises(InvalidInput, match="holds a model"):
        emstore.torch_dataset(version.ref, patch={"y": 4})
    image = seal(volume("i", ramp((4, 4), "u1"), Axis("y", 4, AxisKind.SPACE), Axis("x", 4, AxisKind.SPACE)), f"{lab}/a/image")
    with pytest.raises(InvalidInput, match="holds an image, not a model"):
        image.weights()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"arrays": {"a/../b": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"/a": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"a//b": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"kernel:0": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"__kernel": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"a" * 300: np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"a": np.zeros(2), "A": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"a": np.zeros(2), "a/b": np.zeros(2)}}, Kind.BAD_NAME),
        ({"arrays": {"long": np.zeros(2, np.longdouble)}}, Kind.SOURCE_UNSUPPORTED),
        ({"settings": {"x": np.zeros(2)}}, Kind.INVALID_INPUT),
        ({"figures": {"loss": float("nan")}}, Kind.INVALID_INPUT),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_sealed(lab: str, changes: Mapping[str, Any], kind: Kind) -> None:
    store, place = resolve(f"{lab}/nets/first")
    held = begin(store.backend, place, settings=digest(b"x"), task="t", store_id=store.id)
    with pytest.raises(InvalidInput) as error:
        seal_weights(held, weights(**changes), _record)  # type: ignore[arg-type]
    assert error.value.kind is kind
    held.release()  # type: ignore[union-attr]
    assert result("ls", f"{lab}/nets")["versions"] == []


def test_damage_is_found_and_never_read(lab: str) -> None:
    version = seal_some_weights(weights(), f"{lab}/nets/first")
    chunk = Path(lab, "nets/first/v1/s0/encoder_1/kernel/c/0/0/0/0")
    body = bytearray(chunk.read_bytes())
    body[len(body) // 3] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(Damaged, match="encoder_1/kernel"):
        version.weights()
    assert result("verify", version.ref, "--data", code=10)["ok"] is False
    chunk.unlink()
    with pytest.raises(Damaged, match="encoder_1/kernel"):
        version.weights()
    keys = [f["key"] for f in result("verify", version.ref, code=10)["versions"][0]["findings"]]
    assert keys == ["nets/first/v1/s0/encoder_1/kernel/c/0/0/0/0"]


def test_whole_objects_that_were_exchanged_are_found(lab: str) -> None:
    version = seal_some_weights(weights(arrays={"a": np.arange(3.0), "b": np.arange(3.0) + 1}), f"{lab}/nets/first")
    one, other = (Path(lab, f"nets/first/v1/s0/{name}/c/0") for name in "ab")
    body = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(body)
    with pytest.raises(Damaged, match="not those that were sealed"):
        version.weights()


def test_the_command_line_shows_it(lab: str, tmp_path: Path) -> None:
    version = seal_some_weights(weights(), f"{lab}/nets/first")
    [listed] = result("ls", lab)["versions"]
    assert (listed["kind"], listed["shape"], listed["dims"]) == ("model", [weights().count], ["parameter"])
    assert f"parameter:{weights().count}" in call("ls", lab).stdout
    told = call("info", version.ref).stdout
    for word in ("autoencoder", "filters", "CC0-1.0", "encoder_1/kernel", "3x3x1x32", "stopped early", "1200", weights().digest):
        assert word in told, word
    assert result("info", version.ref)["attributes"]["figures"]["steps"] == 1200
    assert result("verify", version.ref, "--data")["ok"] is True
    assert ".npz" in str(result("export", version.ref, tmp_path / "a.csv", code=2)["fix"])


def test_export_for_numpy_holds_everything_and_needs_no_pickle(lab: str, tmp_path: Path) -> None:
    version = seal_some_weights(weights(), f"{lab}/nets/first")
    assert result("export", version.ref, tmp_path / "a.npz")["lost"] == []
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        for name, values in weights().arrays.items():
            same(found[name], values)
        told = json.loads(found["facts.json"])
        assert found.files[1:] == list(weights().arrays)
    assert (told["architecture"], told["licence"], told["figures"]["steps"]) == ("autoencoder", "CC0-1.0", 1200)
    back, _ = read_weights(tmp_path / "a.npz")
    equal(back, weights())
    assert back.digest == weights().digest
