"""Thermo Fisher Velox EMD: HDF5 with one JSON description per image, spectrum and event stream.

rosettasciio finds titles, detectors and calibrations; images and spectra are then read by hyperslab, EDS spectrum images
from their event stream (see `emstore_adapters.em.events`). As in rosettasciio's default, all EDS detectors and frames are
summed, and of images that accompany a spectrum image the first frame is taken. Raw header: the JSON blob of the signal's
first frame without its NUL padding.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from emstore.errors import Kind, SourceUnreadable
from emstore.header import RawHeader
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray
from emstore_adapters.em import events, hdf5, terms
from emstore_adapters.em.arrays import View
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format
from emstore_adapters.em.library import guarded, require
from emstore_adapters.em.signals import Signal


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return spectra, images and spectrum images, in rosettasciio's order."""
    require(Format.VELOX, item.name)
    signals: list[Signal] = []
    with hdf5.opened(item.path, item.name) as file, guarded(item.name) as notes:
        data = file["Data"]
        for kind, choice in (("Spectrum", "single_spectrum"), ("Image", "images")):
            described = _described(file, choice)
            keys = list(data[kind]) if kind in data else []
            if len(described) != len(keys):
                raise SourceUnreadable(f"describes {len(described)} of its {len(keys)} arrays of kind {kind}", where=item.name)
            signals += [_plain(item, data[kind][key], found) for key, found in zip(keys, described, strict=True)]
        signals += _spectrum_image(item, file)
        signals += _eels(item, file)
        if not signals:
            raise SourceUnreadable("holds no image and no spectrum", where=item.name, kind=Kind.SOURCE_UNSUPPORTED)
    return [replace(signal, notes=tuple(notes)) for signal in signals]


def _described(file: Any, choice: str) -> list[dict[str, Any]]:
    from rsciio.emd._emd_velox import FeiEMDReader

    reader = FeiEMDReader(lazy=True, select_type=choice)
    try:
        reader.read_file(file)
    except ModuleNotFoundError as error:
        # Images and spectra come first; only event streams, which are decoded here, would need `sparse`.
        if error.name not in (None, "sparse"):
            raise
    return list(reader.dictionaries)


def _plain(item: SourceItem, group: Any, found: dict[str, Any]) -> Signal:
    base = hdf5.array(item.path, item.name, group["Data"])
    # Stored (y, x, frame) and (energy, stack); read (frame, y, x) and (stack, energy).
    order = (2, 0, 1) if len(base.shape) == 3 else tuple(reversed(range(len(base.shape))))
    held = len(base.shape) - len(found["axes"])
    data: LazyArray = View(base, order[held:])
    return _signal(item, data, found["axes"], found["metadata"], found["original_metadata"], _blob(item, group))


def _spectrum_image(item: SourceItem, file: Any) -> list[Signal]:
    """Return the sum of all EDS event streams, if there are any, as a spectrum image (y, x, energy)."""
    from rsciio.emd._emd_velox import FeiEMDReader
    from rsciio.utils._units import convert_units
    from rsciio.utils.hdf5 import _parse_sub_data_group_metadata

    data = file["Data"]
    streams = [data["SpectrumStream"][key] for key in data.get("SpectrumStream", ())]
    images = [data["Image"][key] for key in data.get("Image", ())]
    if not streams or not images or "SpectrumImage" not in data:
        return []
    scan = images[-1]["Data"].shape[:-1]
    array = events.array(item.path, item.name, streams, scan, _frames(data))
    reader = FeiEMDReader()
    reader.version = "0"
    original = _parse_sub_data_group_metadata(streams[0])
    result = original["BinaryResult"]
    step, offset, given = result["PixelSize"], result["Offset"], result["PixelUnitX"]
    step_x, unit = reader._convert_scale_units(step["width"], given, scan[1])
    dispersion, energy, energy_unit = reader._get_dispersion_offset(original)
    axes = [
        {
            "name": "y",
            "scale": convert_units(float(step["height"]), given, unit),
            "offset": convert_units(float(offset["y"]), given, unit),
            "units": unit,
            "navigate": True,
        },
        {
            "name": "x",
            "scale": step_x,
            "offset": convert_units(float(offset["x"]), given, unit),
            "units": unit,
            "navigate": True,
        },
        {"name": "X-ray energy", "scale": dispersion, "offset": energy, "units": energy_unit, "navigate": False},
    ]
    title = "EDS SI"
    return [_signal(item, array, axes, {"General": {"title": title}}, original, _blob(item, streams[0]), "eds")]


