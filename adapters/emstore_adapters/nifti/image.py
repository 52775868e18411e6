"""One NIfTI image as its header describes it: where the voxels are, of which shape and type, and the header itself."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore.header import Header, RawHeader, json_safe
from emstore.source import SourceItem
from emstore_adapters.flat import EndOfData, PlainBytes
from emstore_adapters.gzip_stream import MAGIC, MAX_RATIO, GzipBytes, stated_size, unpacked_prefix, unpacked_size

HEADER_BYTES: Final = {1: 348, 2: 540}
_SINGLE: Final = {b"n+1\x00": 1, b"n+2\x00": 2}
_PAIR: Final = {b"ni1\x00": 1, b"ni2\x00": 2}
_MAX_PREFIX: Final = 64 << 20
"""Most that header and extensions may take up before the voxels, bytes."""
_MAX_COUNTED: Final = 4 << 30
"""Most that is unpacked at open to say how much of a suspicious gzip file is good, bytes."""
_RGB: Final = {128: 3, 2304: 4}


@dataclass(frozen=True)
class Image:
    """A parsed header and where the voxels are."""

    item: SourceItem
    header: Any
    """nibabel's header object; it has no types."""
    prefix_size: int
    path: Path
    """File that holds the voxels."""
    packed: bool
    offset: int
    shape: tuple[int, ...]
    """As the header says, ``(i, j, k, ...)``, at least three long."""
    dtype: np.dtype[Any]
    """Of one sample, in the file's byte order."""
    samples: int
    """Samples per voxel: 3 or 4 for RGB, else 1."""
    notes: tuple[str, ...]

    @property
    def disk_shape(self) -> tuple[int, ...]:
        """Shape in C order, slowest first, colour samples last."""
        return (*reversed(self.shape), *((self.samples,) if self.samples > 1 else ()))

    @property
    def nbytes(self) -> int:
        """Size of the voxels, bytes."""
        return math.prod(self.disk_shape) * self.dtype.itemsize


