"""Files of any size in the formats that can be streamed, made quickly: a few noisy frames, over and over.

Every maker takes a folder and a size in bytes (of the values, unpacked) and returns what `emstore ingest` is given. Frames
are 1024 x 1024 uint16 of 6 random bits, which the store's codec shrinks about 2.5 times.
"""

import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SIDE: Final = 1024
FRAME: Final = SIDE * SIDE * 2
Frame = npt.NDArray[np.uint16]


def base(count: int = 8) -> list[Frame]:
    """Return some frames, shape (1024, 1024), that differ from each other."""
    rng = np.random.default_rng(0)
    return [rng.integers(100, 164, (SIDE, SIDE), np.uint16) for _ in range(count)]


def frames(size: int) -> Iterator[Frame]:
    some = base()
    for k in range(size // FRAME):
        yield some[k % len(some)]


def append(path: Path, size: int) -> None:
    with path.open("ab") as file:
        for frame in frames(size):
            file.write(frame.data)


def tiff_folder(folder: Path, size: int) -> Path:
    """Slices that are links to eight files: they cost no disk, and the reader cannot tell."""
    import tifffile

    at = folder / "slices"
    at.mkdir()
    some = base()
    for k in range(size // FRAME):
        path = at / f"slice_{k:05d}.tif"
        if k < len(some):
            tifffile.imwrite(path, some[k])
        else:
            path.hardlink_to(at / f"slice_{k % len(some):05d}.tif")
    return at


def bigtiff(folder: Path, size: int) -> Path:
    import tifffile

    path = folder / "stack.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for frame in frames(size):
            file.write(frame, contiguous=False, metadata=None)
    return path


def nifti(folder: Path, size: int) -> Path:
    path = folder / "scan.nii"
    path.write_bytes(_nifti_header(size))
    append(path, size)
    return path


def nifti_gz(folder: Path, size: int) -> Path:
    """Eight frames as one gzip member, over and over: several members are one stream."""
    path = folder / "scan.nii.gz"
    member = gzip.compress(b"".join(frame.tobytes() for frame in base()), 1)
    with path.open("wb") as file:
        file.write(gzip.compress(_nifti_header(size // FRAME // 8 * 8 * FRAME)))
        for _ in range(size // FRAME // 8):
            file.write(member)
    return path


def _nifti_header(size: int) -> bytes:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape((SIDE, SIDE, size // FRAME))
    header.set_data_dtype(np.uint16)
    header.set_zooms((0.5, 0.5, 1.0))
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4)


def mrc(folder: Path, size: int) -> Path:
    import mrcfile

    path = folder / "map.mrc"
    with mrcfile.new(path) as file:
        file.set_data(base(1)[0][np.newaxis])
        file.set_volume()
        file.voxel_size = 4.0
        file.header.nz = file.header.mz = size // FRAME
        file.header.cella.z = 4.0 * (size // FRAME)
    os.truncate(path, 1024)
    append(path, size)
    return path


def hdf5(folder: Path, size: int) -> Path:
    import h5py

    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        _chunked(file, "entry/data", size, (1, SIDE, SIDE))
    return path


def hspy(folder: Path, size: int) -> Path:
    """A HyperSpy signal, the parts of its tree that say what the axes are."""
    import h5py

    path = folder / "signal.hspy"
    with h5py.File(path, "w") as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        group = file.create_group("Experiments/stack")
        _chunked(group, "data", size, (8, SIDE, SIDE))
        for k, name in enumerate("zyx"):
            axis = group.create_group(f"axis-{k}").attrs
            axis["name"], axis["units"], axis["navigate"] = name, "nm", k == 0
            axis["scale"], axis["offset"], axis["size"] = 1.0, 0.0, group["data"].shape[k]
        group.create_group("metadata/General").attrs["title"] = "stack"
        group.create_group("metadata/Signal").attrs["signal_type"] = ""
        group.create_group("original_metadata")
    return path


def _chunked(group: Any, name: str, size: int, chunk: tuple[int, int, int]) -> None:
    """A gzip-compressed dataset whose chunks are all the same bytes, packed once."""
    count = size // FRAME // chunk[0] * chunk[0]
    data = group.create_dataset(name, (count, SIDE, SIDE), "u2", chunks=chunk, compression="gzip", compression_opts=1)
    data[: chunk[0]] = np.stack(base(chunk[0]))
    _, packed = data.id.read_direct_chunk((0, 0, 0))
    for k in range(chunk[0], count, chunk[0]):
        data.id.write_direct_chunk((k, 0, 0), packed)


def zarr(folder: Path, size: int) -> Path:
    """Zarr v3 whose chunk files are links to one."""
    import zarr as library

    path = folder / "data.zarr"
    depth = 64
    count = size // FRAME // depth * depth
    array = library.create_array(
        str(path), shape=(count, SIDE, SIDE), dtype="u2", chunks=(depth, 256, 256), dimension_names=("z", "y", "x")
    )
    array[:depth, :256, :256] = np.stack([frame[:256, :256] for frame in base()] * (depth // 8))
    for k in range(count // depth):
        for j in range(SIDE // 256):
            for i in range(SIDE // 256):
                at = path / "c" / str(k) / str(j) / str(i)
                if (k, j, i) != (0, 0, 0):
                    at.parent.mkdir(parents=True, exist_ok=True)
                    at.hardlink_to(path / "c/0/0/0")
    return path


def dicom_series(folder: Path, size: int) -> Path:
    at = folder / "series"
    at.mkdir()
    for k, frame in enumerate(frames(size)):
        _dicom(at / f"{k:05d}.dcm", k, None).write_bytes((at / f"{k:05d}.dcm").read_bytes() + frame.tobytes())
    return at


def dicom_frames(folder: Path, size: int) -> Path:
    """Plain pixel data ends at 4 GiB: no DICOM file of this kind is larger."""
    path = folder / "frames.dcm"
    size = min(size, (4 << 30) - 2 * FRAME) // FRAME * FRAME
    _dicom(path, 0, size // FRAME)
    append(path, size)
    return path


def _dicom(path: Path, number: int, count: int | None) -> Path:
    """Everything up to the values of the pixel data."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    kind = "1.2.840.10008.5.1.4.1.1.2" if count is None else "1.2.840.10008.5.1.4.1.1.7.3"
    meta, data = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, f"1.2.3.4.{number + 1}"
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = kind, f"1.2.3.4.{number + 1}"
    data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = "1.2.3.4", "1.2.3", "CT" if count is None else "OT"
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    if count is None:
        data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.5], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient, data.InstanceNumber = [0, 0, number], number + 1
    else:
        data.NumberOfFrames = count
    data.save_as(path, enforce_file_format=True)
    length = FRAME * (count or 1)
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
    return path


def ser(folder: Path, size: int) -> Path:
    """A TIA series of images: header, one dimension, the offsets of images and tags, the images, the tags."""
    path = folder / "series_1.ser"
    count = size // FRAME
    dimension = struct.pack("<IddIII", count, 0.0, 1.0, 0, 0, 0)
    offsets = 34 + len(dimension)
    head = struct.pack("<ddIddIHII", 0.0, 1e-9, 0, 0.0, 1e-9, 0, 2, SIDE, SIDE)  # data type 2 is uint16
    images = offsets + 16 * count + (len(head) + FRAME) * np.arange(count + 1, dtype="<i8")
    tags = images[-1] + 8 * np.arange(count, dtype="<i8")
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHIIIIQI", b"II", 0x0197, 0x0220, 0x4122, 0x4152, count, count, offsets, 1))
        file.write(dimension + images[:-1].tobytes() + tags.tobytes())
        for frame in frames(size):
            file.write(head + frame.tobytes())
        for _ in range(count):
            file.write(struct.pack("<HHI", 0x4152, 0, 0))
    return path


def video(folder: Path, size: int) -> Path:
    import av

    path = folder / "movie.mp4"
    some = [np.repeat(frame[..., np.newaxis].astype(np.uint8), 3, axis=2) for frame in base()]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for k in range(size // (3 * SIDE * SIDE)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(some[k // 8 % len(some)], format="rgb24")))
        out.mux(stream.encode())
    return path


def nion(folder: Path, size: int) -> Path:
    path = folder / "item.ndata1"
    header = io.BytesIO()
    kind = {"descr": "<u2", "fortran_order": False, "shape": (size // FRAME, SIDE, SIDE)}
    np.lib.format.write_array_header_1_0(header, kind)
    properties = {
        "uuid": "00000000-0000-0000-0000-000000000001",
        "version": 13,
        "is_sequence": True,
        "collection_dimension_count": 0,
        "datum_dimension_count": 2,
        "data_shape": kind["shape"],
        "data_dtype": "uint16",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("data.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for frame in frames(size):
                file.write(frame.data)
        archive.writestr("metadata.json", json.dumps(properties))
    return path


MAKERS: Final[dict[str, Callable[[Path, int], Path]]] = {
    "TIFF folder": tiff_folder,
    "BigTIFF": bigtiff,
    "NIfTI": nifti,
    "NIfTI .gz": nifti_gz,
    "MRC": mrc,
    "HDF5": hdf5,
    "DICOM series": dicom_series,
    "DICOM frames": dicom_frames,
    "SER": ser,
    "hspy": hspy,
    "Zarr": zarr,
    "video": video,
    "Nion": nion,
}
