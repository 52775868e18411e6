"""How large a pixel is: the many places where TIFF writers put it, most trustworthy first.

OME-XML, ImageJ's description, the tags of Zeiss, FEI/Thermo Fisher, TVIPS and Gatan, and only then ``XResolution``, which
usually describes a printer: a resolution that is a usual screen or print setting is not a pixel size.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from emstore.geometry.units import convert, dimension
from emstore_adapters.calibrated import unit_of

_PRINT_DPI: Final = (
    1,
    64,
    72,
    75,
    90,
    96,
    100,
    120,
    144,
    150,
    180,
    192,
    200,
    240,
    300,
    350,
    360,
    400,
    600,
    720,
    1200,
    2400,
    4800,
)
"""Dots per inch that programs write without meaning a pixel size."""

_CLOSE: Final = 0.01


@dataclass(frozen=True)
class Scale:
    """Known distances between samples."""

    steps: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)
    """Axis name (``t z y x``) -> (distance, unit); axes that are not known are left out."""
    labels: tuple[str, ...] | None = None
    """Names of the channels."""
    name: str | None = None
    """Name the file gives to the image."""
    notes: tuple[str, ...] = ()


def number(value: Any) -> float | None:
    """Return a finite number above zero, else ``None``."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and found > 0 else None


def scale_of(file: Any, page: Any, index: int, width: int) -> Scale:
    """Return what a file says about the pixel size of one of its images.

    Parameters
    ----------
    file : tifffile.TiffFile
        The open file.
    page : tifffile.TiffPage
        First page of the image.
    index : int
        Which image of the file it is.
    width : int
        Columns of the page.
    """
    if file.is_ome:
        return _ome(file.ome_metadata, index)
    if file.is_imagej:
        return _imagej(file.imagej_metadata or {}, page)
    tags = page.tags
    fei = 34682 if 34682 in tags else 34680
    for code, found in (
        (34118, _zeiss(tags.valueof(34118), width)),
        (fei, _fei(tags.valueof(fei), width)),
        (37706, _tvips(tags.valueof(37706), page)),
        (65009, _gatan(tags)),
    ):
        if code in tags and (found.steps or found.notes):
            return found
    return _resolution(page)


