"""Pixel spacing of images that state no place in space: projections, ultrasound, captures.

``ImagerPixelSpacing`` is measured at the detector (PS3.3 10.7.1.3), so it is not the size of anything in the patient:
it is kept as a fact and the spacing stays unknown, unless the header states the magnification in between.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from emstore.geometry import units
from emstore_adapters.dicom import values

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CENTIMETERS: Final = 3
"""Code of centimetres in ``PhysicalUnitsXDirection`` (PS3.3 C.8.5.5.1.15)."""
_PROJECTIONS: Final = frozenset({"xa", "rf", "cr", "dx", "mg", "px", "io", "rg"})


@dataclass(frozen=True)
class PixelSpacing:
    """Distance between rows and between columns, and where that is from."""

    rows: float | None = None
    """Millimetres; ``None`` when not known."""
    columns: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pixel_spacing(dataset: "Dataset", modality: str | None) -> PixelSpacing:
    """Return the spacing in the patient of an image without a place in space."""
    if "SequenceOfUltrasoundRegions" in dataset:
        return _ultrasound(dataset)
    stated = _pair(dataset, "PixelSpacing")
    imager = _pair(dataset, "ImagerPixelSpacing")
    attributes: dict[str, Any] = {}
    if imager is not None:
        attributes["imager_pixel_spacing"] = {"y": imager[0], "x": imager[1], "unit": "millimeter", "at": "detector"}
    nominal = _pair(dataset, "NominalScannedPixelSpacing")
    if nominal is not None:
        attributes["nominal_scanned_pixel_spacing"] = {"y": nominal[0], "x": nominal[1], "unit": "millimeter"}
    calibration = values.text(dataset, "PixelSpacingCalibrationType")
    if stated is not None:
        if modality in _PROJECTIONS and calibration is None and imager is not None and _same(stated, imager):
            note = "PixelSpacing repeats ImagerPixelSpacing (at the detector) without a calibration, so the spacing is not known."
            return PixelSpacing(attributes=attributes, notes=(note,))
        how = f"calibrated, {calibration}" if calibration else "as stated"
        return PixelSpacing(*stated, attributes, (f"Pixel spacing is PixelSpacing ({how}).",))
    if imager is None:
        return PixelSpacing(attributes=attributes)
    magnification = values.number(dataset, "EstimatedRadiographicMagnificationFactor")
    if magnification is not None and magnification >= 1:
        note = (
            f"Pixel spacing is ImagerPixelSpacing (at the detector) divided by the estimated magnification {magnification:g}; "
            "it holds in the plane that the device assumes."
        )
        return PixelSpacing(imager[0] / magnification, imager[1] / magnification, attributes, (note,))
    note = "Only ImagerPixelSpacing (at the detector) is stated; the spacing in the patient is not known."
    return PixelSpacing(attributes=attributes, notes=(note,))


def _ultrasound(dataset: "Dataset") -> PixelSpacing:
    """Return the spacing of the tissue regions when they agree (PS3.3 C.8.5.5)."""
    regions = []
    found: set[tuple[float, float]] = set()
    for region in values.items(dataset, "SequenceOfUltrasoundRegions"):
        delta = values.number(region, "PhysicalDeltaY"), values.number(region, "PhysicalDeltaX")
        unit = values.integer(region, "PhysicalUnitsYDirection"), values.integer(region, "PhysicalUnitsXDirection")
        form = values.integer(region, "RegionSpatialFormat")
        corners = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
        regions.append(
            {
                "format": form,
                "data_type": values.integer(region, "RegionDataType"),
                "box": [values.integer(region, corner) for corner in corners],
                "delta": list(delta),
                "unit_codes": list(unit),
            }
        )
        if form == 1 and unit == (_CENTIMETERS, _CENTIMETERS) and delta[0] and delta[1]:
            found.add((abs(delta[0]), abs(delta[1])))
    attributes = {"ultrasound_regions": regions}
    if len(found) == 1:
        down, across = (round(units.convert(v, "centimeter", "millimeter"), 12) for v in found.pop())
        return PixelSpacing(down, across, attributes, ("Pixel spacing is that of the ultrasound region(s) showing tissue.",))
    why = "have different spacings" if found else "state no spacing of tissue"
    return PixelSpacing(attributes=attributes, notes=(f"The ultrasound regions {why}, so the spacing is not known.",))


def _pair(dataset: "Dataset", keyword: str) -> tuple[float, float] | None:
    found = values.numbers(dataset, keyword, 2)
    return (found[0], found[1]) if found is not None and min(found) > 0 else None


def _same(one: tuple[float, float], two: tuple[float, float]) -> bool:
    return all(abs(a - b) <= 1e-6 * b for a, b in zip(one, two, strict=True))
