"""How one chunk becomes bytes and back, exactly as its Zarr v3 metadata says.

The codecs are ``bytes`` (little-endian), one compressor, and ``crc32c`` last: a checksum over the compressed bytes catches
every bit flip, where zstd alone decodes most of them to wrong values. Compressors, all lossless: zstd-1 for 8-bit images
(shuffling bits only hurts noisy 8-bit data), blosc-zstd-3 with bit shuffle for wider numbers, blosc-zstd-1 with byte
shuffle for labels.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput, Kind
from emstore.volume import VolumeKind

CHECKSUM_BYTES: Final = 4
MAX_CHUNK_BYTES: Final = 64 << 20
"""Chunks that decode to more than this are refused unread; emstore writes none above about 1 MiB."""

# crc32c of any message followed by its own little-endian crc32c, so that a chunk is checked without copying it.
_RESIDUE: Final = 0x48674BC7
_ZSTD_MAGIC: Final = 0xFD2FB528
_SHUFFLES: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_DATA_TYPES: Final = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)

Encoded = tuple[bytes, bytes]
"""One chunk's compressed bytes and its checksum, kept apart so that joining them costs no copy of its own."""


@dataclass(frozen=True)
class Compressor:
    """One of the two compressors emstore writes."""

    name: str
    """``zstd`` or ``blosc`` (which holds zstd)."""
    level: int
    shuffle: str = "noshuffle"
    """Blosc's filter: ``noshuffle``, ``shuffle`` or ``bitshuffle``."""


