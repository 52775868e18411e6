"""Frames, encodings, times and spacings of files made for the purpose, against what pydicom reads."""

import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence as Items

from emstore.errors import SourceUnreadable
from emstore.source import SourceItem
from emstore.volume import Volume
from emstore_adapters.dicom import DicomAdapter

Open = Callable[..., Sequence[Volume]]
Write = Callable[..., Any]
LOOSE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def whole(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def reference(path: Path) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(pydicom.dcmread(path, force=True).pixel_array)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<i4"])
def test_plain_samples(tmp_path: Path, write_dicom: Write, open_dicom: Open, syntax: str, dtype: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 120, (3, 4, 6)).astype(dtype)
    dataset = write_dicom(tmp_path / "x", pixels, syntax=syntax, **LOOSE)
    if syntax.endswith("2.2") and pixels.itemsize == 1:
        dataset.PixelData = pixels.view("<u2").astype(">u2").tobytes()  # PS3.5 8.1.2: OW words are swapped, bytes and all
        dataset.save_as(tmp_path / "x", enforce_file_format=True)
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(whole(volume), reference(tmp_path / "x"))
    assert volume.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.data[1:3, 2:4, 1:5], reference(tmp_path / "x")[1:3, 2:4, 1:5])


def test_single_bits_run_across_frames(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    bits = np.random.default_rng(2).integers(0, 2, (5, 3, 5)).astype("u1")
    dataset = write_dicom(tmp_path / "x", bits, **LOOSE, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.save_as(tmp_path / "x")
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(whole(volume), bits)
    np.testing.assert_array_equal(reference(tmp_path / "x"), bits)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_comes_in_front(tmp_path: Path, write_dicom: Write, open_dicom: Open, planar: int, photometric: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (2, 4, 6, 3)).astype("u1")
    write_dicom(tmp_path / "x", pixels, **LOOSE, PlanarConfiguration=planar, PhotometricInterpretation=photometric)
    [volume] = open_dicom(tmp_path / "x")
    assert volume.grid.dims == ("t", "c", "y", "x")
    assert volume.grid.axis("c").labels == ("R", "G", "B")
    np.testing.assert_array_equal(np.moveaxis(whole(volume), 1, -1), reference(tmp_path / "x"))
    np.testing.assert_array_equal(volume.data[1:2, 1:3, 0:2, 3:5], whole(volume)[1:2, 1:3, 0:2, 3:5])


def test_subsampled_colour(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (2, 4, 6, 3)).astype("u1")
    dataset = write_dicom(tmp_path / "x", pixels, **LOOSE, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = pixels.tobytes()[: 2 * 4 * 6 * 2]
    dataset.save_as(tmp_path / "x")
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(np.moveaxis(whole(volume), 1, -1), reference(tmp_path / "x"))


def test_float_samples(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    pixels = np.linspace(-1, 1, 2 * 3 * 4, dtype="<f4").reshape(2, 3, 4)
    dataset = write_dicom(tmp_path / "x", pixels.view("<u4"), **LOOSE)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.FloatPixelData = pixels.tobytes()
    dataset.save_as(tmp_path / "x")
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(whole(volume), pixels)


@pytest.mark.parametrize("how", ["table", "no table", "extended", "fragments and table", "fragments"])
def test_compressed_frames_are_found(tmp_path: Path, write_dicom: Write, open_dicom: Open, how: str) -> None:
    from pydicom.pixels import get_encoder
    from pydicom.uid import JPEG2000Lossless

    pixels = np.random.default_rng(5).integers(0, 255, (6, 32, 40)).astype("u1")
    dataset = write_dicom(tmp_path / "x", pixels, **LOOSE)
    options = {key: dataset[key].value for key in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")}
    named = {"rows": options["Rows"], "columns": options["Columns"], "samples_per_pixel": 1}
    named |= {"bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0, "number_of_frames": 1}
    named |= {"photometric_interpretation": "MONOCHROME2"}
    encoder = get_encoder(JPEG2000Lossless)
    frames = [encoder.encode(frame.tobytes(), index=0, **named) for frame in pixels]
    pieces = 3 if "fragments" in how else 1
    if how == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        dataset.PixelData = encapsulate(frames, fragments_per_frame=pieces, has_bot="table" in how and how != "no table")
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(tmp_path / "x")
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(whole(volume), pixels)
    np.testing.assert_array_equal(volume.data[4:5, 3:9, 0:40], pixels[4:5, 3:9])


def test_a_frame_of_a_large_run_reads_only_that_frame(
    tmp_path: Path, write_dicom: Write, open_dicom: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emstore_adapters.dicom.reader import FileBytes

    pixels = np.random.default_rng(6).integers(0, 9, (50, 64, 64)).astype("<u2")
    write_dicom(tmp_path / "x", pixels, **LOOSE)
    read: list[int] = []

    class Counting:
        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, n: int) -> bytes:
            read.append(n)
            return bytes(self._file.read(n))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    [volume] = open_dicom(tmp_path / "x")
    plain = FileBytes.open
    monkeypatch.setattr(FileBytes, "open", lambda self: Counting(plain(self)))
    np.testing.assert_array_equal(volume.data[40:42, 0:64, 0:64], pixels[40:42])
    assert sum(read) == 2 * 64 * 64 * 2


@pytest.mark.parametrize(
    ("elements", "spacing", "positions", "note"),
    [
        ({"FrameTime": 33.0}, 33.0, None, "FrameTime."),
        ({"FrameTimeVector": [0, 40, 40]}, 40.0, None, "FrameTimeVector"),
        ({"FrameTimeVector": [0, 40, 60]}, None, (0.0, 40.0, 100.0), "FrameTimeVector"),
        ({"CineRate": 25}, 40.0, None, "CineRate (25 per second) was used"),
        ({"RecommendedDisplayFrameRate": 10}, 100.0, None, "RecommendedDisplayFrameRate (10 per second) was used"),
        ({"FrameTime": 0}, None, None, "not known"),
        ({}, None, None, "not known"),
    ],
)
def test_frame_times(
    tmp_path: Path, write_dicom: Write, open_dicom: Open, elements: Any, spacing: Any, positions: Any, note: str
) -> None:
    write_dicom(tmp_path / "x", np.zeros((3, 4, 4), "u1"), Modality="XA", **LOOSE, **elements)
    [volume] = open_dicom(tmp_path / "x")
    axis = volume.grid.axis("t")
    assert (axis.spacing, axis.positions) == (spacing, positions)
    assert axis.unit == (None if spacing is positions is None else "millisecond")
    assert any(note in text for text in volume.notes)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (None, None)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 2}, (0.1, 0.05)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.2, 0.1]}, (None, None)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.15, 0.08]}, (0.15, 0.08)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY"}, (0.2, 0.1)),
        ({"PixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"PixelSpacing": [0, 0]}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_spacing_of_projections(tmp_path: Path, write_dicom: Write, open_dicom: Open, elements: Any, expected: Any) -> None:
    write_dicom(tmp_path / "x", np.zeros((4, 4), "u1"), Modality="XA", **(LOOSE | elements))
    [volume] = open_dicom(tmp_path / "x")
    assert tuple(axis.spacing for axis in volume.grid.axes) == expected
    assert [axis.unit for axis in volume.grid.axes] == [None if s is None else "millimeter" for s in expected]
    if "ImagerPixelSpacing" in elements:
        assert volume.attributes["imager_pixel_spacing"]["y"] == 0.2


def test_ultrasound_regions(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    def region(delta: float, form: int = 1, unit: int = 3) -> Dataset:
        item = Dataset()
        item.RegionSpatialFormat, item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = form, unit, unit
        item.PhysicalDeltaX, item.PhysicalDeltaY = delta, 2 * delta
        return item

    pixels = np.zeros((4, 4), "u1")
    write_dicom(
        tmp_path / "one", pixels, Modality="US", **LOOSE, SequenceOfUltrasoundRegions=Items([region(0.01), region(3, 2, 4)])
    )
    write_dicom(tmp_path / "two", pixels, Modality="US", **LOOSE, SequenceOfUltrasoundRegions=Items([region(0.01), region(0.02)]))
    [one], [two] = open_dicom(tmp_path / "one"), open_dicom(tmp_path / "two")
    assert [axis.spacing for axis in one.grid.axes] == pytest.approx([0.2, 0.1])
    assert [axis.spacing for axis in two.grid.axes] == [None, None]
    assert any("different spacings" in note for note in two.notes)


def test_inverted_grey_is_noted_not_changed(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    pixels = np.arange(16, dtype="u1").reshape(4, 4)
    write_dicom(tmp_path / "x", pixels, **LOOSE, PhotometricInterpretation="MONOCHROME1")
    [volume] = open_dicom(tmp_path / "x")
    np.testing.assert_array_equal(whole(volume), pixels)
    assert volume.attributes["photometric"] == "MONOCHROME1"
    assert any("MONOCHROME1" in note for note in volume.notes)


def test_palette_is_kept(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    path = instrument_file("xa_cine/us_cine/US-PAL-8-10x-echo.dcm")
    [volume] = open_dicom(path)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    assert volume.attributes["palette"]["red"] == list(struct.unpack("<256H", header.RedPaletteColorLookupTableData))
    assert volume.attributes["palette"]["bits"] == 16


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_bare_data_set_without_preamble(tmp_path: Path, write_dicom: Write, open_dicom: Open, syntax: str) -> None:
    pixels = np.arange(16, dtype="<u2").reshape(4, 4)
    write_dicom(tmp_path / "whole", pixels, syntax=syntax)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "bare").write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    item = SourceItem(tmp_path / "bare", "bare")
    assert 0 < DicomAdapter().sniff(item) < 100
    [volume] = open_dicom(tmp_path / "bare")
    np.testing.assert_array_equal(whole(volume)[0], pixels)
    assert any("transfer syntax" in note for note in volume.notes)


def test_video_in_dicom_is_refused_clearly(tmp_path: Path, write_dicom: Write, open_dicom: Open) -> None:
    dataset = write_dicom(tmp_path / "x", np.zeros((2, 4, 4), "u1"), **LOOSE)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    dataset.PixelData = encapsulate([b"\0" * 8], has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "x")
    with pytest.raises(SourceUnreadable, match="no decoder") as caught:
        open_dicom(tmp_path / "x")
    assert caught.value.kind == "source_unsupported"
