"""Values equal pydicom's ``pixel_array`` for every readable file of the collection, whatever its transfer syntax."""

import csv
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from emstore.volume import Volume

Open = Callable[..., Sequence[Volume]]
FOLDER = Path(os.environ.get("EMSTORE_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def rows() -> Iterator[Any]:
    """Return the DICOM rows that the reference reader reads; of long series every fourth slice alone is enough."""
    if not (FOLDER / "MANIFEST.csv").exists():
        return
    seen: dict[str, int] = {}
    with (FOLDER / "MANIFEST.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if "DICOM" not in row["format"] or not row["reader_result"].startswith("ok"):
                continue
            folder = str(Path(row["path"]).parent)
            seen[folder] = seen.get(folder, 0) + 1
            if folder in ("ct/vhf_pelvis_regular", "ct/ge_tilt_irregular") and seen[folder] % 8:
                continue
            yield pytest.param(row["path"], row["reader_result"], id=row["path"])


def reference(path: Path) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(pydicom.dcmread(path).pixel_array)


def in_file_order(volume: Volume, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Undo what the adapter says it did: frames sorted by position, colour in front."""
    if "c" in volume.grid.dims:
        values = np.moveaxis(values, volume.grid.dims.index("c"), -1)
    if "frame_numbers" in volume.attributes:
        order = np.argsort(volume.attributes["frame_numbers"])
        values = values.reshape(-1, *volume.shape[-2:])[order]
    return values.squeeze()


@pytest.mark.parametrize(("name", "said"), list(rows()))
def test_values_equal_the_reference_reader(
    instrument_file: Callable[[str], Path], open_dicom: Open, name: str, said: str
) -> None:
    path = instrument_file(name)
    expected = reference(path)
    assert hashlib.sha256(expected.tobytes()).hexdigest()[:12] in said
    [volume] = open_dicom(path)
    values = volume.data[tuple(slice(0, n) for n in volume.shape)]
    if "siemens_mosaic" in name:
        side = expected.shape[0] // 72
        tiles = [expected[72 * (k // side) :, 72 * (k % side) :][:72, :72] for k in range(volume.shape[-3])]
        expected = np.stack(tiles)
        assert not [
            t for k in range(len(tiles), side**2) if (t := reference(path)[72 * (k // side) :, 72 * (k % side) :][:72, :72]).any()
        ]
    assert values.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(in_file_order(volume, values), expected.squeeze())


@pytest.mark.parametrize("name", ["ct/vhf_pelvis_regular", "ct/ge_tilt_irregular"])
def test_a_series_holds_every_file(instrument_file: Callable[[str], Path], open_dicom: Open, name: str) -> None:
    folder = instrument_file(name)
    [volume] = open_dicom(folder)
    values = volume.data[tuple(slice(0, n) for n in volume.shape)]
    found = sorted(hashlib.sha256(plane.tobytes()).hexdigest() for plane in values)
    assert found == sorted(hashlib.sha256(reference(path).tobytes()).hexdigest() for path in folder.iterdir())
    assert len(volume.files) == len(values)


def test_one_frame_of_a_run_reads_one_frame(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    path = instrument_file("xa_cine/0002.DCM")
    [volume] = open_dicom(path)
    expected = reference(path)
    np.testing.assert_array_equal(volume.data[37:39, 100:200, 5:9], expected[37:39, 100:200, 5:9])
    assert volume.data.block == (1, 512, 512)


def test_missing_closing_mark_still_gives_every_frame(instrument_file: Callable[[str], Path], open_dicom: Open) -> None:
    short = instrument_file("mr_dicom/emri_small/emri_small_jpeg_2k_lossless_too_short.dcm")
    [volume] = open_dicom(short)
    expected = reference(instrument_file("mr_dicom/emri_small/emri_small_jpeg_2k_lossless.dcm"))
    np.testing.assert_array_equal(volume.data[0:10, 0:64, 0:64], expected)
    assert any("closing mark" in note for note in volume.notes)
