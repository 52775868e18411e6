"""Masks ingested as labels: kind, codec, pyramid and geometry in the sealed version, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import emstore
from command_line import call, result
from emstore.errors import InvalidInput
from emstore.geometry import Axis, AxisKind
from emstore.labels import as_labels
from emstore.store import Place, State, open_store, versions
from emstore.volume import ValueScale, VolumeKind
from sealed import volume

CELLS = np.kron(np.arange(1, 28).reshape(3, 3, 3) * 7 % 5 * 50, np.ones((7, 51, 61))).astype("u1")


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = str(tmp_path / "lab.zarr")
    emstore.create_store(url)
    return url


def nifti(path: Path, values: np.ndarray[Any, Any], slope: float | None = None) -> Path:
    """Write an array in z, y, x order as NIfTI; 2 x 3 x 4 mm voxels."""
    image = nib.Nifti1Image(values.transpose(), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if slope is not None:
        raw = bytearray(path.read_bytes())
        raw[112:116] = np.float32(slope).tobytes()  # scl_slope (NIfTI-1, offset 112)
        path.write_bytes(raw)
    return path


def tiff(path: Path, values: np.ndarray[Any, Any]) -> Path:
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("write", [nifti, tiff])
def test_a_mask_becomes_a_version_of_labels(store: str, tmp_path: Path, write: Callable[..., Path], dtype: str) -> None:
    path = write(tmp_path / f"mask.{'nii' if write is nifti else 'tif'}", CELLS.astype(dtype))
    [made] = emstore.ingest([path], f"{store}/lab/cells", labels=True)
    version = made.version
    assert version.info.volume.kind == VolumeKind.LABELS
    image = version.xarray()["image"]
    np.testing.assert_array_equal(image.values, CELLS)
    assert image.dtype == (np.dtype(dtype) if dtype[0] != "f" else np.int32)
    root = json.loads((Path(store) / "lab/cells/v1/zarr.json").read_text())
    assert "image-label" in root["attributes"]["ome"]
    # A level made by mean would hold numbers that are no cell's.
    coarse = version.xarray(level=1)["image"].values
    assert set(np.unique(coarse)) <= set(np.unique(CELLS))
    if write is nifti:
        assert [float(np.diff(image[d].values[:2])[0]) for d in "zyx"] == [4.0, 3.0, 2.0]


def test_without_being_asked_a_plain_mask_stays_an_image(store: str, tmp_path: Path) -> None:
    path = tiff(tmp_path / "mask.tif", CELLS)
    [image] = emstore.ingest([path], f"{store}/lab/cells")
    [labels] = emstore.ingest([path], f"{store}/lab/cells", labels=True)
    [again] = emstore.ingest([path], f"{store}/lab/cells", labels=True)
    assert image.version.info.volume.kind == VolumeKind.IMAGE
    assert (labels.version.place.version, again.version.place.version, again.created) == (2, 2, False)
    assert labels.version.record.params["labels"] is True


def test_scaled_masks_become_what_the_scale_says(store: str, tmp_path: Path) -> None:
    path = nifti(tmp_path / "mask.nii", (CELLS > 100).astype("u1") * 255, slope=1 / 255)
    expected = np.asarray(nib.load(path).dataobj).transpose().round()
    assert set(np.unique(expected)) == {0, 1}
    [made] = emstore.ingest([path], f"{store}/lab/mask", labels=True)
    np.testing.assert_array_equal(made.version.xarray()["image"].values, expected)
    assert made.version.info.volume.scale is None


def test_values_that_are_no_labels_are_refused_by_name_and_nothing_is_sealed(store: str, tmp_path: Path) -> None:
    soft = CELLS.astype("f4")
    soft[7, 11, 13] = 0.25
    path = nifti(tmp_path / "soft.nii", soft)
    error = result("ingest", path, f"{store}/lab/soft", "--labels", code=2)
    assert "z 7, y 11, x 13 is 0.25" in error["what"]
    assert all(v.state is not State.SEALED for v in versions(open_store(store), Place()))


def test_the_command_line_takes_labels(store: str, tmp_path: Path) -> None:
    done = call("ingest", tiff(tmp_path / "mask.tif", CELLS), f"{store}/lab/cells", "--labels")
    assert done.returncode == 0, done.stderr
    assert emstore.open(f"{store}/lab/cells").info.volume.kind == VolumeKind.LABELS


def test_colours_and_complex_numbers_are_no_labels() -> None:
    names = ("red", "green", "blue")
    colour = volume("v", np.zeros((3, 4, 4), "u1"), Axis("c", 3, AxisKind.CHANNEL, labels=names), Axis("y", 4), Axis("x", 4))
    with pytest.raises(InvalidInput, match="colours"):
        as_labels(colour)
    with pytest.raises(InvalidInput, match="complex"):
        as_labels(volume("v", np.zeros((4, 4), "c8"), Axis("y", 4), Axis("x", 4)))


@settings(max_examples=60, deadline=None, database=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements=st.one_of(st.integers(-9, 9).map(float), st.sampled_from([0.5, 1e-3, np.nan, np.inf, 2.0**31, -(2.0**31)])),
    )
)
def test_whole_numbers_come_through_and_others_do_not(values: np.ndarray[Any, Any]) -> None:
    v = as_labels(volume("v", values, *(Axis(d, n) for d, n in zip("zyx"[-values.ndim :], values.shape, strict=True))))
    region = tuple(slice(0, n) for n in values.shape)
    numbers = values.ravel().tolist()
    if all(np.isfinite(x) and x == int(x) and -(2**31) <= x < 2**31 for x in numbers):
        assert v.data[region].ravel().tolist() == numbers
        assert (v.dtype, v.data[region].dtype) == (np.int32, np.int32)
    else:
        with pytest.raises(InvalidInput, match="not a whole number that a label can be"):
            _ = v.data[region]


def test_booleans_and_scales_of_one() -> None:
    mask = as_labels(volume("v", np.array([True, False]), Axis("x", 2)))
    assert (mask.dtype, mask.data[slice(0, 2),].tolist()) == (np.uint8, [1, 0])
    plain = as_labels(volume("v", np.array([3, 4], "u2"), Axis("x", 2), scale=ValueScale(1.0, 0.0)))
    assert (plain.dtype, plain.scale, plain.data[slice(0, 2),].tolist()) == (np.uint16, None, [3, 4])
