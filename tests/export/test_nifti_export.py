"""NIfTI as nibabel reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.export import export
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.source import Source
from emstore.volume import ValueScale, VolumeKind
from emstore_adapters.nifti import NiftiAdapter
from export_volumes import axes, numbers, volume

RAW_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"]
ALONG = {"x": 0, "y": 1, "z": 2, "t": 3, "n": 3, "c": 4}


def load(path: Path) -> Any:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image | nib.Nifti2Image)
    return image


def in_file_order(values: np.ndarray[Any, Any], dims: str) -> np.ndarray[Any, Any]:
    """Return the values as NIfTI keeps them: x, y, z, t, c, without the trailing axes that are not there."""
    names = dims.split()
    last = max(ALONG[name] for name in names)
    spread = values.transpose(sorted(range(len(names)), key=lambda i: ALONG[names[i]]))
    sizes = {ALONG[name]: size for name, size in zip(names, values.shape, strict=True)}
    return spread.reshape([sizes.get(i, 1) for i in range(last + 1)])


@pytest.mark.parametrize("dims", ["y x", "z y x", "t z y x", "t y x", "c y x", "c z y x", "t c z y x", "n y x"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_axis_goes_to_its_place(tmp_path: Path, dims: str, suffix: str) -> None:
    values = numbers((2, 3, 4, 5, 6)[-len(dims.split()) :], "i2")
    export(volume(values, dims), tmp_path / f"a{suffix}")
    assert np.array_equal(load(tmp_path / f"a{suffix}").dataobj.get_unscaled(), in_file_order(values, dims))


@pytest.mark.parametrize("kind", RAW_TYPES)
def test_every_type_is_kept(tmp_path: Path, kind: str) -> None:
    values = numbers((3, 4, 5), kind)
    assert not any("kept exactly" in note for note in export(volume(values, "z y x"), tmp_path / "a.nii"))
    found = load(tmp_path / "a.nii").dataobj.get_unscaled()
    assert found.dtype == np.dtype(kind)
    assert np.array_equal(found, values.T)


@pytest.mark.parametrize(("kind", "wider"), [("?", "u1"), ("f2", "f4")])
def test_other_types_are_widened_exactly_and_said(tmp_path: Path, kind: str, wider: str) -> None:
    values = numbers((3, 4, 5), kind)
    notes = export(volume(values, "z y x"), tmp_path / "a.nii")
    found = load(tmp_path / "a.nii").dataobj.get_unscaled()
    assert found.dtype == np.dtype(wider)
    assert np.array_equal(found, values.T)
    assert any(f"kept exactly as {np.dtype(wider).name}" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "dims"), [(numbers((2, 3), "c16").astype(np.clongdouble), "y x"), (numbers((2, 3, 4), "i2"), "energy y x")]
)
def test_what_nifti_cannot_hold_is_refused(tmp_path: Path, values: np.ndarray[Any, Any], dims: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.h5"):
        export(volume(values, dims), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def rotation(angles: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    made = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        made = made @ turn
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    sizes=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    flips=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3),
    space=st.sampled_from([Space.RAS, Space.LPS]),
    unit=st.sampled_from([("millimeter", 1.0), ("micrometer", 1e-3), ("meter", 1e3)]),
    shear=st.sampled_from([0.0, 0.3]),
)
def test_any_affine_reads_back(
    tmp_path: Path,
    angles: tuple[float, float, float],
    sizes: tuple[float, float, float],
    origin: tuple[float, float, float],
    flips: tuple[float, float, float],
    space: Space,
    unit: tuple[str, float],
    shear: float,
) -> None:
    xyz = np.eye(4)
    tilt = np.eye(3)
    tilt[1, 2] = shear
    xyz[:3, :3] = rotation(angles) @ tilt @ np.diag(np.multiply(sizes, flips))
    xyz[:3, 3] = origin
    # The same place in the patient, whichever way the two worlds point: x and y change sign between RAS and LPS.
    ras = (np.diag([-1.0, -1.0, 1.0, 1.0]) if space is Space.LPS else np.eye(4)) @ xyz
    name, factor = unit
    values = numbers((2, 3, 4), "i2")
    grid = Grid(axes("z y x", values.shape), Affine.from_xyz(np.diag([1 / factor] * 3 + [1]) @ xyz, space, name))
    export(volume(values, grid), tmp_path / "a.nii", force=True)
    image = load(tmp_path / "a.nii")
    assert np.allclose(image.affine, ras, rtol=1e-6, atol=1e-4)
    assert np.allclose(image.affine, ras, rtol=1e-6, atol=1e-6 * np.abs(ras).max())
    assert image.header.get_xyzt_units()[0] == "mm"
    assert np.allclose(image.header.get_zooms(), np.linalg.norm(ras[:3, :3], axis=0), rtol=1e-5)
    if not shear:
        assert np.allclose(image.header.get_qform(coded=True)[0], ras, rtol=1e-4, atol=2e-3)


def test_spacing_alone_becomes_a_diagonal(tmp_path: Path) -> None:
    values = numbers((3, 2, 3, 4), "i2")
    grid = Grid(
        (
            Axis("t", 3, AxisKind.TIME, spacing=250.0, unit="millisecond"),
            Axis("z", 2, spacing=3.0, unit="micrometer", origin=6.0),
            Axis("y", 3, spacing=2.0, unit="micrometer"),
            Axis("x", 4, spacing=500.0, unit="nanometer"),
        )
    )
    notes = export(volume(values, grid), tmp_path / "a.nii")
    image = load(tmp_path / "a.nii")
    expected = np.diag([5e-4, 2e-3, 3e-3, 1.0])
    expected[2, 3] = 6e-3
    assert np.allclose(image.affine, expected, rtol=1e-6)
    assert image.header.get_zooms()[3] == pytest.approx(0.25)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert any("orientation is not known" in note for note in notes)


def test_unknown_spacing_is_said_and_has_no_unit(tmp_path: Path) -> None:
    notes = export(volume(numbers((2, 3, 4), "i2"), "z y x"), tmp_path / "a.nii")
    header = load(tmp_path / "a.nii").header
    assert header.get_xyzt_units()[0] == "unknown"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert any("voxel size is not known" in note for note in notes)


def test_irregular_slices_are_said(tmp_path: Path) -> None:
    grid = Grid(
        (
            Axis("z", 3, positions=(0.0, 1.0, 2.5), unit="millimeter"),
            Axis("y", 2, spacing=1.0, unit="millimeter"),
            Axis("x", 2, spacing=1.0, unit="millimeter"),
        )
    )
    assert any("irregular slice positions" in note for note in export(volume(numbers((3, 2, 2), "i2"), grid), tmp_path / "a.nii"))


def test_stage_coordinates_are_said(tmp_path: Path) -> None:
    grid = Grid(axes("z y x", (2, 3, 4)), Affine.of(np.diag([3.0, 2.0, 1.0, 1.0]), Space.INSTRUMENT, "micrometer"))
    notes = export(volume(numbers((2, 3, 4), "i2"), grid), tmp_path / "a.nii")
    assert any("nothing about anatomy" in note for note in notes)
    assert np.allclose(load(tmp_path / "a.nii").affine, np.diag([1e-3, 2e-3, 3e-3, 1.0]))


@pytest.mark.parametrize(("slope", "intercept", "rounded"), [(2.0, -1024.0, False), (0.1, 0.0, True), (-1.0, 4.5, False)])
def test_the_value_scale_is_kept(tmp_path: Path, slope: float, intercept: float, rounded: bool) -> None:
    values = numbers((2, 3, 4), "i2")
    data = volume(values, "z y x", scale=ValueScale(slope, intercept, "HU"), window=(-100.0, 300.0))
    notes = export(data, tmp_path / "a.nii")
    image = load(tmp_path / "a.nii")
    assert np.array_equal(image.dataobj.get_unscaled(), values.T)
    assert np.allclose(image.get_fdata(), values.T * slope + intercept, rtol=1e-6)
    assert any("rounded" in note for note in notes) == rounded
    low, high = sorted((slope * -100 + intercept, slope * 300 + intercept))
    assert (float(image.header["cal_min"]), float(image.header["cal_max"])) == (pytest.approx(low), pytest.approx(high))


def test_labels_are_marked(tmp_path: Path) -> None:
    export(volume(numbers((2, 3, 4), "u1"), "z y x", kind=VolumeKind.LABELS), tmp_path / "a.nii")
    assert load(tmp_path / "a.nii").header.get_intent()[0] == "label"


def test_long_sides_make_nifti_2(tmp_path: Path) -> None:
    values = numbers((1, 1, 40_000), "u1")
    notes = export(volume(values, "z y x"), tmp_path / "a.nii")
    image = load(tmp_path / "a.nii")
    assert isinstance(image, nib.Nifti2Image)
    assert np.array_equal(image.dataobj.get_unscaled(), values.T)
    assert any("NIfTI-2" in note for note in notes)


def test_gzip_is_the_same_every_time(tmp_path: Path) -> None:
    data = volume(numbers((2, 3, 4), "i2"), "z y x")
    export(data, tmp_path / "a.nii.gz")
    export(data, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("codes", [(1, 1), (4, 2), (0, 1), (3, 0)])
def test_both_forms_of_a_nifti_come_back(tmp_path: Path, codes: tuple[int, int]) -> None:
    sform = np.array([[-2.0, 0.1, 0, 90], [0, 2.1, 0.2, -80], [0, 0, 3.0, -70], [0, 0, 0, 1]])
    qform = np.diag([-2.0, 2.0, 3.0, 1.0])
    qform[:3, 3] = 90, -80, -70
    image = nib.Nifti1Image(numbers((4, 3, 2), "i2"), sform)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    nib.save(image, tmp_path / "in.nii")
    [read] = NiftiAdapter().open(Source.of([tmp_path / "in.nii"]))
    export(read, tmp_path / "out.nii")
    before, after = load(tmp_path / "in.nii"), load(tmp_path / "out.nii")
    assert np.allclose(before.affine, after.affine, atol=1e-5)
    for form in ("get_sform", "get_qform"):
        (one, code), (two, same) = (getattr(i.header, form)(coded=True) for i in (before, after))
        assert code == same
        assert (one is None) == (two is None)
        assert one is None or np.allclose(one, two, atol=1e-5)
    assert np.array_equal(before.dataobj.get_unscaled(), after.dataobj.get_unscaled())


@pytest.mark.parametrize("name", ["anatomical.nii", "functional.nii", "example4d.nii.gz", "27_asl_2d_tra.nii"])
def test_real_files_come_back(tmp_path: Path, instrument_file: Callable[[str], Path], name: str) -> None:
    path = instrument_file(f"mri_nifti/{name}")
    [read] = NiftiAdapter().open(Source.of([path]))
    export(read, tmp_path / "out.nii.gz")
    before, after = load(path), load(tmp_path / "out.nii.gz")
    assert np.allclose(before.affine, after.affine, rtol=1e-6, atol=1e-4)
    assert before.shape == after.shape
    assert np.array_equal(before.dataobj.get_unscaled(), after.dataobj.get_unscaled())
    assert np.allclose(before.header.get_zooms(), after.header.get_zooms(), rtol=1e-5)
    assert np.allclose(before.dataobj.slope, after.dataobj.slope)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.sampled_from(RAW_TYPES), st.sampled_from([".nii", ".nii.gz"]))
def test_any_shape_and_type(tmp_path: Path, shape: list[int], kind: str, suffix: str) -> None:
    dims = " ".join(("t", "z", "y", "x")[-len(shape) :])
    values = numbers(shape, kind)
    export(volume(values, dims), tmp_path / f"a{suffix}", force=True)
    assert np.array_equal(load(tmp_path / f"a{suffix}").dataobj.get_unscaled(), in_file_order(values, dims))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((1.2, None, None), "not known along y, x (only z 1.2 mm);"),
        ((1.2, 0.5, None), "not known along x (only z 1.2 mm, y 0.5 mm);"),
        ((None, None, None), "not known;"),
    ],
)
def test_which_sizes_are_unknown_is_said(tmp_path: Path, steps: tuple[float | None, ...], said: str) -> None:
    grid = Grid(
        tuple(
            Axis(name, n, spacing=step, unit=None if step is None else "millimeter")
            for name, n, step in zip("zyx", (3, 4, 5), steps, strict=True)
        )
    )
    [note] = [note for note in export(volume(numbers((3, 4, 5), "i2"), grid), tmp_path / "a.nii") if "voxel size" in note]
    assert said in note
    assert load(tmp_path / "a.nii").header.get_xyzt_units()[0] == "unknown"
