"""Files made to break a reader: bombs, lies about size, ways out of a folder, names that drive a terminal.

Every file is small on disk and written in a moment; what it claims to be is not.
"""

import gzip
import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import h5py
import mrcfile
import nibabel
import numpy as np
import pydicom
import tifffile
import zarr
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

EXTENSIONS: Final = (
    *(".dcm", ".ima", ".nii", ".nii.gz", ".hdr", ".img", ".tif", ".tiff", ".ome.tif", ".btf", ".dm3", ".dm4", ".dm5", ".emd"),
    *(".ser", ".emi", ".mrc", ".mrcs", ".rec", ".mrc.gz", ".mrc.bz2", ".map", ".st", ".ndata", ".ndata1", ".h5", ".hdf5", ".nxs"),
    *(".hspy", ".zspy", ".blo", ".tvips", ".zarr", ".zip", ".mp4", ".avi", ".mov", ".mkv", ".gif", ".jpg", ".png", ".bmp"),
)


BLOCK: Final = 16 << 20


def deflated_zeros(head: bytes, count: int) -> Iterator[bytes]:
    """Yield the pieces of a raw deflate stream of `head` and then `count` zeros, a multiple of `BLOCK`, in a moment."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    yield packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before itself
    for _ in range(count // BLOCK):
        yield repeated
    yield zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def zlib_zeros(count: int) -> bytes:
    """Return a whole and correct zlib stream of zeros."""
    return b"\x78\x9c" + b"".join(deflated_zeros(b"", count)) + struct.pack(">I", (count % 65521) << 16 | 1)


def zeros_gzip(path: Path, head: bytes, gigabytes: int) -> None:
    """Write one gzip stream of `head` and then that many GiB of zeros; only its checksum is wrong."""
    with path.open("wb") as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        file.writelines(deflated_zeros(head, gigabytes << 30))
        file.write(bytes(8))


def nifti_header(*shape: int, datatype: int = 4, bits: int = 16) -> bytes:
    """Return a NIfTI-1 header and its empty extension flag, 352 bytes."""
    header = nibabel.Nifti1Header(endianness="<")
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["datatype"], header["bitpix"], header["vox_offset"], header["magic"] = datatype, bits, 352, b"n+1\0"
    return bytes(header.binaryblock) + bytes(4)


def dicom(path: Path, body: bytes, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> None:
    """Write a DICOM image that says it is of `tags` and holds `body`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "OT"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax == ExplicitVRLittleEndian:
        dataset.add_new(0x7FE00010, "OW", body)
    else:
        dataset.PixelData = pydicom.encaps.encapsulate([body])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def tiff_directory(*tags: tuple[int, int, int, int], following: int = 0, body: bytes = b"") -> bytes:
    """Return a little-endian TIFF of one directory of ``(tag, type, count, value)``."""
    entries = b"".join(struct.pack("<HHI", tag, kind, count) + struct.pack("<I", value) for tag, kind, count, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + body


def tiff_image(width: int, height: int, *, following: int = 0, count: int = 16, rows: int | None = None) -> bytes:
    """Return a TIFF that claims one 8-bit image of that size."""
    return tiff_directory(
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (277, 3, 1, 1),
        (278, 4, 1, rows or height),
        (279, 4, 1, count),
        following=following,
        body=bytes(200),
    )


def png(width: int, height: int, blocks: int) -> bytes:
    """Return a grey PNG of that claimed size whose data inflates to `blocks` MiB of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = zlib_zeros(blocks << 20)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npy(header: str, body: bytes = b"") -> bytes:
    """Return an .npy file with that header."""
    text = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def zipped(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of some members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def make(folder: Path) -> dict[str, Path]:
    """Write every hostile source into `folder`; return what to point at, by a name that says what it is."""
    found: dict[str, Path] = {}
    for maker in (_zips, _empties, _lies, _hdf5, _zarrs, _bombs, _names, _folders):
        for name, path in maker(folder):
            assert name not in found
            found[name] = path
    return found


Made = Iterator[tuple[str, Path]]


def _file(folder: Path, name: str, data: bytes) -> tuple[str, Path]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name, path


def _zips(folder: Path) -> Made:
    zeros = bytes(64 << 20)
    inner = zipped({"zeros.raw": zeros})
    yield _file(folder, "bomb.zip", inner)
    yield _file(folder, "bomb-of-bombs.zip", zipped({f"{k}.zip": inner for k in range(50)}))
    yield _file(folder, "nested-valid.zip", zipped({"in.zip": zipped({"a.tif": tiff_image(4, 4)})}))
    yield _file(folder, "slip.zip", zipped({"../../slipped.tif": tiff_image(4, 4)}))
    yield _file(folder, "slip-absolute.zip", zipped({"/slipped-by-emstore.tif": tiff_image(4, 4)}))
    link = zipfile.ZipInfo("link.tif")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    yield _file(folder, "link-inside.zip", out.getvalue())
    yield _file(folder, "same-name-twice.zip", _twice())
    lied = bytearray(zipped({"a.tif": bytes(1 << 20)}))
    at = lied.rindex(b"PK\x01\x02")
    lied[at + 24 : at + 28] = struct.pack("<I", 100)  # the directory says 100 bytes
    yield _file(folder, "says-less-than-it-holds.zip", bytes(lied))
    yield _file(folder, "cut.zip", zipped({"a.tif": os.urandom(9999)})[:5000])
    many = io.BytesIO()
    count = 800_000
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    many.write(struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a")
    start = many.tell()
    many.write(entry * count)
    many.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entry) * count, start, 0))
    yield _file(folder, "a-million-names.zip", many.getvalue())


def _twice() -> bytes:
    import warnings

    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.tif", tiff_image(4, 4))
        archive.writestr("a.tif", tiff_image(5, 5))
    return out.getvalue()


def _empties(folder: Path) -> Made:
    (folder / "empty-folder").mkdir()
    yield "empty-folder", folder / "empty-folder"
    noise = np.random.default_rng(5).bytes(64 << 10)
    for extension in EXTENSIONS:
        yield _file(folder, f"empty{extension}", b"")
        yield _file(folder, f"noise{extension}", noise)
    for name, magic in MAGIC.items():
        yield _file(folder, f"noise-after-magic.{name}", magic + noise)
        yield _file(folder, f"only-magic.{name}", magic)


MAGIC: Final = {
    "dcm": bytes(128) + b"DICM",
    "tif": b"II*\0",
    "big.tif": b"MM\0\x2b\0\x08\0\0",
    "dm3": b"\0\0\0\x03",
    "dm4": b"\0\0\0\x04\0\0\0\0\0\x01\0\0\0\0\0\x01",
    "ser": b"II\x97\x01",
    "h5": b"\x89HDF\r\n\x1a\n",
    "nii": nifti_header(4, 4, 4)[:348],
    "nii.gz": b"\x1f\x8b\x08\0\0\0\0\0",
    "bz2.mrc": b"BZh9",
    "npy": b"\x93NUMPY\x01\x00",
    "ndata1": b"PK\x03\x04",
    "blo": b"\0\0" + b"IMGBLO",
    "mp4": b"\0\0\0\x20ftypisom",
    "avi": b"RIFF\xff\xff\xff\xffAVI LIST",
    "mkv": b"\x1aE\xdf\xa3",
    "gif": b"GIF89a\xff\xff\xff\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff\xe0",
    "bmp": b"BM",
}


def _lies(folder: Path) -> Made:
    yield _file(folder, "nifti-32767-to-the-4.nii", nifti_header(32767, 32767, 32767, 32767) + bytes(999))
    yield _file(folder, "nifti-negative.nii", nifti_header(-5, 10, 10) + bytes(2000))
    yield _file(folder, "nifti-offset.nii", nifti_header(4, 4, 4)[:108] + struct.pack("<f", 1e30) + nifti_header(4, 4, 4)[112:])
    yield _file(
        folder, "nifti-nan-offset.nii", nifti_header(4, 4)[:108] + struct.pack("<f", float("nan")) + nifti_header(4)[112:]
    )
    yield _file(folder, "tiff-million-square.tif", tiff_image(1_000_000, 1_000_000))
    yield _file(folder, "tiff-2-to-the-32.tif", tiff_image(0xFFFFFFFF, 0xFFFFFFFF, count=0xFFFFFFFF))
    yield _file(folder, "tiff-million-strips.tif", tiff_image(16, 1_000_000, rows=1))
    yield _file(folder, "tiff-loop.tif", tiff_image(4, 4, following=8))
    yield _file(folder, "tiff-beyond.tif", tiff_image(4, 4, following=0xFFFFFF00))
    yield _file(folder, "tiff-tag-count.tif", tiff_directory((256, 4, 0xFFFFFFFF, 0), (257, 4, 0xFFFFFFFF, 0)))
    yield _file(folder, "tiff-huge-description.tif", tiff_directory((270, 2, 0xFFFFFFF0, 8)))
    header = np.zeros(1, mrcfile.dtypes.HEADER_DTYPE)
    header["nx"] = header["ny"] = header["nz"] = 2**31 - 1
    header["mode"], header["map"], header["machst"], header["nversion"] = 2, b"MAP ", [0x44, 0x44, 0, 0], 20140
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    yield _file(folder, "mrc-2-to-the-31.mrc", header.tobytes() + bytes(99))
    header["nx"] = header["ny"] = header["nz"] = -1
    yield _file(folder, "mrc-negative.mrc", header.tobytes() + bytes(99))
    header["nx"] = header["ny"] = header["nz"] = 4
    header["nsymbt"] = 2**31 - 1
    yield _file(folder, "mrc-extended.mrc", header.tobytes() + bytes(999))
    huge = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 2**31 - 1}
    dicom(folder / "dicom-huge.dcm", bytes(100), **huge)
    yield "dicom-huge.dcm", folder / "dicom-huge.dcm"
    dicom(folder / "dicom-rle-huge.dcm", struct.pack("<16I", 2, 64, 70, *[0] * 13) + bytes(99), syntax=RLELossless, **huge)
    yield "dicom-rle-huge.dcm", folder / "dicom-rle-huge.dcm"
    one = {"Rows": 65535, "Columns": 65535}
    rle = struct.pack("<16I", 2, 64, 70, *[0] * 13) + b"\x81\0" * 99
    dicom(folder / "dicom-rle-frame.dcm", rle, syntax=RLELossless, **one)
    yield "dicom-rle-frame.dcm", folder / "dicom-rle-frame.dcm"
    dicom(folder / "dicom-zero.dcm", bytes(100), Rows=0, Columns=0)
    yield "dicom-zero.dcm", folder / "dicom-zero.dcm"
    j2k = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH3B", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1, 15, 1, 1)
    jpeg2000 = "1.2.840.10008.1.2.4.90"
    dicom(folder / "dicom-j2k-huge.dcm", j2k + bytes(99), syntax=jpeg2000, Rows=60000, Columns=60000)
    yield "dicom-j2k-huge.dcm", folder / "dicom-j2k-huge.dcm"
    dicom(folder / "dicom-j2k-lies.dcm", j2k + bytes(99), syntax=jpeg2000, Rows=16, Columns=16)
    yield "dicom-j2k-lies.dcm", folder / "dicom-j2k-lies.dcm"
    deflated = "1.2.840.10008.1.2.1.99"
    bomb = b"".join(deflated_zeros(b"", 2 << 30))
    meta = io.BytesIO()
    info = FileMetaDataset()
    info.MediaStorageSOPClassUID, info.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    info.TransferSyntaxUID = pydicom.uid.UID(deflated)
    pydicom.filewriter.write_file_meta_info(meta, info)
    yield _file(folder, "dicom-deflate-bomb.dcm", bytes(128) + b"DICM" + meta.getvalue() + bomb)
    nested = b""
    for _ in range(3000):
        nested = (
            b"\xfe\xff\x00\xe0"
            + struct.pack("<I", len(nested) + 12)
            + b"\x40\x00\x75\x02SQ\0\0"
            + struct.pack("<I", len(nested))
            + nested
        )
    sequence = b"\x40\x00\x75\x02SQ\0\0" + struct.pack("<I", len(nested)) + nested
    info.TransferSyntaxUID = ExplicitVRLittleEndian
    meta = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(meta, info)
    yield _file(folder, "dicom-deep.dcm", bytes(128) + b"DICM" + meta.getvalue() + sequence)
    huge_npy = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 1000), }", bytes(64))
    pickled = npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", b"cposix\nsystem\n(S'touch owned'\ntR.")
    for name, data in (("huge", huge_npy), ("pickled", pickled)):
        yield _file(folder, f"nion-{name}.ndata1", zipped({"data.npy": data, "metadata.json": b"{}"}, zipfile.ZIP_STORED))
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }", bytes(64))
    yield _file(folder, "nion-deep.ndata1", zipped({"data.npy": good, "metadata.json": deep}, zipfile.ZIP_STORED))
    yield _file(folder, "nion-bomb.ndata1", zipped({"data.npy": good, "metadata.json": bytes(64 << 20)}))
    yield _file(
        folder, "ser-huge.ser", struct.pack("<HHHIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 2**31 - 1, 2**31 - 1) + bytes(999)
    )
    yield _file(
        folder,
        "dm4-huge.dm4",
        b"\0\0\0\x04" + struct.pack(">Q", 2**62) + b"\0\0\0\x01" + b"\1\0" + struct.pack(">Q", 2**60) + bytes(99),
    )
    yield _file(folder, "tvips-huge.tvips", struct.pack("<8i", 256, 2, 100000, 100000, 16, 0, 0, 1) + bytes(999))
    yield _file(folder, "blo-huge.blo", b"\0\0IMGBLO" + bytes([0] * 6) + b"\xff" * 400 + bytes(999))


def _hdf5(folder: Path) -> Made:
    def new(name: str, write: Callable[[h5py.File], Any]) -> tuple[str, Path]:
        with h5py.File(folder / name, "w") as file:
            write(file)
        return name, folder / name

    yield new("hdf5-huge.h5", lambda f: f.create_dataset("a", (10**6, 10**6, 10**6), "f8", chunks=(64, 64, 64)))
    yield new("hdf5-huge-chunk.h5", lambda f: f.create_dataset("a", (60000, 60000), "u1", chunks=(60000, 60000)))
    yield new(
        "hdf5-bomb.h5", lambda f: f.create_dataset("a", data=np.zeros((1, 1 << 30), "u1"), chunks=(1, 1 << 30), compression=9)
    )
    yield new("hdf5-external-link.h5", lambda f: f.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/a")))
    yield new("hdf5-external-data.h5", lambda f: f.create_dataset("a", (64,), "u1", external=[("/etc/passwd", 0, 64)]))

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 4), "f4")
        layout[...] = h5py.VirtualSource("/etc/hostname.h5", "a", (4, 4))
        file.create_virtual_dataset("a", layout)

    yield new("hdf5-virtual.h5", virtual)

    def looped(file: h5py.File) -> None:
        file.create_group("g")["again"] = file["/"]

    yield new("hdf5-loop.h5", looped)

    def deep(file: h5py.File) -> None:
        at = file
        for _ in range(2000):
            at = at.create_group("g")
        at["image"] = np.zeros((4, 4))

    yield new("hdf5-deep.h5", deep)
    yield new("hdf5-wide.h5", lambda f: [f.create_group(str(k)) for k in range(5000)])
    yield new("hdf5-objects.h5", lambda f: f.create_dataset("a", data=np.array(["x", "y"], object), dtype=h5py.string_dtype()))
    yield new("hdf5-huge.emd", lambda f: f.create_dataset("data", (10**6, 10**6, 10**6), "f8", chunks=(64, 64, 64)))


def _zarrs(folder: Path) -> Made:
    def v3(name: str, **changes: Any) -> tuple[str, Path]:
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [64, 64],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "bytes", "configuration": {}}],
            "attributes": {},
            **changes,
        }
        return _document(name, document)

    def _document(name: str, document: Any) -> tuple[str, Path]:
        import json

        (folder / name).mkdir()
        (folder / name / "zarr.json").write_text(json.dumps(document))
        return name, folder / name

    def grid(*shape: int) -> dict[str, Any]:
        return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}

    yield v3("zarr-1e18.zarr", shape=[10**9, 10**9], chunk_grid=grid(64, 64))
    yield v3("zarr-chunk-terabyte.zarr", shape=[10**6, 10**6], chunk_grid=grid(10**6, 10**6))
    yield v3("zarr-zero-chunk.zarr", chunk_grid=grid(0, 0))
    yield v3("zarr-negative.zarr", shape=[-4, 4])
    yield v3("zarr-text-shape.zarr", shape=["4", None])
    image = {"version": "0.5", "multiscales": [{"axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]}]}
    for name, path in (("up", "../hdf5-huge.h5"), ("absolute", "/etc"), ("none", None)):
        image["multiscales"][0]["datasets"] = [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]  # type: ignore[index]
        yield _document(f"ome-{name}.zarr", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}})
    yield _document("zarr-group-of-nothing.zarr", {"zarr_format": 3, "node_type": "group"})
    yield _document("zarr-not-a-document.zarr", [1, 2, 3])
    group = folder / "zarr-deep.zarr"
    group.mkdir()
    (group / "zarr.json").write_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield "zarr-deep.zarr", group
    linked = folder / "zarr-link.zarr"
    array = zarr.create_array(linked, shape=(4, 4), chunks=(4, 4), dtype="u1", compressors=None, filters=None)
    array[...] = 7
    (linked / "c/0/0").unlink()
    (linked / "c/0/0").symlink_to("/etc/passwd")
    yield "zarr-link.zarr", linked
    loop = folder / "zarr-loop.zarr"
    zarr.create_group(loop)
    (loop / "again").symlink_to(loop)
    yield "zarr-loop.zarr", loop


def _bombs(folder: Path) -> Made:
    zeros_gzip(folder / "gigabyte.nii.gz", nifti_header(32767, 32767, 32767), 1)
    yield "gigabyte.nii.gz", folder / "gigabyte.nii.gz"
    zeros_gzip(folder / "small-then-ten-gigabytes.nii.gz", nifti_header(16, 16, 16), 10)
    yield "small-then-ten-gigabytes.nii.gz", folder / "small-then-ten-gigabytes.nii.gz"
    zeros_gzip(folder / "ten-gigabytes.mrc.gz", b"", 10)
    yield "ten-gigabytes.mrc.gz", folder / "ten-gigabytes.mrc.gz"
    yield _file(folder, "png-bomb.png", png(60000, 60000, 256))
    yield _file(folder, "png-lies.png", png(2**31 - 1, 2**31 - 1, 16))
    yield _file(folder, "png-small-with-bomb.png", png(10, 10, 512))
    jpeg = (
        b"\xff\xd8\xff\xc0"
        + struct.pack(">HBHHB3B", 11, 8, 65500, 65500, 1, 1, 17, 0)
        + b"\xff\xda\0\x08\1\1\0\0\x3f\0"
        + bytes(99)
    )
    yield _file(folder, "jpeg-lies.jpg", jpeg + b"\xff\xd9")
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<4H", 0, 0, 65535, 65535) + b"\0\2\2\x44\1\0"
    yield _file(folder, "gif-lies.gif", gif + frame * 100 + b";")
    for name, shape in (("square", (1 << 14, 1 << 15)), ("long", (1, 1 << 29))):
        strip = zlib_zeros(shape[0] * shape[1])
        tifffile.imwrite(
            folder / f"tiff-{name}-strip.tif", iter([strip]), shape=shape, dtype="u1", compression="zlib", rowsperstrip=shape[0]
        )
        yield f"tiff-{name}-strip.tif", folder / f"tiff-{name}-strip.tif"
    with gzip.open(folder / "gzip-in-gzip.nii.gz", "wb", 1) as file:
        file.write(gzip.compress(nifti_header(4, 4, 4) + bytes(128)))
    yield "gzip-in-gzip.nii.gz", folder / "gzip-in-gzip.nii.gz"
    movie = io.BytesIO()
    with av.open(movie, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), k, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = movie.getvalue()
    yield _file(folder, "half.mp4", data[: len(data) // 2])
    yield _file(folder, "half-with-index.mp4", _moov_first(data))


def _moov_first(data: bytes) -> bytes:
    """Return a movie with its index in front, cut in the middle of its frames."""
    at, boxes = 0, {}
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        boxes[data[at + 4 : at + 8]] = data[at : at + size]
        at += size
    return boxes[b"ftyp"] + boxes[b"moov"] + boxes[b"mdat"][: len(boxes[b"mdat"]) // 2]


def _names(folder: Path) -> Made:
    image = nifti_header(4, 4, 4) + bytes(128)
    for word, name in {
        "newline": b"a\nb.nii",
        "escape": b"a\x1b[2J\x07.nii",
        "right-to-left": "a\u202eiin.nii".encode(),
        "not-utf-8": b"caf\xe9.nii",
        "long": b"n" * 250 + b".nii",
        "dash": b"--all.nii",
        "backslash": b"a\\..\\b.nii",
        "percent": b"a%00b%2f.nii",
        "brackets": b"[red]a[b]*?.nii",
    }.items():
        path = Path(os.fsdecode(os.fsencode(folder) + b"/names-" + word.encode()))
        path.mkdir()
        file = Path(os.fsdecode(os.fsencode(path) + b"/" + name))
        file.write_bytes(image)
        yield f"name-{word}", file
        yield f"name-{word}-in-folder", path


def _folders(folder: Path) -> Made:
    def new(name: str) -> Path:
        path = folder / name
        path.mkdir()
        return path

    linked = new("folder-with-link-out")
    tifffile.imwrite(linked / "s1.tif", np.zeros((4, 4), "u1"))
    (linked / "s2.tif").symlink_to("/etc/passwd")
    yield "folder-with-link-out", linked
    loop = new("folder-with-loop")
    tifffile.imwrite(loop / "s1.tif", np.zeros((4, 4), "u1"))
    (loop / "again").symlink_to(loop)
    yield "folder-with-loop", loop
    special = new("folder-with-fifo-and-socket")
    tifffile.imwrite(special / "s1.tif", np.zeros((4, 4), "u1"))
    os.mkfifo(special / "s2.tif")
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(special)  # a socket's path must be short
        try:
            end.bind("s3.tif")
        finally:
            os.chdir(here)
    yield "folder-with-fifo-and-socket", special
    os.mkfifo(folder / "fifo.nii")
    yield "fifo.nii", folder / "fifo.nii"
    yield "device", Path("/dev/zero")
    yield "dangling", folder / "dangling.nii"
    (folder / "dangling.nii").symlink_to(folder / "nowhere")
    deep = new("folder-deep")
    here = Path.cwd()
    os.chdir(deep)
    try:
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.nii").write_bytes(nifti_header(4, 4, 4) + bytes(128))
    finally:
        os.chdir(here)
    yield "folder-deep", deep
    mixed = new("folder-mixed")
    for k, data in enumerate((tiff_image(4, 4), nifti_header(4, 4, 4) + bytes(128), b"")):
        (mixed / f"{k}.{'tif' if k != 1 else 'nii'}").write_bytes(data)
    yield "folder-mixed", mixed
