"""Frames of one file, read one at a time.

Plain frames are read straight from their place; compressed ones go, one by one, through pydicom's decoders, so values
equal pydicom's ``pixel_array`` (``YBR_FULL`` and ``YBR_FULL_422`` become RGB, palette indices stay indices).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore_adapters.dicom.codestream import stated_size
from emstore_adapters.dicom.fragments import FrameMap, map_frames
from emstore_adapters.dicom.layout import PixelLayout
from emstore_adapters.dicom.quiet import quiet
from emstore_adapters.dicom.reader import BIG_ENDIAN, FileBytes, unsupported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAME: Final = 1 << 30
"""Largest frame that is decoded, bytes."""

_RLE: Final = "1.2.840.10008.1.2.5"
# One order for everybody, so the same file decodes the same everywhere. GDCM first where pydicom's own order has it
# first and rounding could differ (lossy JPEG); elsewhere the decoder that survives damaged input best.
_DECODERS: Final = {
    "1.2.840.10008.1.2.4.50": ("gdcm", "pillow"),
    "1.2.840.10008.1.2.4.51": ("gdcm", "pillow"),
    "1.2.840.10008.1.2.4.57": ("gdcm",),
    "1.2.840.10008.1.2.4.70": ("gdcm",),
    "1.2.840.10008.1.2.4.80": ("pyjpegls",),
    "1.2.840.10008.1.2.4.81": ("pyjpegls",),
    "1.2.840.10008.1.2.4.90": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.91": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.201": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.202": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.203": ("pylibjpeg",),
    _RLE: ("pydicom",),  # pylibjpeg-rle aborts the whole process on damaged input
}


@dataclass(frozen=True)
class FrameReader:
    """Reads single frames of one file; opens it for each request, so several threads may read at once."""

    data: FileBytes
    layout: PixelLayout
    size: int
    """Size of the (inflated) file, bytes."""
    map: FrameMap | None
    """Where compressed frames lie; ``None`` for plain ones."""

    @classmethod
    def of(cls, data: FileBytes, layout: PixelLayout, size: int, dataset: "Dataset") -> "FrameReader":
        """Find every frame of a file without decoding any.

        Raises
        ------
        SourceUnreadable
            No decoder for its transfer syntax.
        Capacity
            One frame is larger than `MAX_FRAME`.
        """
        name = data.name
        if layout.rows * layout.columns * layout.samples * layout.dtype.itemsize > MAX_FRAME:
            raise Capacity(f"states one frame of {layout.rows} x {layout.columns}, above {MAX_FRAME >> 30} GiB", where=name)
        if layout.native:
            return cls(data, layout, size, None)
        if layout.syntax not in _DECODERS:
            from pydicom.uid import UID

            label = UID(layout.syntax).name
            raise unsupported(
                f"no decoder for its transfer syntax {label}", name, "convert it to an uncompressed or JPEG 2000 one"
            )
        with data.open() as file:
            found = map_frames(file, layout.element.value, size, layout.frames, dataset)
        return cls(data, layout, size, found)

    @property
    def good_frames(self) -> int:
        """Number of leading frames that are wholly in the file, at most the number promised."""
        if self.map is not None:
            return len(self.map.frames)
        room = min(self.layout.element.length, self.size - self.layout.element.value)
        return min(self.layout.frames, max(0, room) * 8 // self.layout.frame_bits)

    @property
    def end(self) -> int:
        """Offset just after the pixel data, bytes."""
        if self.map is not None:
            return self.map.end
        return min(self.size, self.layout.element.value + self.layout.element.length)

    def frame(self, index: int, rows: slice) -> npt.NDArray[Any]:
        """Read some rows of one frame.

        Parameters
        ----------
        index : int
            Frame, from 0.
        rows : slice
            Rows wanted, step 1.

        Returns
        -------
        ndarray, shape (rows, columns) or (rows, columns, samples)
            Stored values.

        Raises
        ------
        SourceUnreadable
            The frame is damaged.
        SourceIncomplete
            The file has become shorter.
        """
        if self.map is None:
            return self._plain(index, rows)
        fragments = self.map.frames[index]
        with self.data.open() as file:
            parts = []
            for offset, length in fragments:
                file.seek(offset)
                parts.append(file.read(length))
        return self._decode(b"".join(parts), index)[rows]

    def _plain(self, index: int, rows: slice) -> npt.NDArray[Any]:
        layout = self.layout
        swapped = layout.syntax == BIG_ENDIAN and layout.bits_allocated == 8
        simple = layout.samples == 1 and layout.bits_allocated >= 8 and not swapped
        first_bit = layout.frame_bits * index
        last_bit = first_bit + layout.frame_bits
        if simple:
            row_bits = layout.columns * layout.bits_allocated
            first_bit, last_bit = first_bit + row_bits * rows.start, first_bit + row_bits * rows.stop
        start, stop = first_bit // 8, -(-last_bit // 8)
        with self.data.open() as file:
            file.seek(layout.element.value + start)
            raw = file.read(stop - start)
        if len(raw) != stop - start:
            raise SourceIncomplete(f"ends inside frame {index + 1}; {index} frames before it are good", where=self.data.name)
        if layout.bits_allocated == 1:
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[first_bit % 8 :][: last_bit - first_bit]
            return bits.astype(layout.dtype).reshape(layout.rows, layout.columns)[rows]
        if not simple:
            return self._decode(raw, index)[rows]
        stored = layout.dtype.newbyteorder(">" if layout.syntax == BIG_ENDIAN else "<")
        return np.frombuffer(raw, stored).astype(layout.dtype, copy=False).reshape(-1, layout.columns)

    def _decode(self, raw: bytes, index: int) -> npt.NDArray[Any]:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.uid import UID

        layout = self.layout
        where = f"{self.data.name} frame {index + 1}" if layout.frames > 1 else self.data.name
        size = None if layout.native else stated_size(raw)
        if size is not None and size != (layout.rows, layout.columns):
            raise SourceUnreadable(
                f"its compressed frame is {size[0]} x {size[1]} pixels, its header says {layout.rows} x {layout.columns}",
                where=where,
                kind=Kind.SOURCE_INCONSISTENT,
            )
        if layout.syntax == _RLE and len(raw) * 8 > layout.frame_bits * 2 + 8192:
            raise SourceUnreadable(
                f"its compressed frame of {len(raw)} bytes is larger than RLE can make it",
                where=where,
                kind=Kind.SOURCE_INCONSISTENT,
            )
        source = raw if layout.native else encapsulate([raw], has_bot=False)
        failure: Exception | None = None
        for plugin in ("",) if layout.native else _DECODERS[layout.syntax]:
            try:
                with quiet():
                    values, _ = get_decoder(UID(layout.syntax)).as_array(
                        source, index=0, decoding_plugin=plugin, **layout.decoder_options()
                    )
            except Exception as error:  # noqa: BLE001  decoders raise anything; told as one error below
                failure = error
                continue
            return self._checked(values, where)
        raise SourceUnreadable(
            f"its pixels cannot be decoded ({type(failure).__name__})", where=where, fix="fetch the file again from its origin"
        ) from failure

    def _checked(self, values: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
        layout = self.layout
        expected = (layout.rows, layout.columns) + ((layout.samples,) if layout.samples > 1 else ())
        if values.shape != expected:
            raise SourceUnreadable(f"decodes to shape {values.shape}, its header says {expected}", where=where)
        if values.dtype.newbyteorder("=") != layout.dtype:
            raise SourceUnreadable(f"decodes to {values.dtype}, its header says {layout.dtype}", where=where)
        return values.astype(layout.dtype, copy=False)
