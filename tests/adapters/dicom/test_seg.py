"""DICOM segmentations: labels, fractions, geometry and codes, against the masks written and pydicom's own reading."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

import emstore
from emstore.errors import Kind, SourceUnreadable
from emstore.geometry import Space
from emstore.volume import Volume, VolumeKind

Open = Callable[..., Sequence[Volume]]
SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]

Frame = tuple[int, Sequence[float], np.ndarray[Any, Any]]
"""Segment number, ImagePositionPatient, pixels."""


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def group(**elements: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def write_seg(
    path: Path,
    frames: Sequence[Frame],
    *,
    kind: str = "BINARY",
    names: Mapping[int, str] | None = None,
    orientation: Sequence[float] = AXIAL,
    step: float | None = 2.5,
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> Path:
    """Write a segmentation as PS3.3 A.51 has it: orientation and spacing shared, position and segment for every frame."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = LABEL_MAP if kind == "LABELMAP" else SEGMENTATION
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3.4", "1.2.3", "1.2.9"
    ds.Modality, ds.SeriesNumber, ds.PatientName, ds.PatientID = "SEG", 300, "SECRET^NAME", "SECRET-ID"
    ds.SegmentationType = kind
    pixels = np.stack([one[2] for one in frames])
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8 * pixels.dtype.itemsize
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    numbers = sorted(names or {number for number, _, _ in frames})
    ds.SegmentSequence = []
    for number in numbers:
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, (names or {}).get(number, f"part {number}")
        segment.SegmentAlgorithmType = "MANUAL"
        segment.SegmentedPropertyCategoryCodeSequence = [code("123037004", "SCT", "Anatomical Structure")]
        segment.SegmentedPropertyTypeCodeSequence = [code("10200004", "SCT", "Liver")]
        ds.SegmentSequence.append(segment)
    measures = group(PixelSpacing=[0.5, 0.25], SliceThickness=2.0, **({} if step is None else {"SpacingBetweenSlices": step}))
    ds.SharedFunctionalGroupsSequence = group(
        PlaneOrientationSequence=group(ImageOrientationPatient=list(orientation)), PixelMeasuresSequence=measures
    )
    own = []
    for number, position, _ in frames:
        one = group(PlanePositionSequence=group(ImagePositionPatient=[float(f"{v:.8g}") for v in position]))[0]
        if kind != "LABELMAP":
            one.SegmentIdentificationSequence = group(ReferencedSegmentNumber=number)
        own.append(one)
    ds.PerFrameFunctionalGroupsSequence = own
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.PixelData = pack_bits(pixels.astype("u1")) if kind == "BINARY" else pixels.tobytes()
    ds["PixelData"].VR = "OB" if bits < 16 else "OW"
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def whole(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def boxes() -> tuple[np.ndarray[Any, Any], list[Frame]]:
    """Return labels on six slices, and their frames: segment 2 on slices 0 to 3, segment 5 on 3 and 5; none on 4; odd sizes."""
    labels = np.zeros((6, 7, 9), "u1")
    labels[0:4, 1:4, 2:5] = 2
    labels[3, 4:6, 3:8] = labels[5, 0:2, 0:3] = 5
    frames = [(n, (10.0, -20.0, 30 + 2.5 * z), labels[z] == n) for n in (2, 5) for z in range(6) if (labels[z] == n).any()]
    return labels, frames


def test_binary_segments_become_one_volume_of_labels(tmp_path: Path, open_dicom: Open) -> None:
    labels, frames = boxes()
    [volume] = open_dicom(write_seg(tmp_path / "a.dcm", frames, names={2: "liver", 5: "spleen", 9: "never drawn"}))
    assert (volume.name, volume.kind, volume.modality) == ("seg-s300", VolumeKind.LABELS, "seg")
    assert (volume.dtype, volume.scale, volume.window) == (np.uint8, None, None)
    np.testing.assert_array_equal(whole(volume), labels)
    np.testing.assert_array_equal(volume.data[slice(2, 6), slice(3, 6), slice(1, 8)], labels[2:6, 3:6, 1:8])
    assert volume.attributes["segmentation_type"] == "BINARY"
    assert [(s["number"], s["name"]) for s in volume.attributes["segments"]] == [(2, "liver"), (5, "spleen"), (9, "never drawn")]
    assert volume.attributes["segments"][0]["type"] == {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
    assert "1 slice in between without a frame: nothing is segmented there." in volume.notes
    assert "Segments without a frame: 9." in volume.notes
    assert "SECRET" not in repr(volume.attributes)


@settings(max_examples=25, deadline=None, database=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 11)),
    count=st.integers(1, 4),
    step=st.floats(0.3, 7),
    stated=st.booleans(),
    turn=st.floats(-3, 3),
    seed=st.integers(0, 1 << 32),
)
def test_any_frames_in_any_order_give_the_labels_in_place(
    tmp_path_factory: pytest.TempPathFactory,
    open_dicom: Open,
    shape: tuple[int, int, int],
    count: int,
    step: float,
    stated: bool,
    turn: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, shape).astype("u1")
    labels[0, 0, 0] = labels[-1, 0, 0] = 1  # both ends are there, so the grid is known
    orientation = [np.cos(turn), np.sin(turn), 0.0, 0.0, 0.0, 1.0]
    normal = np.cross(orientation[:3], orientation[3:])
    origin = np.array([3.0, -7.0, 11.0])
    frames = [
        (n, origin + step * z * normal, labels[z] == n)
        for n in range(1, count + 1)
        for z in range(shape[0])
        if (labels[z] == n).any()
    ]
    frames = [frames[i] for i in rng.permutation(len(frames))]
    path = tmp_path_factory.mktemp("seg") / "a.dcm"
    [volume] = open_dicom(write_seg(path, frames, orientation=orientation, step=step if stated else None))
    drawn = [z for z in range(shape[0]) if labels[z].any()]
    if stated or (len(drawn) > 1 and min(np.diff(drawn)) == 1):
        np.testing.assert_array_equal(whole(volume), labels)
        affine = volume.grid.affine
        assert affine is not None
        assert affine.space is Space.LPS
        # Where the voxel (z, y, x) is, in LPS millimetres (PS3.3 C.7.6.2.1.1).
        index = np.array([shape[0] - 1, shape[1] - 1, shape[2] - 1])
        place = origin + index[2] * 0.25 * np.array(orientation[:3]) + index[1] * 0.5 * np.array(orientation[3:])
        place = place + index[0] * step * normal
        np.testing.assert_allclose((affine.xyz @ [*index[::-1], 1])[:3], place, atol=1e-3)
    else:
        np.testing.assert_array_equal(whole(volume), labels[drawn])


