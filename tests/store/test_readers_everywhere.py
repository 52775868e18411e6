"""Every kind of version opens in every reader people use, from disk and over plain HTTP, with equal values and places."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import ngff_zarr
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import ome_zarr_models
import ome_zarr_models.v05
import pytest
import xarray as xr
import zarr
import zarr.storage

import emstore
from emstore.geometry import Affine, Axis, AxisKind, Space
from emstore.volume import Volume, VolumeKind
from other_readers import with_tensorstore, with_zarr
from range_server import serve
from sealed import ramp, seal, volume

NM, MM, S = "nanometer", "millimeter", "second"
C, T = AxisKind.CHANNEL, AxisKind.TIME
TILT = math.radians(20)


def kinds() -> list[Volume]:
    y, x = Axis("y", 70, spacing=4.0, unit=NM), Axis("x", 90, spacing=4.0, unit=NM)
    my, mx = Axis("y", 64, spacing=0.5, unit=MM), Axis("x", 80, spacing=0.5, unit=MM)
    frames = (0.0, 0.033, 0.07, 0.1, 0.14)
    levels = (-20.0, -17.5, -15.0, -11.0, -8.5, -6.0)
    oblique = [
        [2 * math.cos(TILT), -0.5 * math.sin(TILT), 0, -9],
        [2 * math.sin(TILT), 0.5 * math.cos(TILT), 0, 4],
        [0, 0, 0.5, 7],
    ]
    flat = [[2.5, 0, 0, -20], [0, 0.5, 0, -16], [0, 0, 0.5, -20]]
    last = [0, 0, 0, 1]
    return [
        volume("2d", ramp((70, 90), "uint8"), y, x, modality="sem", window=(10.0, 180.0)),
        volume("3d", ramp((40, 130, 150), "uint16"), Axis("z", 40, spacing=10.0, unit=NM), Axis("y", 130, spacing=4.0, unit=NM),
               Axis("x", 150, spacing=4.0, unit=NM, origin=100.0)),
        volume("cine", ramp((5, 64, 80), "uint8"), Axis("t", 5, T, unit=S, positions=frames), my, mx, modality="xa"),
        volume("steady-cine", ramp((5, 64, 80), "int16"), Axis("t", 5, T, unit=S, spacing=0.04), my, mx),
        volume("rgb", ramp((3, 70, 90), "uint8"), Axis("c", 3, C, labels=("red", "green", "blue")), y, x),
        volume("rgb-cine", ramp((4, 3, 70, 90), "uint8"), Axis("t", 4, T, spacing=0.04, unit=S), Axis("c", 3, C), y, x),
        volume("cells", ramp((20, 70, 90), "uint32"), Axis("z", 20, spacing=4.0, unit=NM), y, x, kind=VolumeKind.LABELS),
        volume("irregular", ramp((6, 64, 80), "int16"), Axis("z", 6, unit=MM, positions=levels), my, mx, modality="ct",
               affine=Affine.of([*flat, last], Space.LPS, MM)),
        volume("oblique", ramp((12, 64, 80), "float32"), Axis("z", 12, spacing=2.0, unit=MM), my, mx,
               affine=Affine.of([*oblique, last], Space.RAS, MM)),
        volume("unknown", ramp((33, 47), "uint16"), Axis("y", 33), Axis("x", 47)),
        volume("diffraction", ramp((7, 6, 16, 18), "uint16"),
               Axis("y", 7, spacing=1.5, unit=NM), Axis("x", 6, spacing=1.5, unit=NM),
               Axis("ky", 16, AxisKind.RECIPROCAL, spacing=0.25, unit="1/nanometer"),
               Axis("kx", 18, AxisKind.RECIPROCAL, spacing=0.25, unit="1/nanometer")),
        volume("spectrum", ramp((300,), "float32"),
               Axis("energy", 300, AxisKind.SPECTRAL, spacing=0.1, unit="electronvolt", origin=-3.0)),
        volume("complex", ramp((70, 90), "complex64"), y, x),
        volume("mask", ramp((70, 90), "bool"), y, x),
    ]  # fmt: skip


KINDS = {each.name: each for each in kinds()}
IMAGES = [name for name in KINDS if name not in ("diffraction", "spectrum")]


@dataclass(frozen=True)
class Opened:
    """One version, where a reader finds it."""

    truth: Volume
    where: str
    """Folder or URL."""

    @property
    def remote(self) -> bool:
        return self.where.startswith("http")

    def zarr_store(self, inner: str = "") -> Any:
        where = f"{self.where}/{inner}".rstrip("/")
        return zarr.storage.FsspecStore.from_url(where) if self.remote else where

    def tensorstore(self, array: str) -> Any:
        return with_tensorstore(f"{self.where}/{array}")

    @property
    def values(self) -> Any:
        return self.truth.data[tuple(slice(0, n) for n in self.truth.shape)]

    @property
    def document(self) -> dict[str, Any]:
        if self.remote:
            with urlopen(f"{self.where}/zarr.json", timeout=10) as answer:
                return dict(json.load(answer))
        return dict(json.loads(Path(self.where, "zarr.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    emstore.create_store(str(root / "lab.zarr"))
    for name, each in KINDS.items():
        seal(each, f"{root}/lab.zarr/kinds/{name}")
    return root


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serve(folder) as served:
        yield served.url


@pytest.fixture(params=["disk", "http"])
def root(request: pytest.FixtureRequest, folder: Path) -> str:
    return str(folder) if request.param == "disk" else str(request.getfixturevalue("url"))


def opened(root: str, name: str) -> Opened:
    return Opened(KINDS[name], f"{root}/lab.zarr/kinds/{name}/v1")


@pytest.mark.parametrize("name", KINDS)
def test_xarray(root: str, name: str) -> None:
    at = opened(root, name)
    tree = xr.open_datatree(at.where, engine="zarr", chunks=None, mask_and_scale=False)
    finest = tree["s0"].to_dataset()
    np.testing.assert_array_equal(finest["image"].values, at.values)
    assert finest["image"].dtype == at.values.dtype
    assert finest["image"].dims == at.truth.grid.dims
    for axis in at.truth.grid.axes:
        if axis.kind is not AxisKind.CHANNEL:
            np.testing.assert_allclose(finest[axis.name].values, axis.coordinates(), rtol=1e-12)
            assert finest[axis.name].attrs.get("units") == axis.unit
    for level in range(1, sum(group.startswith("s") for group in tree.children)):
        finer, coarser = tree[f"s{level - 1}"].to_dataset(), tree[f"s{level}"].to_dataset()
        for dim, size in coarser["image"].sizes.items():
            before = finer[dim].values
            factor = -(-before.size // size)
            assert size == -(-before.size // factor)
            # The centre of a block of samples is the mean of their places.
            if np.issubdtype(before.dtype, np.number):
                np.testing.assert_allclose(coarser[dim].values[0], before[:factor].mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_zarr(root: str, name: str) -> None:
    at = opened(root, name)
    array = with_zarr(at.where)["s0/image"]
    np.testing.assert_array_equal(array[...], at.values)
    assert array.metadata.dimension_names == at.truth.grid.dims


@pytest.mark.parametrize("name", KINDS)
def test_tensorstore(root: str, name: str) -> None:
    at = opened(root, name)
    array = at.tensorstore("s0/image")
    assert array.domain.labels == at.truth.grid.dims
    np.testing.assert_array_equal(array.read().result(), at.values)


def scales(at: Opened) -> list[tuple[list[float], list[float]]]:
    """OME scale and translation of every level as the finest one and the shapes imply."""
    found = []
    for level in at.document["attributes"]["ome"]["multiscales"][0]["datasets"]:
        (scale,) = (c["scale"] for c in level["coordinateTransformations"] if c["type"] == "scale")
        move = [c["translation"] for c in level["coordinateTransformations"] if c["type"] == "translation"]
        found.append((scale, move[0] if move else [0.0] * len(scale)))
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_the_ome_scale_says_where_the_voxels_are(root: str, name: str) -> None:
    at = opened(root, name)
    scale, translation = scales(at)[0]
    axes = at.document["attributes"]["ome"]["multiscales"][0]["axes"]
    assert [axis["name"] for axis in axes] == list(at.truth.grid.dims)
    for axis, said, step, start in zip(at.truth.grid.axes, axes, scale, translation, strict=True):
        assert said.get("unit") == (axis.unit if axis.known else None)
        assert step == pytest.approx(axis.median_step() or 1.0)
        assert start == pytest.approx(axis.coordinates()[0])


@pytest.mark.parametrize("name", IMAGES)
def test_ome_zarr_py(root: str, name: str) -> None:
    at = opened(root, name)
    location = ome_zarr.io.parse_url(at.where)
    assert location is not None
    (node, *_) = ome_zarr.reader.Reader(location)()
    np.testing.assert_array_equal(np.asarray(node.data[0]), at.values)
    assert [axis["name"] for axis in node.metadata["axes"]] == list(at.truth.grid.dims)


@pytest.mark.parametrize("name", IMAGES)
def test_ngff_zarr(root: str, name: str) -> None:
    at = opened(root, name)
    found = ngff_zarr.from_ngff_zarr(at.where, validate=True)
    image = found.images[0]
    np.testing.assert_array_equal(np.asarray(image.data), at.values)
    assert tuple(image.dims) == at.truth.grid.dims
    for axis in at.truth.grid.space_axes:
        assert image.scale[axis.name] == pytest.approx(axis.median_step() or 1.0)
        assert image.translation[axis.name] == pytest.approx(axis.coordinates()[0])


@pytest.mark.parametrize("name", IMAGES)
def test_ome_zarr_models(root: str, name: str) -> None:
    at = opened(root, name)
    group = ome_zarr_models.open_ome_zarr(zarr.open_group(at.zarr_store(), mode="r"), version="0.5")
    labels = at.truth.kind is VolumeKind.LABELS
    assert isinstance(group, ome_zarr_models.v05.ImageLabel if labels else ome_zarr_models.v05.Image)


@pytest.mark.parametrize("name", ["diffraction", "spectrum"])
def test_what_ome_cannot_hold_claims_not_to_be_an_ome_image(root: str, name: str) -> None:
    assert "ome" not in opened(root, name).document["attributes"]


def test_a_scan_has_a_virtual_image(root: str) -> None:
    at = opened(root, "diffraction")
    found = ngff_zarr.from_ngff_zarr(f"{at.where}/virtual", validate=True)
    np.testing.assert_array_equal(np.asarray(found.images[0].data), at.values.astype(np.uint64).sum(axis=(2, 3)))
    assert found.images[0].scale == {"y": 1.5, "x": 1.5}
    ome_zarr_models.v05.Image.from_zarr(zarr.open_group(at.zarr_store("virtual"), mode="r"))


def test_emstore_over_http(url: str) -> None:
    for name, truth in KINDS.items():
        version = emstore.open(f"{url}/lab.zarr/kinds/{name}/v1")
        found = version.xarray()["image"].values
        np.testing.assert_array_equal(found, truth.data[tuple(slice(0, n) for n in truth.shape)])