def _eels(item: SourceItem, file: Any) -> list[Signal]:
    """Return EELS spectrum images (y, x, energy) and line scans (x, energy), one per energy range, calibrated in eV."""
    from rsciio.emd._emd_velox import FeiEMDReader
    from rsciio.utils._units import convert_units
    from rsciio.utils.hdf5 import _parse_sub_data_group_metadata

    data = file["Data"]
    groups = [data["EelsSpectrumImage"][key] for key in data.get("EelsSpectrumImage", ())]
    if not groups or "SpectrumImage" not in data:
        return []
    original = _parse_sub_data_group_metadata(data["SpectrumImage"][next(iter(data["SpectrumImage"]))])
    result = original["BinaryResult"]
    step, offset, given = result["PixelSize"], result["Offset"], result["PixelUnitX"]
    step_x, unit = FeiEMDReader()._convert_scale_units(step["width"], given)
    axes = [{"name": "x", "scale": step_x, "offset": convert_units(float(offset["x"]), given, unit)}]
    if "y" in offset:
        height = convert_units(float(step["height"]), result["PixelUnitY"], unit)
        axes.insert(0, {"name": "y", "scale": height, "offset": convert_units(float(offset["y"]), result["PixelUnitY"], unit)})
    axes = [{**axis, "units": unit, "navigate": True} for axis in axes]
    signals = []
    for group in groups:
        energy = _parse_sub_data_group_metadata(group, "AcquisitionMetadata")["Data"]
        base = hdf5.array(item.path, item.name, group["Data"])
        cube: LazyArray = View(base, (2, 0, 1)) if len(base.shape) == 3 else base
        last = {
            "name": "Energy-loss",
            "scale": energy["dispersion"],
            "offset": energy["offset"],
            "units": "eV",
            "navigate": False,
        }
        own = original | _parse_sub_data_group_metadata(group)
        spread = axes[len(axes) + 1 - len(cube.shape) :]
        signals.append(_signal(item, cube, [*spread, last], {"General": {"title": "EELS"}}, own, _blob(item, group), "eels"))
    return signals


def _frames(data: Any) -> int | None:
    """Return how many frames of the event stream count, where the file says so."""
    try:
        group = data["SpectrumImage"]
        settings = hdf5.json_line(group[next(iter(group))]["SpectrumImageSettings"])
        return int(settings["endFramePosition"])
    except (KeyError, TypeError, ValueError, IndexError, StopIteration):
        return None


def _signal(
    item: SourceItem,
    data: LazyArray,
    axes: Sequence[dict[str, Any]],
    metadata: dict[str, Any],
    original: dict[str, Any],
    raw: RawHeader,
    modality: str | None = None,
) -> Signal:
    facts = terms.collect(terms.VELOX, original)
    title = str(metadata["General"].get("title") or "")
    if modality is None:
        modality = "eds" if metadata.get("Signal", {}).get("signal_type", "").startswith("EDS") else _mode(original)
    # A title that is the detector's name, or that of one of its segments, marks an image as the detector saw it:
    # "HAADF", "DF4-A" of "DF4", "Ceta" of "BM-Ceta". Any other is a result: "Ca" of "SuperXG2", "iDPC", "Half FFT".
    detector = str(terms.at(original, ("BinaryResult", "Detector")) or "")
    seen = bool(title) and (title.startswith(detector) or detector.endswith(title))
    if seen and modality not in ("eds", "eels"):
        facts[terms.DETECTOR] = title
    seconds = terms.at(original, ("Acquisition", "AcquisitionStartDatetime", "DateTime"))
    try:
        if seconds is not None and float(seconds) > 0:
            facts[terms.START] = datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        facts.pop(terms.START, None)
    return Signal(
        title,
        data,
        tuple(RawAxis.of(axis, size) for axis, size in zip(axes, data.shape, strict=True)),
        Format.VELOX,
        original,
        facts,
        (raw,),
        (item.path,),
        modality,
        derived=bool(detector) and not seen,
    )


def _mode(original: dict[str, Any]) -> str:
    camera = str(terms.at(original, ("BinaryResult", "Detector")) or "").lower()
    scanned = terms.at(original, ("Scan", "DwellTime")) is not None and "ceta" not in camera
    return "stem" if scanned else "tem"


def _blob(item: SourceItem, group: Any) -> RawHeader:
    key = group.name + "/Metadata"

    def read() -> bytes:
        with hdf5.opened(item.path, item.name) as file:
            return bytes(np.asarray(file[key][:, 0]).tobytes().rstrip(b"\x00"))

    return RawHeader(f"{group.name.strip('/').replace('/', '-')}.json", read)
