"""Opening DICOM in tests, and small DICOM files made with pydicom."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.dicom import DicomAdapter

CT = "1.2.840.10008.5.1.4.1.1.2"


def read_all(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def open_source(*paths: Path, allow_partial: bool = False) -> tuple[Source, Sequence[Volume]]:
    adapter = DicomAdapter()
    source = Source.of(paths, allow_partial=allow_partial)
    source = source.subset([item for item in source.items if adapter.sniff(item)] or source.items)
    return source, adapter.open(source)


@pytest.fixture(scope="session")
def open_dicom() -> Callable[..., Sequence[Volume]]:
    return lambda *paths, **options: open_source(*paths, **options)[1]


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Any]:
    """Return a function that writes one small image file; keyword arguments set or (``None``) remove elements."""
    return write


def write(path: Path, pixels: np.ndarray[Any, Any], *, syntax: str = "1.2.840.10008.1.2.1", **elements: Any) -> Any:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = elements.get("SOPInstanceUID") or generate_uid()
    order = {"is_implicit_VR": syntax == "1.2.840.10008.1.2", "is_little_endian": syntax != "1.2.840.10008.1.2.2"}
    dataset = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128, **order)
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    plane = pixels.shape[:-1] if colour else pixels.shape
    base: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "Modality": "CT",
        "SeriesNumber": 7,
        "PatientName": "SECRET^NAME",
        "PatientID": "SECRET-ID",
        "Rows": plane[-2],
        "Columns": plane[-1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelSpacing": [0.5, 0.25],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, 0],
    }
    if colour:
        base["PlanarConfiguration"] = 0
    if len(plane) == 3:
        base["NumberOfFrames"] = plane[0]
    for keyword, value in (base | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    big = syntax == "1.2.840.10008.1.2.2"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def slices(folder: Path, positions: Sequence[Sequence[float]], **elements: Any) -> list[np.ndarray[Any, Any]]:
    """Write one slice per position under names that do not sort like them; return their pixels in the order given."""
    chance = np.random.default_rng(len(positions))
    made = []
    for index, position in enumerate(positions):
        pixels = chance.integers(0, 1000, (6, 5)).astype("<u2")
        varying = {key: value[index] for key, value in elements.items() if isinstance(value, tuple)}
        fixed = {key: value for key, value in elements.items() if not isinstance(value, tuple)}
        name = f"sub{index % 2}/{(index * 7) % 31:02d}.dcm"
        write(folder / name, pixels, ImagePositionPatient=list(position), **(fixed | varying))
        made.append(pixels)
    return made


@pytest.fixture(scope="session")
def write_slices() -> Callable[..., list[np.ndarray[Any, Any]]]:
    return slices
