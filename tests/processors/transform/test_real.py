"""On real scans: nibabel finds the same value at every place of a changed grid; a rebuilt slice is close to the measured one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from scipy import ndimage

import emstore
from emstore import registry
from emstore.store import open_version
from emstore.volume import Volume
from in_blocks import axes_of, evaluate, over, planned, run, told


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Volume:
    """Return a head tilted in its scanner: the one of nibabel's documentation, ingested."""
    path = data_dir / "mri_nifti" / "someones_anatomy.nii.gz"
    if not path.exists():
        pytest.skip(f"instrument file {path.name} is not there")
    store = tmp_path_factory.mktemp("real") / "lab.zarr"
    emstore.create_store(str(store))
    emstore.ingest([path], f"{store}/head/raw")
    return open_version(f"{store}/head/raw").volume()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("transform.crop", {"index": {"z": [5, 40], "y": [7, 50], "x": [3, None]}}),
        ("interpolate.linear", {"factor": 3}),
        ("interpolate.linear", {"factor": 2, "axis": "x"}),
        ("transform.resample", {"spacing": {"z": 1.9, "y": 2.2, "x": 1.3}, "method": "linear"}),
    ],
)
def test_nibabel_finds_the_same_where_the_new_grid_says(head: Volume, name: str, params: dict[str, Any]) -> None:
    operation = planned(registry.processor(name), head, **params)
    assert operation.result is not None
    grid = operation.result.grid
    assert grid.affine is not None
    assert head.grid.affine is not None
    values = np.asarray(head.data[tuple(slice(0, n) for n in head.shape)])
    source = nib.Nifti1Image(values.astype(np.float64).T, head.grid.affine.to("RAS").xyz)  # type: ignore[arg-type]
    theirs = nib.processing.resample_from_to(source, (grid.shape[::-1], grid.affine.to("RAS").xyz), order=1, mode="nearest")  # type: ignore[arg-type]
    got = evaluate(operation, [head], block=(16, 16, 16))
    assert isinstance(got, np.ndarray)
    difference = np.abs(got - np.asarray(theirs.dataobj).T)
    assert difference.max() <= (0.5 if values.dtype.kind in "iu" else 0) + 1e-3 * float(np.abs(values).max())
    assert difference.mean() <= 0.3  # rounding of whole numbers


def test_slices_left_out_of_a_fib_sem_stack_are_rebuilt(instrument_file: Callable[[str], Path]) -> None:
    with h5py.File(instrument_file("fibsem/train-image.h5")) as file:
        stack = file["stack"][:21]
    kept = over(stack[::2].copy(), *axes_of("zyx", stack[::2].shape, z=20.0, y=10.0, x=10.0))
    error = {}
    for method in ("nearest", "linear", "cubic"):
        rebuilt = run(registry.processor(f"interpolate.{method}"), kept, factor=2)
        np.testing.assert_array_equal(rebuilt[::2], stack[::2])
        error[method] = float(np.mean((rebuilt[1::2].astype(float) - stack[1::2]) ** 2))
    assert error["linear"] < 0.9 * error["nearest"]
    assert error["cubic"] < 0.9 * error["nearest"]


def test_shaken_fib_sem_slices_are_put_back(instrument_file: Callable[[str], Path]) -> None:
    with h5py.File(instrument_file("fibsem/train-image.h5")) as file:
        stack = file["stack"][:6]
    shifts = [(0, 0), (3, -2), (-4, 5), (1, 7), (-6, -1), (2, 2)]
    before = told(planned(registry.processor("register.slices"), over(stack), normalization="none"), over(stack))
    shaken = np.stack([ndimage.shift(a, s, order=0, mode="mirror") for a, s in zip(stack, shifts, strict=True)])
    after = told(planned(registry.processor("register.slices"), over(shaken), normalization="none"), over(shaken))
    moved = np.array(after["shifts"]["values"]) - np.array(before["shifts"]["values"])
    np.testing.assert_allclose(moved, -np.array(shifts, float), atol=1)
