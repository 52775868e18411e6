"""Damaged files end in one clear error that names the file, or are read right; never in anything else."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.dicom import DicomAdapter

Open = Callable[..., Sequence[Volume]]
FOLDER = Path(os.environ.get("EMSTORE_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
HOSTILE = sorted(str(p.relative_to(FOLDER)) for p in (FOLDER / "hostile").glob("*.dcm"))
EXTRA = ["mr_dicom/emri_small/emri_small_jpeg_2k_lossless_too_short.dcm", "xa_cine/multiframe.dcm"]


def read_strictly(path: Path) -> list[np.ndarray[Any, Any]]:
    with Source.of([path]) as source:
        return [v.data[tuple(slice(0, n) for n in v.shape)] for v in DicomAdapter().open(source)]


def outcome(path: Path) -> EmstoreError | list[np.ndarray[Any, Any]]:
    try:
        return read_strictly(path)
    except EmstoreError as error:
        return error


@pytest.mark.parametrize("name", HOSTILE + EXTRA)
def test_hostile_file_is_refused_clearly_or_read_right(instrument_file: Callable[[str], Path], name: str) -> None:
    path = instrument_file(name)
    found = outcome(path)
    if isinstance(found, EmstoreError):
        assert path.name in str(found.where)
        assert not isinstance(found, SourceIncomplete) or any(c.isdigit() for c in found.what)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = path if "too_short" not in name else path.with_name("emri_small.dcm")
            np.testing.assert_array_equal(found[0].squeeze(), pydicom.dcmread(twin).pixel_array)


def test_hostile_files_take_little_memory_and_time(instrument_file: Callable[[str], Path]) -> None:
    paths = [str(instrument_file(name)) for name in HOSTILE + EXTRA]
    script = """
import sys
from emstore.errors import EmstoreError
from emstore.source import Source
from emstore_adapters.dicom import DicomAdapter
for path in sys.argv[1:]:
    try:
        for v in DicomAdapter().open(Source.of([path])):
            v.data[tuple(slice(0, n) for n in v.shape)]
    except EmstoreError:
        pass
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 1 << 20  # KiB


READ_BY_THE_REFERENCE = [
    "J2K_pixelrep_mismatch",
    "MR_small_padded",
    "bad_sequence",
    "explicit_VR-UN",
    "OutOfBoundsOverlay",
    "GH364",
    "D_CLUNIE_CT1_RLE_FRAGS",
]


@pytest.mark.parametrize("stem", READ_BY_THE_REFERENCE)
def test_odd_but_readable_files_are_read(instrument_file: Callable[[str], Path], stem: str) -> None:
    assert read_strictly(instrument_file(f"hostile/{stem}.dcm"))


def test_truncated_slice_is_named_and_may_be_left_out(tmp_path: Path, write_slices: Callable[..., Any], open_dicom: Open) -> None:
    write_slices(tmp_path, [(0, 0, 2 * k) for k in range(5)])
    victim = tmp_path / "sub0/14.dcm"  # the third slice
    victim.write_bytes(victim.read_bytes()[:-30])
    with pytest.raises(SourceIncomplete) as caught:
        open_dicom(tmp_path)
    assert caught.value.where == "sub0/14.dcm"
    assert "0 of 1" in caught.value.what
    source = Source.of([tmp_path], allow_partial=True)
    [volume] = DicomAdapter().open(source)
    assert [skipped.name for skipped in source.skipped] == ["sub0/14.dcm"]
    assert volume.shape == (4, 6, 5)
    assert any("missing" in note for note in volume.notes)


@pytest.mark.parametrize("kept", [340, 450, 600])
def test_slice_cut_inside_its_header_is_not_dropped_in_silence(
    tmp_path: Path, write_slices: Callable[..., Any], open_dicom: Open, kept: int
) -> None:
    write_slices(tmp_path, [(0, 0, 2 * k) for k in range(5)])
    victim = tmp_path / "sub0/14.dcm"
    victim.write_bytes(victim.read_bytes()[:kept])
    with pytest.raises(SourceIncomplete) as caught:
        open_dicom(tmp_path)
    assert caught.value.where == "sub0/14.dcm"


@pytest.mark.parametrize("cut", [1, 64 * 64 * 2, 64 * 64 * 2 * 3 + 5])
def test_truncated_multi_frame_says_how_many_are_good(
    tmp_path: Path, write_dicom: Callable[..., Any], open_dicom: Open, cut: int
) -> None:
    pixels = np.arange(8 * 64 * 64, dtype="<u2").reshape(8, 64, 64)
    path = tmp_path / "run.dcm"
    write_dicom(path, pixels, ImagePositionPatient=None, FrameTime=40.0, Modality="XA")
    path.write_bytes(path.read_bytes()[:-cut])
    good = (8 * 64 * 64 * 2 - cut) // (64 * 64 * 2)
    with pytest.raises(SourceIncomplete, match=f"{good} of 8 frames are good"):
        open_dicom(path)
    [volume] = open_dicom(path, allow_partial=True)
    np.testing.assert_array_equal(volume.data[0:good, 0:64, 0:64], pixels[:good])


def test_huge_declared_size_is_refused_at_once(tmp_path: Path, write_dicom: Callable[..., Any], open_dicom: Open) -> None:
    path = tmp_path / "bomb.dcm"
    write_dicom(path, np.zeros((4, 4), "<u2"), Rows=65535, Columns=65535, NumberOfFrames=2**31 - 1)
    with pytest.raises(EmstoreError) as caught:
        open_dicom(path)
    assert "bomb.dcm" in str(caught.value.where)


def test_inflate_bomb_is_refused(tmp_path: Path, open_dicom: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    import pydicom.uid
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

    from emstore_adapters.dicom import reader

    monkeypatch.setattr(reader, "MAX_INFLATED", 1 << 20)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    path = tmp_path / "bomb.dcm"
    FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
    deflate = zlib.compressobj(wbits=-15)
    header = path.read_bytes()
    header = header[: 144 + int.from_bytes(header[140:144], "little")]  # without the empty data set
    path.write_bytes(header + deflate.compress(bytes(64 << 20)) + deflate.flush())
    with pytest.raises(EmstoreError, match="inflates beyond"):
        open_dicom(path)


def test_messages_do_not_repeat_header_text(tmp_path: Path, write_dicom: Callable[..., Any], open_dicom: Open) -> None:
    path = tmp_path / "x.dcm"
    write_dicom(path, np.zeros((4, 4), "<u2"), Rows=9)
    with pytest.raises(SourceUnreadable) as caught:
        open_dicom(path)
    assert "SECRET" not in str(caught.value)


SMALL = [
    "hostile/MR_small_padded.dcm",
    "hostile/D_CLUNIE_CT1_RLE_FRAGS.dcm",
    "mr_dicom/emri_small/emri_small_jpeg_ls_lossless.dcm",
    "mr_dicom/emri_small/emri_small_RLE.dcm",
]


@pytest.mark.parametrize("name", SMALL)
def test_random_damage_ends_in_an_emstore_error_or_a_read(
    instrument_file: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    original = instrument_file(name).read_bytes()
    path = tmp_path / "damaged.dcm"

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.integers(0, len(original)),
        st.lists(st.tuples(st.integers(0, len(original) - 1), st.integers(0, 255)), max_size=6),
    )
    def check(size: int, flips: list[tuple[int, int]]) -> None:
        data = bytearray(original)
        for at, value in flips:
            data[at] = value
        path.write_bytes(data[:size] if size % 3 == 0 else data)
        found = outcome(path)
        assert not isinstance(found, EmstoreError) or found.where is not None

    check()