def _ome(xml: str | None, index: int) -> Scale:
    """Read OME-XML (OME schema 2016-06, ``Pixels``): sizes are in micrometer and second unless said otherwise."""
    try:
        images = [node for node in ET.fromstring(xml or "").iter() if node.tag.rpartition("}")[2] == "Image"]
    except ET.ParseError:
        return Scale(notes=("the OME-XML description is not well-formed; pixel sizes are unknown.",))
    if index >= len(images):
        return Scale()
    pixels = next((node for node in images[index] if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return Scale()
    steps = {}
    for axis, key, default in (("x", "PhysicalSizeX", "µm"), ("y", "PhysicalSizeY", "µm"), ("z", "PhysicalSizeZ", "µm"),
                               ("t", "TimeIncrement", "s")):  # fmt: skip
        step = number(pixels.get(key))
        if step is not None:
            steps[axis] = (step, unit_of(pixels.get(f"{key}Unit", default)))
    channels = [node for node in pixels if node.tag.rpartition("}")[2] == "Channel"]
    names = tuple(node.get("Name") or node.get("ID") or str(i) for i, node in enumerate(channels))
    return Scale(steps, names if any(node.get("Name") for node in channels) else None, images[index].get("Name"))


def _imagej(facts: Mapping[str, Any], page: Any) -> Scale:
    """Read ImageJ's description: ``unit``, ``spacing`` and ``finterval``; x and y are 1 / XResolution in ``unit``."""
    steps: dict[str, tuple[float, str | None]] = {}
    unit = unit_of(_unescaped(facts.get("unit")))
    if unit is None:
        steps.update(_resolution(page).steps)
    else:
        for axis, code, own in (("x", 282, "xunit"), ("y", 283, "yunit")):
            step = _per(page, code)
            if step is not None:
                steps[axis] = (step, unit_of(_unescaped(facts.get(own))) or unit)
        depth = number(facts.get("spacing"))
        if depth is not None:
            steps["z"] = (depth, unit_of(_unescaped(facts.get("zunit"))) or unit)
    interval = number(facts.get("finterval"))
    if interval is not None:
        steps["t"] = (interval, unit_of(facts.get("tunit")) or "second")
    notes = () if unit else ("ImageJ states no unit: the voxel size is unknown.",) if "spacing" in facts and not steps else ()
    return Scale(steps, notes=notes)


def _unescaped(word: Any) -> str | None:
    return word.replace("\\u00B5", "µ").replace("\\u00b5", "µ") if isinstance(word, str) else None


def _zeiss(facts: Any, width: int) -> Scale:
    """Read Zeiss SmartSEM's tag 34118.

    The unnamed first numbers hold the pixel size, in meter, of an image 1024 columns wide; ``ap_image_pixel_size`` that of
    the stored image, rounded. ``ap_pixel_size`` is about the screen and wrong for other widths.
    """
    if not isinstance(facts, Mapping):
        return Scale()
    exact = None
    row = facts.get("")
    if isinstance(row, tuple | list) and len(row) > 3:
        base = number(row[3])
        exact = None if base is None else base * 1024 / width
    rounded = None
    for key, divide in (("ap_image_pixel_size", 1), ("ap_width", width)):
        entry = facts.get(key)
        if rounded is None and isinstance(entry, tuple) and len(entry) == 3:
            value, unit = number(entry[1]), unit_of(str(entry[2]))
            if value is not None and unit is not None and dimension(unit) == "length":
                rounded = convert(value, unit, "meter") / divide
    if exact is None and rounded is None:
        return Scale()
    if exact is not None and rounded is not None and not math.isclose(exact, rounded, rel_tol=_CLOSE):
        note = f"Zeiss's tag gives two pixel sizes, {exact:g} m and {rounded:g} m: the one stated for this image is used."
        return Scale({"y": (rounded, "meter"), "x": (rounded, "meter")}, notes=(note,))
    step = exact if exact is not None else rounded
    assert step is not None
    return Scale({"y": (step, "meter"), "x": (step, "meter")})


def _fei(facts: Any, width: int) -> Scale:
    """Read FEI's and Thermo Fisher's tags 34680 and 34682: the scan's pixel size, or field width over columns; meter."""
    if not isinstance(facts, Mapping):
        return Scale()
    beam = facts.get("Beam", {})
    scans = [facts.get("Scan"), facts.get(str(beam.get("Scan")))]
    for scan in scans:
        if isinstance(scan, Mapping):
            x, y = number(scan.get("PixelWidth")), number(scan.get("PixelHeight"))
            if x is not None and y is not None:
                return Scale({"y": (y, "meter"), "x": (x, "meter")})
    own, image = facts.get(str(beam.get("Beam"))), facts.get("Image", {})
    if isinstance(own, Mapping):
        x, y = number(own.get("HFW")), number(own.get("VFW"))
        rows = number(image.get("ResolutionY"))
        if x is not None and y is not None and rows is not None:
            return Scale({"y": (y / rows, "meter"), "x": (x / width, "meter")})
    return Scale(notes=("the FEI tag states no pixel size for this image: it is unknown.",))


def _tvips(facts: Any, page: Any) -> Scale:
    """Read TVIPS's tag 37706, version 2: pixel size in nanometer, checked against ``XResolution``."""
    x, y = (number(facts.get(key)) for key in ("PixelSizeX", "PixelSizeY")) if isinstance(facts, Mapping) else (None, None)
    if x is None or y is None:
        return Scale()
    other = _resolution(page).steps.get("x")
    if (
        other is not None
        and other[1] is not None
        and not math.isclose(convert(other[0], other[1], "nanometer"), x, rel_tol=_CLOSE)
    ):
        return Scale(notes=(f"the TVIPS tag says {x:g} nm per pixel, XResolution {other[0]:g} {other[1]}: it is unknown.",))
    return Scale({"y": (y, "nanometer"), "x": (x, "nanometer")})


def _gatan(tags: Any) -> Scale:
    """Read the calibration that Gatan's DigitalMicrograph writes: tags 65009 to 65014, x first."""
    steps = {}
    for i, axis in enumerate("xyz"):
        step = number(tags.valueof(65009 + i))
        unit = unit_of(tags.valueof(65012 + i)) or unit_of(tags.valueof(65003 + i))
        if step is not None and unit is not None:
            steps["t" if axis == "z" and dimension(unit) == "time" else axis] = (step, unit)
    return Scale(steps)


def _per(page: Any, code: int) -> float | None:
    """Return 1 / resolution from a rational tag."""
    value = page.tags.valueof(code)
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    top, bottom = number(value[0]), number(value[1])
    return None if top is None or bottom is None else bottom / top


def _resolution(page: Any) -> Scale:
    """Read ``XResolution``, ``YResolution`` and ``ResolutionUnit`` (TIFF 6.0, section 8), unless they describe a printer."""
    stated = page.tags.valueof(296)
    unit = {2: "inch", 3: "centimeter"}.get(2 if stated is None else int(stated))
    x, y = _per(page, 282), _per(page, 283)
    if unit is None or x is None or y is None or 1.0 in (x, y):  # one per unit is what writers put when they do not know
        return Scale()
    dots = [1 / convert(step, unit, "inch") for step in (x, y)]
    if any(math.isclose(dot, usual, rel_tol=5e-3) for dot in dots for usual in _PRINT_DPI) or min(dots) < 1:
        return Scale(notes=(f"{dots[0]:g} dots per inch is a screen or print setting: the pixel size is unknown.",))
    return Scale({"y": (y, unit), "x": (x, unit)})