def recognise(head: bytes) -> tuple[int, bool] | None:
    """Return (NIfTI version, whether header and voxels share the file), or ``None``."""
    if head.startswith(MAGIC):
        head = unpacked_prefix(head[:4096], 1024)
    for version, at in ((1, 344), (2, 4)):
        size = HEADER_BYTES[version]
        if len(head) >= size and head[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            magic = head[at : at + 4]
            if _SINGLE.get(magic) == version:
                return version, True
            if _PAIR.get(magic) == version:
                return version, False
    return None


def header_beside(path: Path) -> Path | None:
    """Return the ``.hdr`` that belongs to an ``.img``, if it is there."""
    return sibling(path, ".img", ".hdr")


def sibling(path: Path, old: str, new: str) -> Path | None:
    """Return the other file of a pair, compressed or not, or ``None`` where it is not there."""
    name = path.name
    packed = name[-3:] if name.lower().endswith(".gz") else ""
    base = name[: len(name) - len(packed)]
    if not base.lower().endswith(old):
        return None
    changed = base[: -len(old)] + (new.upper() if base[-len(old) :].isupper() else new)
    for candidate in (changed + packed, changed, changed + ".gz"):
        beside = path.with_name(candidate)
        if beside.is_file() and not beside.is_symlink():
            return beside
    return None


def stem(name: str) -> str:
    """Return a file name without what NIfTI puts after the dot."""
    for ending in (".nii.gz", ".hdr.gz", ".nii", ".hdr", ".gz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def read_prefix(path: Path, name: str, count: int) -> bytes:
    """Return the first `count` unpacked bytes of a file."""
    out = bytearray(count)
    with path.open("rb") as file:
        packed = file.read(2) == MAGIC
    try:
        with (GzipBytes(path, name) if packed else PlainBytes(path, name)).open() as read_into:
            read_into(0, memoryview(out))
    except EndOfData as error:
        raise SourceIncomplete(
            f"the file ends inside its header, after {error.have} of {count} bytes: no slice is good",
            where=name,
            fix="copy the file again",
        ) from None
    return bytes(out)


def parse(item: SourceItem) -> Image:
    """Read one header and find the voxels.

    Raises
    ------
    SourceUnreadable, SourceIncomplete, Capacity
        The header makes no sense, is cut off, or cannot be kept; the other file of a pair is missing.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    known = recognise(item.head)
    if known is None:
        raise SourceUnreadable("is not a NIfTI file", where=item.name, fix="check that the file is what its name says")
    version, single = known
    block = read_prefix(item.path, item.name, HEADER_BYTES[version])
    notes: list[str] = []
    try:
        reader: Any = Nifti1Header if version == 1 else Nifti2Header
        header = reader(block, check=False)
        stated = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        vox_offset = float(header["vox_offset"])
    except (HeaderDataError, WrapStructError, ValueError, KeyError, IndexError) as error:
        raise SourceUnreadable(f"the NIfTI header makes no sense: {error}", where=item.name, fix="copy the file again") from error
    if not 1 <= len(stated) <= 7 or any(n < 1 for n in stated):
        raise SourceUnreadable(f"the NIfTI header states the shape {stated}", where=item.name, fix="copy the file again")
    if (
        not math.isfinite(vox_offset)
        or vox_offset < 0
        or vox_offset != int(vox_offset)
        or (single and vox_offset < HEADER_BYTES[version])
    ):
        raise SourceUnreadable(
            f"the NIfTI header states the voxel offset {vox_offset}", where=item.name, fix="copy the file again"
        )
    if single and vox_offset > _MAX_PREFIX:
        raise Capacity(f"the NIfTI header and its extensions take up {vox_offset:.0f} bytes", where=item.name)
    shape = stated + (1,) * (3 - len(stated))
    if len(stated) < 3:
        notes.append(f"the header states {len(stated)} dimensions; those left out count as 1.")
    samples = _RGB.get(int(header["datatype"]), 1)
    sample = np.dtype(np.uint8) if samples > 1 else dtype
    if sample.kind not in "iufc" or sample.itemsize > 16 or sample == np.dtype(np.longdouble):
        raise SourceUnreadable(
            f"voxels of type {dtype} cannot be kept exactly",
            where=item.name,
            fix="convert the file to float64 or an integer type",
            kind=Kind.SOURCE_UNSUPPORTED,
        )
    voxels = item.path if single else sibling(item.path, ".hdr", ".img")
    if voxels is None:
        raise SourceIncomplete(
            "the .img file that holds the voxels is not beside this header: no slice is good",
            where=item.name,
            fix="put both files of the pair in one folder",
        )
    with voxels.open("rb") as file:
        packed = file.read(2) == MAGIC
    return Image(
        item=item,
        header=header,
        prefix_size=int(vox_offset) if single else _unpacked_header_size(item),
        path=voxels,
        packed=packed,
        offset=int(vox_offset),
        shape=shape,
        dtype=sample,
        samples=samples,
        notes=tuple(notes),
    )


def _unpacked_header_size(item: SourceItem) -> int:
    """Return the size of a ``.hdr`` file with its extensions."""
    size = unpacked_size(item.path, _MAX_PREFIX + 1) if item.head.startswith(MAGIC) else item.size
    if size > _MAX_PREFIX:
        raise Capacity(f"the header file holds more than {_MAX_PREFIX} bytes", where=item.name)
    return size


def bytes_there(image: Image) -> int:
    """Return how many of the bytes the header promises the voxel file holds, as far as that can be told cheaply.

    A gzip file is believed when its trailer states exactly the expected size. Otherwise (cut off, several members, or
    data after the voxels) it is unpacked once, keeping nothing, to count; beyond 4 GiB that is left to the reading.
    """
    want = image.offset + image.nbytes
    size = image.path.stat().st_size
    if not image.packed:
        return min(want, size)
    possible = want <= size * MAX_RATIO + 1024
    if possible and stated_size(image.path) == want % (1 << 32):
        return want
    have = unpacked_size(image.path, min(want, _MAX_COUNTED))
    return want if possible and have == _MAX_COUNTED else have


def kept_header(image: Image) -> Header:
    """Return the header to keep: all fields, the list of extensions, and the bytes up to the voxels, unpacked."""
    header = image.header
    fields = {key: header[key] for key in header.keys()}
    prefix = partial(read_prefix, image.item.path, image.item.name, image.prefix_size)
    version = 1 if int(header["sizeof_hdr"]) == HEADER_BYTES[1] else 2
    tree = {"header": json_safe(fields), "extensions": _extensions(prefix(), HEADER_BYTES[version], header.endianness)}
    return Header(f"NIfTI-{version}", tree, raw=(RawHeader(f"{image.item.path.name}.header", prefix),))


def _extensions(prefix: bytes, start: int, endianness: str) -> list[dict[str, Any]]:
    """List the extensions between header and voxels (NIfTI-1, ``extender``); the bytes themselves are in the raw header."""
    found: list[dict[str, Any]] = []
    order: Any = "little" if endianness == "<" else "big"
    at = start + 4
    if len(prefix) < at or not prefix[start]:
        return found
    while at + 8 <= len(prefix):
        size = int.from_bytes(prefix[at : at + 4], order, signed=True)
        code = int.from_bytes(prefix[at + 4 : at + 8], order, signed=True)
        if size < 8 or at + size > len(prefix):
            break
        found.append({"code": code, "bytes": size, "content": json_safe(prefix[at + 8 : at + size])})
        at += size
    return found
