"""Opening and reading sealed versions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from obstore.store import LocalStore

import emstore
from emstore.errors import Damaged, InvalidInput, NotFound
from emstore.geometry import Affine, Axis, Space
from emstore.header import Header, RawHeader
from emstore.store import Place, Store, Transaction, begin, digest, open_store
from emstore.store.backend import Backend
from emstore.store.transaction import bury
from emstore.store.version import load
from emstore.volume import MemoryArray, ValueScale, Volume
from sealed import ramp, seal, volume

AXES = (
    Axis("z", 70, spacing=2.0, unit="millimeter", origin=-5.0),
    Axis("y", 300, spacing=0.5, unit="millimeter"),
    Axis("x", 280, spacing=0.5, unit="millimeter"),
)
VALUES = ramp((70, 300, 280), "int16")


@pytest.fixture
def lab(tmp_path: Path) -> str:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    return str(tmp_path / "lab.zarr")


@pytest.fixture
def version(lab: str) -> emstore.Version:
    affine = Affine.of(np.diag([2.0, 0.5, 0.5, 1.0]), Space.LPS, "millimeter")
    made = volume("head", VALUES, *AXES, affine=affine, modality="ct", scale=ValueScale(2.0, -1024.0, "HU"), window=(-90, 90))
    return seal(made, f"{lab}/lab/raw")


class CountingBackend(Backend):
    """Counts every request."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalStore(folder), str(folder), folder)
        self.requests: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        verb = super().__getattribute__(name)
        if name in ("get", "find", "get_range", "get_ranges", "get_suffix", "size", "entries", "children"):
            self.requests.append(name)
        return verb


def test_what_was_sealed_comes_back(version: emstore.Version, lab: str) -> None:
    again = emstore.open(f"{lab}/lab/raw/v1")
    assert again.id == version.id
    made = again.volume()
    np.testing.assert_array_equal(made.data[tuple(slice(0, n) for n in made.shape)], VALUES)
    assert made.grid.axes == AXES
    assert made.grid.affine is not None
    assert made.grid.affine.space is Space.LPS
    assert (made.name, made.modality, made.scale, made.window) == ("head", "ct", ValueScale(2.0, -1024.0, "HU"), (-90, 90))


def test_values_are_lazy_and_never_rescaled(version: emstore.Version, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    real = Backend.get_range

    def spy(self: Backend, key: str, start: int, length: int) -> bytes:
        reads.append(key)
        return real(self, key, start, length)

    monkeypatch.setattr(Backend, "get_range", spy)
    dataset = version.xarray()
    assert reads == []
    assert isinstance(dataset, xr.Dataset)
    assert dataset["image"].dtype == np.int16
    np.testing.assert_array_equal(dataset["image"][3, 10:20, ::7].values, VALUES[3, 10:20, ::7])
    np.testing.assert_array_equal(dataset["image"].isel(z=[5, 1], x=-1).values, VALUES[[5, 1], :, -1])
    np.testing.assert_array_equal(dataset["image"].sel(z=-5.0 + 2.0 * 9).values, VALUES[9])
    np.testing.assert_array_equal(dataset["image"][::-1, 0, 0].values, VALUES[::-1, 0, 0])
    assert dataset["image"][0:0].shape == (0, 300, 280)
    assert reads
    assert dataset["image"].attrs["physical"] == {"slope": 2.0, "intercept": -1024.0, "unit": "HU"}


def test_all_views_agree(version: emstore.Version) -> None:
    tree = version.datatree()
    assert list(tree.children) == list(version.info.volume.levels)
    np.testing.assert_array_equal(tree["s0/image"].values, VALUES)
    np.testing.assert_array_equal(version.dask()[10:20, 5, ::3].compute(scheduler="sync"), VALUES[10:20, 5, ::3])
    for level in range(version.levels):
        grid = version.grid(level)
        assert grid.shape == version.array(level).shape
        for axis in grid.axes:
            np.testing.assert_allclose(tree[f"s{level}"][axis.name].values, axis.coordinates())
    with pytest.raises(InvalidInput):
        version.volume(version.levels)


def test_the_latest_sealed_version_is_meant(lab: str) -> None:
    for value in (1, 2):
        seal(volume("v", np.full((3, 5), value, "u1"), Axis("y", 3), Axis("x", 5)), f"{lab}/lab/raw")
    store = open_store(lab)

    def reserve(name: str) -> Transaction:
        held = begin(store.backend, Place("lab", "raw"), settings=digest(name.encode()), task=name, store_id=store.id)
        assert isinstance(held, Transaction)
        return held

    aborted, unfinished = reserve("aborted"), reserve("unfinished")
    aborted.abort("test")
    assert emstore.open(f"{lab}/lab/raw").place.version == 2
    with pytest.raises(NotFound, match="aborted"):
        emstore.open(f"{lab}/lab/raw/v3")
    with pytest.raises(NotFound):
        emstore.open(f"{lab}/lab/raw/v4")
    unfinished.release()
    bury(store.backend, Place("lab", "raw", 4), "test")
    with pytest.raises(NotFound):
        emstore.open(f"{lab}/lab/other")
    with pytest.raises(InvalidInput):
        emstore.open(f"{lab}/lab")


@pytest.mark.parametrize("side", [40, 700])
def test_opening_costs_the_same_few_requests_whatever_the_size(lab: str, tmp_path: Path, side: int) -> None:
    made = volume("v", ramp((40, side, side), "uint8"), Axis("z", 40), Axis("y", side), Axis("x", side))
    sealed = seal(made, f"{lab}/lab/raw")
    backend = CountingBackend(tmp_path / "lab.zarr")
    store = Store(lab, backend, open_store(lab).info)
    opened = load(store, sealed.place)
    opened.xarray()
    assert backend.requests == ["find"]
    array = opened.array()
    backend.requests.clear()
    array[0:32, 0:32, 0:32]
    assert len(backend.requests) <= 3


def test_headers_come_back_as_they_were(lab: str) -> None:
    raw = bytes(range(256)) * 40
    header = Header(
        "made", {"nested": {"list": [1, 2.5, None, "x"]}}, {"instrument/name": "A"}, (RawHeader("a.hdr", lambda: raw),)
    )
    made = volume("v", np.ones((3, 5), "u1"), Axis("y", 3), Axis("x", 5))
    version = seal(Volume(made.name, MemoryArray(np.ones((3, 5), "u1")), made.grid, header), f"{lab}/lab/raw")
    assert version.header_tree() == {"nested": {"list": [1, 2.5, None, "x"]}}
    assert version.source() == {"a.hdr": raw}
    assert version.info.header.terms == {"instrument/name": "A"}


def test_a_changed_seal_does_not_open(version: emstore.Version, lab: str) -> None:
    path = Path(lab) / "lab" / "raw" / "v1" / "zarr.json"
    path.write_bytes(path.read_bytes().replace(b'"slope":2.0', b'"slope":3.0'))
    with pytest.raises(Damaged, match="digest"):
        emstore.open(f"{lab}/lab/raw/v1")
