"""Every voxel lies where dcm2niix puts it, or, where dcm2niix approximates, where ImagePositionPatient says."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
import pydicom
import pytest

from emstore.geometry import Space
from emstore.volume import Volume

Open = Callable[..., Sequence[Volume]]
TOLERANCE = 1e-3  # millimetres


def converted(folder: Path, out: Path) -> dict[str, Any]:
    """Run dcm2niix on a folder; return its images by series and echo number."""
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "%s_%e", "-o", str(out), str(folder)]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    return {path.stem: nibabel.load(path) for path in out.glob("*.nii")}


def check_against_nifti(volume: Volume, image: Any) -> None:
    """Take every corner and some inner voxels: the voxel dcm2niix has at the same place must hold the same value."""
    assert volume.grid.affine is not None
    affine = volume.grid.affine.to(Space.RAS)
    assert affine.unit == "millimeter"
    values = volume.data[tuple(slice(0, n) for n in volume.shape)]
    theirs = np.asarray(image.dataobj.get_unscaled())
    chance = np.random.default_rng(0)
    shape = np.asarray(volume.shape[-3:])
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in shape], indexing="ij"), -1).reshape(-1, 3)
    indices = np.concatenate([corners, chance.integers(0, shape, (500, 3))])
    world = affine.world(indices)[:, ::-1]
    there = np.linalg.inv(image.affine)
    ijk = world @ there[:3, :3].T + there[:3, 3]
    nearest = np.round(ijk).astype(int)
    back = nearest @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert np.abs(back - world).max() < TOLERANCE
    assert sorted(theirs.shape[:3]) == sorted(shape)
    for time in range(theirs.shape[3] if theirs.ndim == 4 else 1):
        their_time = theirs[..., time] if theirs.ndim == 4 else theirs
        our_time = values[time] if values.ndim == 4 else values
        np.testing.assert_array_equal(our_time[tuple(indices.T)], their_time[tuple(nearest.T)])


@pytest.mark.parametrize(
    ("folder", "pairs"),
    [
        ("ct/vhf_pelvis_regular", {"ct-s001": "1_0"}),
        ("ct/ct_ts_matrix", {"ct-s002": "2_0"}),
        ("mr_dicom/multiecho", {"mr-s003-te40": "3_2", "mr-s003-te60": "3_3"}),
        ("mr_dicom/siemens_mosaic", {"mr-s003": "3_1", "mr-s004": "4_1"}),
        ("mr_dicom/enhanced", {"mr-s005": "5_1", "mr-s301": "301_1"}),
    ],
)
def test_affine_and_values_equal_dcm2niix(
    instrument_file: Callable[[str], Path], open_dicom: Open, tmp_path: Path, folder: str, pairs: dict[str, str]
) -> None:
    source = instrument_file(folder)
    images = converted(source, tmp_path)
    volumes = {volume.name: volume for volume in open_dicom(source)}
    for name, stem in pairs.items():
        check_against_nifti(volumes[name], images[stem])


def slice_world(volume: Volume, index: int) -> np.ndarray[Any, Any]:
    """Return the world position (x, y, z) of a slice's first voxel by the grid's own rule for irregular z."""
    assert volume.grid.affine is not None
    axis = volume.grid.axis("z")
    step = axis.median_step()
    assert step is not None
    at = axis.coordinates()
    return volume.grid.affine.world([(at[index] - at[0]) / step, 0.0, 0.0])[::-1]


def test_no_name_of_a_file_is_kept_in_names_and_notes(
    instrument_file: Callable[[str], Path], open_dicom: Open, tmp_path: Path
) -> None:
    """Scanners' exports call folders and files by the patient."""
    folder = tmp_path / "SMITH^JANE"
    folder.mkdir()
    for index, path in enumerate(sorted(instrument_file("ct/ge_missing_slice").iterdir())):
        shutil.copy(path, folder / f"Smith-Jane-{index}.dcm")
    [volume] = open_dicom(folder)
    assert "Gap of 10 mm between slices" in " ".join(volume.notes)
    kept = " ".join([volume.name, *volume.notes, json.dumps([volume.attributes, volume.header.terms])]).lower()
    assert "smith" not in kept
    assert "jane" not in kept


@pytest.mark.parametrize(
    ("folder", "name", "word"),
    [
        ("ct/vhf_pelvis_regular", "ct-s001", "sorted by position"),
        ("ct/ge_tilt_irregular", "ct-s002", "18.50 degrees"),
        ("ct/siemens_gantry_tilt", "ct-s004", "14.00 degrees"),
        ("ct/ge_missing_slice", "ct-s002", "1 slice may be missing"),
        ("mr_dicom/multiecho", "mr-s003-te20", "1 slice may be missing"),
    ],
)
def test_every_slice_lies_where_its_header_says(
    instrument_file: Callable[[str], Path], open_dicom: Open, folder: str, name: str, word: str
) -> None:
    [volume] = [volume for volume in open_dicom(instrument_file(folder)) if volume.name == name]
    assert volume.grid.affine is not None
    assert volume.grid.affine.space is Space.LPS
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in volume.files]
    normal = np.cross(*np.reshape([float(v) for v in headers[0].ImageOrientationPatient], (2, 3)))
    depths = [float(normal @ np.asarray(h.ImagePositionPatient, float)) for h in headers]
    assert depths == sorted(depths)
    for index, header in enumerate(headers):
        np.testing.assert_allclose(slice_world(volume, index), np.asarray(header.ImagePositionPatient, float), atol=TOLERANCE)
        pixels = volume.data[index : index + 1, 0 : volume.shape[1], 0 : volume.shape[2]]
        np.testing.assert_array_equal(pixels[0], pydicom.dcmread(volume.files[index]).pixel_array)
    row, column = np.reshape([float(v) for v in headers[0].ImageOrientationPatient], (2, 3))
    down, across = (float(v) for v in headers[0].PixelSpacing)
    xyz = volume.grid.affine.xyz
    np.testing.assert_allclose(xyz[:3, 0], row * across, atol=1e-6)
    np.testing.assert_allclose(xyz[:3, 1], column * down, atol=1e-6)
    assert any(word in note for note in volume.notes)


def test_gap_names_the_slices_on_both_sides(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    [volume] = open_dicom(instrument_file("ct/ge_missing_slice"))
    [gap] = [note for note in volume.notes if note.startswith("Gap")]
    # By number along z: file names may hold the patient's.
    at = [float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2]) for file in volume.files]
    before = int(np.argmax(np.abs(np.diff(at)))) + 1
    assert f"10 mm between slices {before} and {before + 1} of {len(at)}" in gap


def test_mosaic_volumes_have_times(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    volume = open_dicom(instrument_file("mr_dicom/siemens_mosaic"))[0]
    header = pydicom.dcmread(volume.files[0], stop_before_pixels=True)
    assert volume.grid.dims == ("t", "z", "y", "x")
    assert volume.grid.axis("t").spacing == pytest.approx(float(header.RepetitionTime))
    assert volume.grid.axis("t").unit == "millisecond"


def test_enhanced_without_places_says_so(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    [volume] = open_dicom(instrument_file("mr_dicom/emri_small/emri_small.dcm"))
    assert volume.grid.affine is None
    assert volume.grid.dims == ("z", "y", "x")
    assert volume.grid.axis("z").spacing == pytest.approx(1.2)
    assert volume.grid.axis("x").spacing is None
    assert any("does not place the frames" in note for note in volume.notes)
