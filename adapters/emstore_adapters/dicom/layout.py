"""What the pixel data of one file look like, checked before anything is decoded (PS3.3 C.7.6.3, Image Pixel Module)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.errors import Kind, SourceUnreadable
from emstore_adapters.dicom import values
from emstore_adapters.dicom.reader import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, ParsedFile, PixelElement, unsupported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NATIVE: Final = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, "1.2.840.113619.5.2"})
"""Transfer syntaxes whose pixel data are plain samples."""

_FLOAT_BITS: Final = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}


@dataclass(frozen=True)
class PixelLayout:
    """Size, type and encoding of a file's frames."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int
    syntax: str
    element: PixelElement

    @property
    def native(self) -> bool:
        """Whether frames are plain samples, not compressed ones."""
        return self.syntax in NATIVE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values, in native byte order."""
        if self.element.keyword != "PixelData":
            return np.dtype(f"f{self.bits_allocated // 8}")
        return np.dtype(f"{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def subsampled(self) -> bool:
        """Whether plain samples hold two colour samples for four pixels (``YBR_FULL_422``)."""
        return self.native and self.photometric == "YBR_FULL_422" and self.samples == 3

    @property
    def frame_bits(self) -> int:
        """Size of one plain frame, bits."""
        per_pixel = 2 if self.subsampled else self.samples
        return self.rows * self.columns * per_pixel * self.bits_allocated

    def decoder_options(self) -> dict[str, Any]:
        """Return the options that pydicom's decoders want for one frame of this layout."""
        options: dict[str, Any] = {
            "rows": self.rows,
            "columns": self.columns,
            "number_of_frames": 1,
            "samples_per_pixel": self.samples,
            "bits_allocated": self.bits_allocated,
            "bits_stored": self.bits_stored,
            "pixel_representation": int(self.signed),
            "photometric_interpretation": self.photometric,
            "pixel_keyword": self.element.keyword,
            "pixel_vr": self.element.vr,
        }
        return options | ({"planar_configuration": self.planar} if self.samples > 1 else {})


def pixel_layout(parsed: ParsedFile) -> PixelLayout:
    """Return the layout that a file's header states.

    Raises
    ------
    SourceUnreadable
        The header leaves out or contradicts what is needed to decode the pixels.
    """
    element, dataset, name = parsed.pixels, parsed.dataset, parsed.item.name
    if element is None:
        raise SourceUnreadable("holds no pixel data", where=name)
    bits = _FLOAT_BITS.get(element.keyword) or _whole(dataset, "BitsAllocated", name)
    if bits not in (1, 8, 16, 32, 64):
        raise unsupported(
            f"uses {bits} bits per sample; 1, 8, 16, 32 and 64 can be read", name, "convert it with its own software"
        )
    samples = _whole(dataset, "SamplesPerPixel", name, 1)
    if samples not in (1, 3, 4):
        raise unsupported(f"has {samples} samples per pixel; 1, 3 and 4 can be read", name, "convert it with its own software")
    stored = values.integer(dataset, "BitsStored") or bits
    photometric = values.text(dataset, "PhotometricInterpretation") or ("MONOCHROME2" if samples == 1 else "RGB")
    layout = PixelLayout(
        rows=_whole(dataset, "Rows", name),
        columns=_whole(dataset, "Columns", name),
        frames=_frames(dataset, name),
        samples=samples,
        bits_allocated=bits,
        bits_stored=stored if 0 < stored <= bits else bits,
        signed=values.integer(dataset, "PixelRepresentation") == 1,
        photometric=photometric.upper(),
        planar=1 if values.integer(dataset, "PlanarConfiguration") == 1 else 0,
        syntax=parsed.syntax,
        element=element,
    )
    if not layout.native and not parsed.stated:
        raise SourceUnreadable("does not say how its pixels are encoded", where=name)
    if layout.native and layout.element.length == 0xFFFFFFFF:
        raise SourceUnreadable(
            "says its pixels are plain, yet they are wrapped as if compressed", where=name, kind=Kind.SOURCE_INCONSISTENT
        )
    return layout


def _whole(dataset: "Dataset", keyword: str, name: str, default: int | None = None) -> int:
    if default is not None and values.get(dataset, keyword) is None and keyword not in dataset:
        return default
    value = values.integer(dataset, keyword)
    if value is None or value < 1:
        raise SourceUnreadable(f"its header has no usable {keyword}", where=name, fix="fetch the file again from its origin")
    return value


def _frames(dataset: "Dataset", name: str) -> int:
    if "NumberOfFrames" not in dataset or dataset.get_item("NumberOfFrames").value in (None, "", b""):
        return 1
    return _whole(dataset, "NumberOfFrames", name)
