"""How files become volumes: series found in mixed folders, sorting, splitting, repeats, and what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from emstore.errors import Kind, SourceUnreadable
from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.dicom import DicomAdapter

Open = Callable[..., Sequence[Volume]]
Write = Callable[..., Any]
UP = [(0, 0, 3 * k) for k in range(5)]


def whole(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def test_sorted_along_the_normal_whatever_names_and_numbers_say(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    pixels = write_slices(tmp_path, UP, InstanceNumber=(5, 1, 4, 2, 3))
    [volume] = open_dicom(tmp_path)
    assert volume.name == "ct-s007"
    assert volume.grid.dims == ("z", "y", "x")
    assert [axis.spacing for axis in volume.grid.axes] == [3.0, 0.5, 0.25]
    np.testing.assert_array_equal(whole(volume), np.stack(pixels))


@settings(max_examples=15, deadline=None, database=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.01, 20),
    spacing=st.tuples(st.floats(0.01, 5), st.floats(0.01, 5)),
    order=st.permutations(range(4)),
    shear=st.floats(-0.3, 0.3),
)
def test_any_orientation_keeps_every_position(
    tmp_path_factory: pytest.TempPathFactory,
    write_dicom: Write,
    open_dicom: Open,
    angles: Any,
    step: float,
    spacing: Any,
    order: Any,
    shear: float,
) -> None:
    (a, b, c), s = angles, np.sin
    turn = np.eye(3)
    for angle, (i, j) in ((a, (0, 1)), (b, (0, 2)), (c, (1, 2))):
        part = np.eye(3)
        part[[i, j], [i, j]] = np.cos(angle)
        part[i, j], part[j, i] = -s(angle), s(angle)
        turn = turn @ part
    row, column, normal = turn.T
    origins = [10 * column + k * step * (normal + shear * column) for k in range(4)]
    folder = tmp_path_factory.mktemp("turned")
    for place, k in enumerate(order):
        write_dicom(
            folder / f"{place}.dcm",
            np.full((3, 4), k, "<u2"),
            ImageOrientationPatient=[f"{v:.10f}" for v in (*row, *column)],
            ImagePositionPatient=[f"{v:.9f}" for v in origins[k]],
            PixelSpacing=[f"{v:.9f}" for v in spacing],
        )
    [volume] = open_dicom(folder)
    assert [int(plane[0, 0]) for plane in whole(volume)] == [0, 1, 2, 3]
    assert volume.grid.affine is not None
    for k in range(4):
        expected = origins[k] + 3 * row * spacing[1] + 2 * column * spacing[0]
        np.testing.assert_allclose(volume.grid.affine.world([k, 2, 3])[::-1], expected, atol=1e-3)


def test_mixed_folder_gives_each_series_once(tmp_path: Path, write_slices: Write, write_dicom: Write, open_dicom: Open) -> None:
    write_slices(tmp_path / "a", UP, SeriesInstanceUID="1.1", SeriesNumber=2)
    write_slices(tmp_path / "b", UP[:3], SeriesInstanceUID="1.2", SeriesNumber=3, Modality="MR")
    write_dicom(tmp_path / "c/still", np.ones((4, 4), "u1"), SeriesInstanceUID="1.3", SeriesNumber=1, ImagePositionPatient=None)
    write_dicom(tmp_path / "d" / "other.IMA", np.ones((4, 4), "<i2"), SeriesInstanceUID="1.4", SeriesNumber=3, Modality="MR")
    volumes = {v.name: v for v in open_dicom(tmp_path)}
    assert {name: v.shape for name, v in volumes.items()} == {
        "ct-s001": (4, 4),
        "ct-s002": (5, 6, 5),
        "mr-s003": (3, 6, 5),
        "mr-s003-2": (1, 4, 4),
    }


def test_one_series_is_split_by_echo_orientation_and_size(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path / "a", UP, EchoTime=10.0)
    write_slices(tmp_path / "b", UP, EchoTime=20.0)
    write_slices(tmp_path / "c", [(k, 0, 0) for k in range(3)], EchoTime=10.0, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    volumes = {v.name: v for v in open_dicom(tmp_path)}
    assert set(volumes) == {"ct-s007-te10-axial", "ct-s007-te20-axial", "ct-s007-te10-sagittal"}
    assert all(any("told apart by" in note for note in v.notes) for v in volumes.values())


def test_same_object_twice_is_named_and_read_once(tmp_path: Path, write_slices: Write) -> None:
    write_slices(tmp_path, UP)
    copy = tmp_path / "zz" / "copy of first.dcm"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "sub0/00.dcm").read_bytes())
    source = Source.of([tmp_path])
    [volume] = DicomAdapter().open(source)
    assert volume.shape == (5, 6, 5)
    [ignored] = source.ignored
    assert ignored.name == "zz/copy of first.dcm"
    assert "sub0/00.dcm" in ignored.reason


def test_two_slices_at_one_position_are_refused_by_name(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, [*UP, UP[2]])
    with pytest.raises(SourceUnreadable, match="same position") as caught:
        open_dicom(tmp_path)
    assert caught.value.kind == Kind.SOURCE_INCONSISTENT
    assert {caught.value.where, caught.value.what.split("as ")[1].split(" and")[0]} == {"sub0/14.dcm", "sub1/04.dcm"}
    [volume] = open_dicom(tmp_path, allow_partial=True)
    assert volume.shape == (5, 6, 5)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("TemporalPositionIdentifier", (2, 1)), ("AcquisitionNumber", (9, 3)), ("TriggerTime", (700.0, 0.0))],
)
def test_repeats_become_a_time_axis(tmp_path: Path, write_slices: Write, open_dicom: Open, keyword: str, values: Any) -> None:
    later = write_slices(tmp_path / "a", UP, **{keyword: values[0]}, AcquisitionTime="120010.5")
    earlier = write_slices(tmp_path / "b", UP, **{keyword: values[1]}, AcquisitionTime="120000")
    [volume] = open_dicom(tmp_path)
    assert volume.grid.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(whole(volume), np.stack([np.stack(earlier), np.stack(later)]))
    assert volume.grid.axis("t").spacing == pytest.approx(700.0 if keyword == "TriggerTime" else 10500.0)
    assert volume.grid.axis("t").unit == "millisecond"
    assert any(keyword in note for note in volume.notes)


def test_an_unfinished_last_repeat_is_kept_apart(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    for time in range(3):
        write_slices(tmp_path / str(time), UP[: 5 if time < 2 else 3], TemporalPositionIdentifier=time + 1)
    volumes = open_dicom(tmp_path)
    assert sorted(v.shape for v in volumes) == [(2, 5, 6, 5), (3, 6, 5)]
    assert any("3 of 5 slices" in note for v in volumes for note in v.notes)


def test_magnitude_and_phase_are_different_volumes(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path / "m", UP, ImageType=["ORIGINAL", "PRIMARY", "M"])
    write_slices(tmp_path / "p", UP, ImageType=["ORIGINAL", "PRIMARY", "P"])
    assert [v.shape for v in open_dicom(tmp_path)] == [(5, 6, 5), (5, 6, 5)]


def test_parallel_stacks_are_different_volumes(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, UP + [(40, 0, 3 * k) for k in range(5)])
    volumes = open_dicom(tmp_path)
    assert [v.shape for v in volumes] == [(5, 6, 5), (5, 6, 5)]
    assert all(any("parallel stacks" in note for note in v.notes) for v in volumes)


def test_a_slice_off_the_line_is_refused_by_name(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, [(k * k, 0, 3 * k) for k in range(5)])
    with pytest.raises(SourceUnreadable, match="off the line") as caught:
        open_dicom(tmp_path)
    assert caught.value.kind == Kind.SOURCE_INCONSISTENT
    assert str(caught.value.where).endswith(".dcm")


def test_scale_and_window(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, UP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=40.5, WindowWidth=401)
    [volume] = open_dicom(tmp_path)
    assert volume.scale is not None
    assert (volume.scale.slope, volume.scale.intercept, volume.scale.unit) == (2.0, -1000.0, "HU")
    assert volume.window == ((-160 + 1000) / 2, (240 + 1000) / 2)


def test_scales_that_differ_between_slices_are_all_kept(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    slopes = (1.5, 2.5, 3.5, 4.5, 5.5)
    write_slices(tmp_path, UP[::-1], RescaleSlope=slopes, RescaleIntercept=0, Modality="PT", Units="BQML")
    [volume] = open_dicom(tmp_path)
    assert volume.scale is None
    assert volume.attributes["rescale_per_slice"]["slope"] == list(slopes[::-1])
    assert volume.attributes["rescale_per_slice"]["unit"] == "BQML"
    assert any("differ between slices" in note for note in volume.notes)


def test_header_tree_raw_and_varying_values(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, UP, InstanceNumber=(5, 1, 4, 2, 3), KVP=120, ConvolutionKernel="B30")
    [volume] = open_dicom(tmp_path)
    tree = volume.header.tree
    assert tree["SeriesNumber"] == 7
    assert tree["ImagePositionPatient"] == [0.0, 0.0, 0.0]
    assert tree["PerFile"]["InstanceNumber"] == [5, 1, 4, 2, 3]
    assert tree["PerFile"]["ImagePositionPatient"] == [list(map(float, p)) for p in UP]
    assert "PixelData" not in tree
    assert volume.header.terms["instrument/source/voltage"] == {"value": 120.0, "unit": "kilovolt"}
    json.dumps(tree, allow_nan=False)
    assert len(volume.header.raw) == 5
    for raw, path in zip(volume.header.raw, volume.files, strict=True):
        content = path.read_bytes()
        assert raw.read() == content[: content.rindex(b"\xe0\x7f\x10\x00OW")]


def test_identity_stays_in_the_header(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, UP, SeriesDescription="SECRET text", PatientBirthDate="19700101", StudyInstanceUID="1.2.99")
    [volume] = open_dicom(tmp_path)
    shown = json.dumps([volume.name, volume.notes, volume.attributes, volume.header.terms])
    assert "SECRET" not in shown
    assert "1.2.99" not in shown
    assert "19700101" not in shown
    assert volume.header.tree["PatientName"] == "SECRET^NAME"


def test_files_without_an_image_are_ignored_by_name(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    write_slices(tmp_path, UP)
    report = pydicom.dcmread(tmp_path / "sub0/00.dcm")
    del report.PixelData, report.Rows, report.Columns, report.BitsAllocated
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(tmp_path / "report.dcm")
    source = Source.of([tmp_path])
    [volume] = DicomAdapter().open(source)
    assert volume.shape == (5, 6, 5)
    assert [(i.name, i.reason) for i in source.ignored] == [("report.dcm", "a structured report")]
    with pytest.raises(SourceUnreadable, match="holds no image: a structured report"):
        open_dicom(tmp_path / "report.dcm")


def enhanced(write: Write, path: Path, **options: Any) -> np.ndarray[Any, Any]:
    """Write an enhanced MR file of 2 times x 3 positions, frames shuffled; return the pixels as (t, z, y, x)."""
    order = [(1, 2), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)]
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 4, 5)).astype("<u2")
    frames = []
    for time, place in order:
        frame, content, position = Dataset(), Dataset(), Dataset()
        content.TemporalPositionIndex = time + 1
        content.StackID = "1"
        content.FrameAcquisitionDateTime = f"2020010112000{time}.25"
        position.ImagePositionPatient = [0, 0, 2.5 * place]
        frame.FrameContentSequence = Items([content])
        frame.PlanePositionSequence = Items([position])
        frames.append(frame)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.25]
    measures.SliceThickness = 2
    shared.PlaneOrientationSequence = Items([orientation])
    shared.PixelMeasuresSequence = Items([measures])
    elements = {"Modality": "MR", "ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    elements |= {"SharedFunctionalGroupsSequence": Items([shared]), "PerFrameFunctionalGroupsSequence": Items(frames)}
    write(path, pixels, **(elements | options))
    sorted_frames = [order.index((t, z)) for t in range(2) for z in range(3)]
    return pixels[sorted_frames].reshape(2, 3, 4, 5)


def test_enhanced_frames_are_sorted_by_position_and_time(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    expected = enhanced(write_dicom, tmp_path / "e.dcm")
    [volume] = open_dicom(tmp_path / "e.dcm")
    assert volume.grid.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(whole(volume), expected)
    assert volume.grid.axis("z").spacing == pytest.approx(2.5)
    assert volume.grid.axis("t").spacing == pytest.approx(1000.0)
    assert volume.attributes["frame_numbers"] == [2, 5, 4, 3, 6, 1]


def test_mosaic_without_its_private_header_says_so(
    instrument_file: Callable[[str], Path], tmp_path: Path, open_dicom: Open
) -> None:
    path = tmp_path / "anonymous.dcm"
    header = pydicom.dcmread(instrument_file("mr_dicom/siemens_mosaic/epi_pe_ap-00001.dcm"))
    header.remove_private_tags()
    header.save_as(path)
    [volume] = open_dicom(path)
    assert volume.shape == (216, 216)
    assert volume.grid.affine is None
    assert any("private header" in note for note in volume.notes)


def test_dose_grid(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    pixels = np.arange(3 * 4 * 5, dtype="<u4").reshape(3, 4, 5)
    extra = {"Modality": "RTDOSE", "GridFrameOffsetVector": [0, 2, 4], "DoseGridScaling": 0.001, "DoseUnits": "GY"}
    write_dicom(tmp_path / "dose", pixels, ImagePositionPatient=[1, 2, 3], **extra)
    [volume] = open_dicom(tmp_path / "dose")
    np.testing.assert_array_equal(whole(volume), pixels)
    assert volume.grid.axis("z").spacing == 2.0
    assert volume.scale is not None
    assert (volume.scale.slope, volume.scale.unit) == (0.001, "GY")


def test_dates_of_repeats_stay_in_the_header(tmp_path: Path, write_slices: Write, open_dicom: Open) -> None:
    for second, count in ((1, 5), (2, 5), (3, 3)):
        write_slices(tmp_path / str(second), UP[:count], AcquisitionDateTime=f"2019070812000{second}")
    volumes = open_dicom(tmp_path)
    assert sorted(v.shape for v in volumes) == [(2, 5, 6, 5), (3, 6, 5)]
    assert "20190708" not in json.dumps([[v.name, v.notes, v.attributes, v.header.terms] for v in volumes])
    [run] = [v for v in volumes if v.grid.dims[0] == "t"]
    assert run.grid.axis("t").spacing == pytest.approx(1000.0)