def test_overlapping_segments_are_volumes_of_their_own(tmp_path: Path, open_dicom: Open) -> None:
    labels, frames = boxes()
    more = [*frames, (7, frames[0][1], np.ones((7, 9), bool))]
    volumes = open_dicom(write_seg(tmp_path / "a.dcm", more))
    assert [v.name for v in volumes] == ["seg-s300-segment2", "seg-s300-segment5", "seg-s300-segment7"]
    assert all(v.kind is VolumeKind.LABELS for v in volumes)
    np.testing.assert_array_equal(whole(volumes[0]), np.where(labels == 2, 2, 0))
    np.testing.assert_array_equal(whole(volumes[1]), np.where(labels == 5, 5, 0))
    assert (whole(volumes[2])[0] == 7).all()
    assert [[s["number"] for s in v.attributes["segments"]] for v in volumes] == [[2], [5], [7]]
    assert any("Segments 2 and 7 overlap" in note for note in volumes[0].notes)


def test_a_header_that_denies_an_overlap_is_found_out_when_read(tmp_path: Path, open_dicom: Open) -> None:
    _, frames = boxes()
    more = [*frames, (7, frames[0][1], np.ones((7, 9), bool))]
    [volume] = open_dicom(write_seg(tmp_path / "a.dcm", more, SegmentsOverlap="NO"))
    with pytest.raises(SourceUnreadable, match="overlap, though its header says they do not") as caught:
        whole(volume)
    assert caught.value.kind is Kind.SOURCE_INCONSISTENT


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_fractional_segments_are_images_with_a_scale(tmp_path: Path, open_dicom: Open, syntax: str) -> None:
    rng = np.random.default_rng(1)
    stored = {n: rng.integers(0, 201, (4, 6, 8)).astype("u1") for n in (1, 2)}
    frames = [(n, (0.0, 0.0, 2.5 * z), stored[n][z]) for n in (1, 2) for z in range(4)]
    rest = {"MaximumFractionalValue": 200, "SegmentationFractionalType": "PROBABILITY"}
    path = write_seg(tmp_path / "a.dcm", frames, kind="FRACTIONAL", syntax=syntax, **rest)
    volumes = open_dicom(path)
    assert [v.name for v in volumes] == ["seg-s300-segment1", "seg-s300-segment2"]
    for n, volume in zip((1, 2), volumes, strict=True):
        assert (volume.kind, volume.window) == (VolumeKind.IMAGE, (0.0, 200.0))
        assert volume.scale is not None
        assert (volume.scale.slope, volume.scale.unit) == (1 / 200, "probability")
        np.testing.assert_array_equal(whole(volume), stored[n])


