"""The ``_info.txt`` and ``_scan_coordinates.csv`` that Direct Electron cameras write beside a movie.

The first is ``key = value`` lines. The keys used here name their own units, but for the diffraction pixel size.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emstore.errors import SourceUnreadable
from emstore.geometry import Axis, AxisKind
from emstore.header import quantity
from emstore_adapters.mrc.header import MrcHeader

_MOVIE: Final = re.compile(r"^(?P<prefix>.+)_movie\.mrcs?$", re.IGNORECASE)
_MAX_INFO: Final = 4 << 20
_MAX_POSITIONS: Final = 1 << 20


@dataclass(frozen=True)
class Sidecar:
    """What the files beside a movie say."""

    path: Path
    values: Mapping[str, str]
    coordinates: Path | None
    """The list of scan positions, if there is one."""

    def number(self, key: str) -> float | None:
        """Return a number that is known: cameras write -1 for what they do not know."""
        try:
            value = float(self.values[key])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) and value > 0 else None

    def enabled(self, key: str) -> bool:
        """Whether a switch is on."""
        return self.values.get(key) == "Enable"

    @property
    def scanned(self) -> bool:
        """Whether the beam was scanned, one or more frames per position."""
        return self.enabled("Scan - Enable")

    @property
    def raster(self) -> bool:
        """Whether the positions are a full raster, row by row."""
        return self.scanned and self.values.get("Scan - Type", "Raster") == "Raster"

    def scan_shape(self, frames: int) -> tuple[int, int, int] | None:
        """Return repeats, rows and columns of a raster scan; ``None`` if they do not make up the number of frames."""
        part = "Scan - ROI Size" if self.enabled("Scan - ROI Enable") else "Scan - Size"
        rows, columns = (int(self.number(f"{part} {letter}") or 0) for letter in "YX")
        if not self.raster or rows < 1 or columns < 1 or frames % (rows * columns):
            return None
        return frames // (rows * columns), rows, columns

    def scan_axes(self, rows: int, columns: int) -> tuple[Axis, Axis]:
        """Return the axes of the scan."""
        return tuple(  # type: ignore[return-value]
            Axis.measured(name, size, self.number(f"Specimen Pixel Size {name.upper()} (nanometers)"), "nanometer")
            for name, size in (("y", rows), ("x", columns))
        )

    def frame_axes(self, rows: int, columns: int) -> tuple[Axis, Axis]:
        """Return the axes of one diffraction pattern."""
        return tuple(  # type: ignore[return-value]
            Axis.measured(
                name, size, self.number(f"Diffraction Pixel Size {name[1].upper()}"), "1/nanometer", kind=AxisKind.RECIPROCAL
            )
            for name, size in (("ky", rows), ("kx", columns))
        )

    def frame_interval(self) -> float | None:
        """Return the time between frames as they were saved, seconds."""
        time = self.number("Frame Time (nanoseconds)")
        return None if time is None else time * 1e-9 * (self.number("Autosave Movie Sum Count") or 1.0)

    def terms(self) -> dict[str, Any]:
        """Return the NXem facts."""
        facts: dict[str, Any] = {}
        for path, key, unit in (
            ("instrument/ebeam_column/electron_source/voltage", "Instrument Accelerating Voltage (V)", "volt"),
            ("instrument/optics/camera_length", "Instrument Project Camera Length (centimeters)", "centimeter"),
            ("instrument/scan_controller/dwell_time", "Scan - Dwell Time (microseconds)", "microsecond"),
            ("instrument/detector/exposure_time", "Frame Exposure Time (nanoseconds)", "nanosecond"),
        ):
            if (value := self.number(key)) is not None:
                facts[path] = quantity(value, unit)
        if (value := self.number("Instrument Project Magnification")) is not None:
            facts["instrument/optics/magnification"] = value
        if self.values.get("Camera Model"):
            facts["instrument/detector/name"] = self.values["Camera Model"]
        return facts

    def positions(self, frames: int) -> list[list[int]] | None:
        """Return the scan position (x, y) of every frame, in scan steps.

        Raises
        ------
        SourceUnreadable
            The list is damaged, or is not one line per frame.
        """
        if self.coordinates is None or frames > _MAX_POSITIONS:
            return None
        found = []
        with self.coordinates.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    x, y = (int(v) for v in line.decode("ascii").split(","))
                except ValueError:
                    raise SourceUnreadable(
                        f"line {number + 1} is not a scan position x,y", where=self.coordinates.name, fix="copy it again"
                    ) from None
                found.append([x, y])
                if len(found) > frames:
                    break
        if len(found) != frames:
            raise SourceUnreadable(
                f"the list of scan positions does not have one line for each of the {frames} frames",
                where=self.coordinates.name,
                fix="put the list of this movie beside it, or take this one away",
            )
        return found


def find(path: Path, header: MrcHeader) -> Sidecar | None:
    """Return what lies beside a movie, if it speaks of this movie: the same frame size and number of frames."""
    match = _MOVIE.match(path.name)
    if match is None:
        return None
    # Several movies of one acquisition are numbered: <prefix>_0_movie.mrc shares <prefix>_info.txt.
    for prefix in dict.fromkeys((match["prefix"], re.sub(r"_\d+$", "", match["prefix"]))):
        info = path.with_name(f"{prefix}_info.txt")
        if not info.is_file() or info.stat().st_size > _MAX_INFO:
            continue
        values = {}
        for line in info.read_text("utf-8", errors="replace").splitlines():
            key, sign, value = line.partition("=")
            if sign:
                values[key.strip()] = value.strip()
        coordinates = path.with_name(f"{prefix}_scan_coordinates.csv")
        found = Sidecar(info, values, coordinates if coordinates.is_file() else None)
        said = [found.number(f"Image Size {letter} (pixels)") for letter in "XY"] + [
            found.number("Autosave Movie Frames Written")
        ]
        if said == [header.nx, header.ny, header.nz]:
            return found
    return None