@dataclass(frozen=True)
class ChunkCodec:
    """Encodes and decodes chunks of one array."""

    dtype: np.dtype[Any]
    """Native-order type of the values in memory."""
    shape: tuple[int, ...]
    """Shape of every chunk."""
    compressor: Compressor

    @classmethod
    def choose(cls, dtype: np.dtype[Any], shape: tuple[int, ...], kind: VolumeKind = VolumeKind.IMAGE) -> "ChunkCodec":
        """Return the codec for values of one type and kind.

        Raises
        ------
        InvalidInput
            Kind ``source_unsupported``: Zarr v3 has no such type (extended precision, objects, text), or complex labels.
        """
        dtype = dtype.newbyteorder("=")
        if dtype.name not in _DATA_TYPES:
            raise InvalidInput(
                f"values of type {dtype} cannot be stored",
                fix="convert them to a number of at most 64 bits (128 for complex)",
                kind=Kind.SOURCE_UNSUPPORTED,
            )
        if kind is VolumeKind.LABELS and dtype.kind == "c":
            raise InvalidInput("labels cannot be complex numbers", fix="store them as an image", kind=Kind.SOURCE_UNSUPPORTED)
        if kind is VolumeKind.LABELS:
            return cls(dtype, shape, Compressor("blosc", 1, "shuffle"))
        if dtype.itemsize == 1:
            return cls(dtype, shape, Compressor("zstd", 1))
        return cls(dtype, shape, Compressor("blosc", 3, "bitshuffle"))

    @property
    def nbytes(self) -> int:
        """Size of a decoded chunk, bytes."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size

    def is_fill(self, chunk: npt.NDArray[Any]) -> bool:
        """Say whether a C-contiguous chunk is all zero bits, so that it need not be stored; ``-0.0`` is not."""
        flat = chunk.reshape(-1).view(np.uint8)
        if flat[0] or flat[-1]:
            return False
        return not (flat.view(np.uint64) if flat.size % 8 == 0 else flat).any()

    def encode(self, chunk: npt.NDArray[Any]) -> Encoded:
        """Encode one C-contiguous chunk of `shape` in either byte order."""
        if not chunk.dtype.isnative:
            chunk = chunk.astype(self.dtype)
        data: bytes
        if self.compressor.name == "zstd":
            data = numcodecs.zstd.compress(chunk, self.compressor.level)
        else:
            shuffle = _SHUFFLES[self.compressor.shuffle]
            flat = chunk.reshape(-1).view(np.uint8)
            data = numcodecs.blosc.compress(flat, b"zstd", self.compressor.level, shuffle, 0, self.dtype.itemsize)
        return data, int(google_crc32c.value(data)).to_bytes(CHECKSUM_BYTES, "little")

    def decode(self, data: bytes, where: str, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Check and decode one chunk.

        Parameters
        ----------
        data : bytes
            Compressed bytes followed by their crc32c.
        where : str
            Names the chunk in errors.
        out : ndarray, optional
            C-contiguous array of `shape` and `dtype` to decode into; a new one by default.

        Raises
        ------
        Damaged
            The checksum does not fit, or the bytes do not decode to exactly one chunk.
        """
        if len(data) <= CHECKSUM_BYTES or google_crc32c.value(data) != _RESIDUE:
            raise _damaged("the checksum does not fit the bytes", where)
        payload = memoryview(data)[:-CHECKSUM_BYTES]
        zstd = self.compressor.name == "zstd"
        # The decoders below allocate nothing themselves: the target's size is the cap on what may come out.
        if (zstd_content_size(payload) if zstd else blosc_content_size(payload)) != self.nbytes:
            raise _damaged(f"it does not hold exactly {self.nbytes} bytes", where)
        target = np.empty(self.shape, self.dtype) if out is None else out
        flat = target.reshape(-1).view(np.uint8)
        try:
            if zstd:
                numcodecs.zstd.decompress(payload, flat)
            else:
                numcodecs.blosc.decompress(payload, flat)
        except (RuntimeError, ValueError) as error:
            raise _damaged("the bytes cannot be decompressed", where) from error
        return target

    def to_json(self) -> list[dict[str, Any]]:
        """Return the ``codecs`` list of Zarr v3 metadata for unsharded chunks (or inside a shard)."""
        one_byte = self.dtype.itemsize == 1
        first: dict[str, Any] = {"name": "bytes"} if one_byte else {"name": "bytes", "configuration": {"endian": "little"}}
        compressor = self.compressor
        if compressor.name == "zstd":
            second: dict[str, Any] = {"name": "zstd", "configuration": {"level": compressor.level, "checksum": False}}
        else:
            configuration = {"typesize": self.dtype.itemsize, "cname": "zstd", "clevel": compressor.level}
            second = {"name": "blosc", "configuration": {**configuration, "shuffle": compressor.shuffle, "blocksize": 0}}
        return [first, second, {"name": "crc32c"}]

    @classmethod
    def from_json(cls, codecs: Sequence[Mapping[str, Any]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> "ChunkCodec":
        """Rebuild the codec that `to_json` described.

        Raises
        ------
        Damaged
            Codecs emstore does not write, or chunks beyond the cap.
        """
        match [dict(codec) for codec in codecs]:
            case [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": int(level)}}, {"name": "crc32c"}]:
                compressor = Compressor("zstd", level)
            case [
                {"name": "bytes"},
                {"name": "blosc", "configuration": {"cname": "zstd", "clevel": int(level), "shuffle": str(shuffle)}},
                {"name": "crc32c"},
            ] if shuffle in _SHUFFLES:
                compressor = Compressor("blosc", level, shuffle)
            case _:
                raise Damaged("the array's codecs are not ones emstore writes", where="zarr.json")
        codec = cls(dtype, shape, compressor)
        if not 0 < codec.nbytes <= MAX_CHUNK_BYTES:
            raise Damaged(f"the array's chunks claim {codec.nbytes} bytes each", where="zarr.json")
        return codec


def data_type(name: str) -> np.dtype[Any]:
    """Return the NumPy type of a Zarr v3 ``data_type`` name.

    Raises
    ------
    Damaged
        The name is not one emstore writes.
    """
    if name not in _DATA_TYPES:
        raise Damaged(f"data type {name!r} is not one emstore writes", where="zarr.json")
    return np.dtype(name)


def fill_json(dtype: np.dtype[Any]) -> Any:
    """Return zero as Zarr v3 writes it for a type."""
    match dtype.kind:
        case "b":
            return False
        case "f":
            return 0.0
        case "c":
            return [0.0, 0.0]
        case _:
            return 0


def zstd_content_size(data: memoryview) -> int:
    """Return the size a zstd frame says it decodes to (RFC 8878, 3.1.1.1), or -1 when it does not say or is no frame."""
    if len(data) < 9 or int.from_bytes(data[:4], "little") != _ZSTD_MAGIC:
        return -1
    descriptor = data[4]
    single, size_flag = descriptor >> 5 & 1, descriptor >> 6
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[size_flag]
    if width == 0:
        return -1
    return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)


def blosc_content_size(data: memoryview) -> int:
    """Return the size a blosc buffer says it decodes to (bytes 4-7 of its header), or -1 when its sizes do not add up."""
    if len(data) < 16:
        return -1
    nbytes, _, cbytes = struct.unpack_from("<III", data, 4)
    return int(nbytes) if cbytes == len(data) else -1


def _damaged(what: str, where: str) -> Damaged:
    return Damaged(what, where=where, fix="run `emstore verify --data`; restore the object from a copy")