def test_label_maps_are_labels_as_they_are(tmp_path: Path, open_dicom: Open) -> None:
    labels = np.random.default_rng(2).integers(0, 400, (5, 6, 8)).astype("<u2")
    frames = [(0, (0.0, 0.0, 2.5 * z), labels[z]) for z in (4, 0, 1, 3)]
    labels[2] = 0
    [volume] = open_dicom(write_seg(tmp_path / "a.dcm", frames, kind="LABELMAP", names={1: "a", 399: "b"}))
    assert (volume.kind, volume.dtype) == (VolumeKind.LABELS, np.uint16)
    np.testing.assert_array_equal(whole(volume), labels)


def test_slices_that_are_no_whole_steps_apart_keep_their_places(tmp_path: Path, open_dicom: Open) -> None:
    mask = np.ones((3, 4), bool)
    frames = [(1, (0.0, 0.0, z), mask) for z in (0.0, 1.0, 2.4, 5.1)]
    [volume] = open_dicom(write_seg(tmp_path / "a.dcm", frames, step=None))
    assert volume.grid.axes[0].positions == (0.0, 1.0, 2.4, 5.1)


def test_what_contradicts_itself_is_refused(tmp_path: Path, open_dicom: Open) -> None:
    _, frames = boxes()
    with pytest.raises(SourceUnreadable, match="two frames of segment 2 at one position"):
        open_dicom(write_seg(tmp_path / "a.dcm", [*frames, frames[0]]))
    ds = pydicom.dcmread(write_seg(tmp_path / "b.dcm", frames))
    del ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    ds.save_as(tmp_path / "b.dcm")
    with pytest.raises(SourceUnreadable, match="not placed in the patient"):
        open_dicom(tmp_path / "b.dcm")
    ds = pydicom.dcmread(write_seg(tmp_path / "c.dcm", frames))
    del ds.PerFrameFunctionalGroupsSequence[3].SegmentIdentificationSequence
    ds.save_as(tmp_path / "c.dcm")
    with pytest.raises(SourceUnreadable, match="does not state which segment"):
        open_dicom(tmp_path / "c.dcm")
    with pytest.raises(SourceUnreadable, match="BINARY in 8 bits"):
        open_dicom(
            write_seg(tmp_path / "d.dcm", [(1, (0, 0, 0), np.ones((3, 4), "u1"))], kind="FRACTIONAL", SegmentationType="BINARY")
        )


@pytest.mark.parametrize("name", ["liver_1frame.dcm", "liver_expb_1frame.dcm"])
def test_a_real_segmentation_has_the_values_that_pydicom_reads(open_dicom: Open, name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    [volume] = open_dicom(Path(path))
    np.testing.assert_array_equal(whole(volume)[0], pydicom.dcmread(path).pixel_array)
    assert volume.attributes["segments"][0]["name"] == "Liver"


def test_a_segmentation_is_sealed_as_labels(tmp_path: Path) -> None:
    labels, frames = boxes()
    emstore.create_store(str(tmp_path / "lab.zarr"))
    [made] = emstore.ingest([write_seg(tmp_path / "a.dcm", frames)], f"{tmp_path}/lab.zarr/lab/organs")
    assert made.version.info.volume.kind == VolumeKind.LABELS
    image = made.version.xarray()["image"]
    np.testing.assert_array_equal(image.values, labels)
    np.testing.assert_allclose(np.diff(image["z"].values), 2.5)
