"""TVIPS EM-MENU streams: camera frames, each behind a frame header, in one file or split over numbered parts.

Part 000 starts with a 256-byte header, the others hold frames only, so part 000 opens its companions and stands for all.
Raw header: the 256 bytes of part 000, then the frame headers of every frame in order.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore.header import RawHeader
from emstore.source import Source, SourceItem
from emstore_adapters.em import terms
from emstore_adapters.em.arrays import FramesArray
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format, part_number
from emstore_adapters.em.raw import MAX_RAW
from emstore_adapters.em.signals import Signal, checked_shape

_WORDS: Final = "size version dimx dimy bitsperpixel offsetx offsety binx biny pixelsize ht magtotal frameheaderbytes".split()
_HEADER: Final = np.dtype([*((word, "<u4") for word in _WORDS), ("dummy", "S204")])
_FRAME: Final = np.dtype(
    [
        ("num", "<u4"),
        ("timestamp", "<u4"),
        ("ms", "<u4"),
        ("LUTidx", "<u4"),
        ("fcurrent", "<f4"),
        ("mag", "<u4"),
        ("mode", "<u4"),
        ("stagex", "<f4"),
        ("stagey", "<f4"),
        ("stagez", "<f4"),
        ("stagea", "<f4"),
        ("stageb", "<f4"),
        ("rotidx", "<u4"),
        ("temperature", "<f4"),
        ("objective", "<f4"),
    ]
)
_DIFFRACTION: Final = 2


@dataclass(frozen=True)
class _Part:
    path: Path
    offset: int
    frames: int


def companions(path: Path) -> list[Path]:
    """Return part 000 and the parts that follow it without a gap, in order."""
    number = part_number(path)
    if number != 0:
        return [path]
    stem, suffix = path.name[: -len("000") - len(path.suffix)], path.suffix
    found = [path]
    while (following := path.with_name(f"{stem}{len(found):03d}{suffix}")).is_file() and len(found) < 1000:
        found.append(following)
    return found


def read_part(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Refuse a continuation that was given without its part 000."""
    first = f"{item.path.name[:-9]}000{item.path.suffix}"
    raise SourceUnreadable(f"is part {part_number(item.path)} of a split stream", where=item.name, fix=f"open part 000, {first}")


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return the frames of a stream and all its parts, shape (t, y, x), unsigned integers."""
    record = np.frombuffer(item.head, _HEADER, count=1)[0]
    head = {word: int(record[word]) for word in _WORDS}
    dtype = np.dtype(f"<u{head['bitsperpixel'] // 8}")
    # Version 1 is known to write 12 bytes before each frame, of which only the time is understood.
    if head["version"] != 2 or head["frameheaderbytes"] < _FRAME.itemsize or head["frameheaderbytes"] > 1 << 20:
        raise SourceUnreadable(
            f"has frame headers of {head['frameheaderbytes']} bytes, version {head['version']}, which are not known",
            where=item.name,
        )
    size = checked_shape((head["dimy"], head["dimx"]), dtype, item.name)
    stride = head["frameheaderbytes"] + size[0] * size[1] * dtype.itemsize
    parts = _parts(item, source, head["size"], stride)
    frames = sum(part.frames for part in parts)
    if frames == 0:
        raise SourceIncomplete("holds no whole frame", where=item.name)
    firsts = np.cumsum([0, *(part.frames for part in parts)]).tolist()

    def locate(number: int) -> tuple[Path, int]:
        index = bisect_right(firsts, number) - 1
        part = parts[index]
        return part.path, part.offset + (number - firsts[index]) * stride + head["frameheaderbytes"]

    headers = _frame_headers(parts, stride, item.name)
    first = headers[0]
    diffraction = int(first["mode"]) == _DIFFRACTION
    unit = "1/nm" if diffraction else "nm"
    axes = (
        _time_axis(headers),
        RawAxis("dy", size[0], float(head["pixelsize"]), float(head["offsety"]), unit, False),
        RawAxis("dx", size[1], float(head["pixelsize"]), float(head["offsetx"]), unit, False),
    )
    data = FramesArray(item.name, (frames, *size), dtype, 2, locate)
    tree = {"tvips_header": head | {"dummy": record["dummy"].decode("latin-1")}, "first_frame": _plain(first)}
    return [
        Signal(
            "",
            data,
            axes,
            Format.TVIPS,
            tree,
            _terms(head, first, diffraction),
            (
                RawHeader(
                    f"{item.path.name}.headers", lambda: _raw(item.path, head["size"], parts, stride, head["frameheaderbytes"])
                ),
            ),
            tuple(part.path for part in parts),
            "stem" if int(headers["rotidx"].max()) > 0 else "tem",
        )
    ]


def _parts(item: SourceItem, source: Source, start: int, stride: int) -> list[_Part]:
    parts = []
    for path in companions(item.path):
        offset = start if path == item.path else 0
        try:
            room = path.stat().st_size - offset
        except OSError as error:
            raise SourceUnreadable(f"cannot be read: {error.strerror}", where=path.name) from error
        whole, rest = divmod(max(0, room), stride)
        if rest or room < 0:
            reason = f"ends inside a frame: {whole} frames of it are whole"
            short = SourceIncomplete(reason, where=path.name, fix="pass --allow-partial to keep the whole frames")
            source.skip(path.name, reason, short)
        parts.append(_Part(path, offset, whole))
    return parts


def _frame_headers(parts: Sequence[_Part], stride: int, where: str) -> npt.NDArray[Any]:
    """Return the known part of every frame header, read without touching the pixels."""
    rows = np.empty(sum(part.frames for part in parts), _FRAME)
    at = 0
    try:
        for part in parts:
            with part.path.open("rb", buffering=0) as file:
                for number in range(part.frames):
                    file.seek(part.offset + number * stride)
                    rows[at] = np.frombuffer(file.read(_FRAME.itemsize), _FRAME)[0]
                    at += 1
    except (OSError, IndexError, ValueError) as error:
        raise SourceUnreadable(f"cannot be read: {error}", where=where) from error
    return rows


def _time_axis(headers: npt.NDArray[Any]) -> RawAxis:
    """Return the frame times: a spacing where they are even to a millisecond, else every time; unknown if they stand still."""
    milliseconds = headers["timestamp"].astype(np.int64) * 1000 + headers["ms"]
    times = milliseconds / 1000
    steps = np.diff(milliseconds)
    if steps.size == 0 or not (steps > 0).all():
        return RawAxis("time", times.size, unit="s", navigate=True)
    if np.ptp(steps) <= 1:
        # Differences of whole milliseconds: seconds since 1970 as floats would cost seven digits.
        return RawAxis("time", times.size, float(steps.mean()) / 1000, float(times[0]), "s", True)
    return RawAxis("time", times.size, unit="s", navigate=True, positions=tuple(times.tolist()))


def _terms(head: dict[str, int], frame: Any, diffraction: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    terms.add(facts, terms.VENDOR, "TVIPS")
    # The header states the high tension in volts on instruments and in kilovolts in files that HyperSpy wrote.
    terms.add(facts, terms.VOLTAGE, head["ht"], "volt" if head["ht"] >= 1000 else "kilovolt")
    if diffraction:
        terms.add(facts, terms.CAMERA_LENGTH, head["magtotal"], "millimeter")
    else:
        terms.add(facts, terms.MAGNIFICATION, float(head["magtotal"]))
    facts[terms.START] = datetime.fromtimestamp(int(frame["timestamp"]), UTC).isoformat()
    return facts


def _plain(frame: Any) -> dict[str, Any]:
    return {name: frame[name].item() for name in _FRAME.names or ()}


def _raw(path: Path, start: int, parts: Sequence[_Part], stride: int, length: int) -> bytes:
    if sum(part.frames for part in parts) * length + start > MAX_RAW:
        raise Capacity(f"the frame headers take more than {MAX_RAW} bytes", where=path.name)
    pieces = []
    with path.open("rb") as file:
        pieces.append(file.read(start))
    for part in parts:
        with part.path.open("rb") as file:
            for number in range(part.frames):
                file.seek(part.offset + number * stride)
                pieces.append(file.read(length))
    return b"".join(pieces)
