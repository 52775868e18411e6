"""From planes in any order to stacks: planes sorted along their common normal, repeats of a position put on a time axis.

Never by file name; by instance number only to order repeats of one position that nothing else tells apart, and then a
note says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Kind, SourceUnreadable
from emstore_adapters.dicom.planes import Plane, cross

_SPLIT_KEYS: Final = ("ImageType", "SegmentNumber")
"""Repeats that differ in these are different images: separate volumes."""

_TIME_KEYS: Final = (
    ("TemporalPositionIdentifier",),
    ("DiffusionBValue", "DiffusionGradient"),
    ("DiffusionBValue",),
    ("TriggerTime",),
    ("AcquisitionNumber",),
    ("FrameReferenceDateTime",),
    ("AcquisitionDateTime",),
    ("AcquisitionTime",),
    ("ContentTime",),
)
"""Repeats that differ in these are one image measured again: a time axis. First that fits wins."""

_LAST_RESORT: Final = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime", "InstanceNumber", "FrameNumber")

SAME_PLACE: Final = 1e-3
"""Two positions are the same within this part of the pixel spacing."""
IN_LINE: Final = 0.1
"""Slice origins may leave their common line by this part of the pixel spacing."""


@dataclass(frozen=True)
class Stack:
    """Planes of one volume, in order."""

    times: tuple[tuple[Plane, ...], ...]
    """For every time point its planes, ascending along the normal; the same positions each time."""
    repeat_key: tuple[str, ...] = ()
    """What tells the time points apart; empty when there is one."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What tells this stack from others of its series, for its name."""
    notes: tuple[str, ...] = ()

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Planes of the first time point."""
        return self.times[0]


def says_when(key: str) -> bool:
    """Whether a key's values are dates or times of day, which may identify a patient and so stay in the header."""
    return key.endswith(("DateTime", "AcquisitionTime", "ContentTime"))


def normal_of(plane: Plane) -> npt.NDArray[np.float64]:
    """Return a plane's unit normal, shape (3,), order x, y, z: row direction x column direction (right-handed)."""
    return np.asarray(cross(plane.place.orientation[:3], plane.place.orientation[3:]))


def positions_of(planes: Sequence[Plane]) -> npt.NDArray[np.float64]:
    """Return the origins of planes, shape (n, 3), millimetres, order x, y, z."""
    return np.asarray([plane.place.position for plane in planes], dtype=np.float64)


def find_stacks(planes: Sequence[Plane]) -> list[Stack]:
    """Sort planes of one size, orientation and spacing into stacks.

    Raises
    ------
    SourceUnreadable
        Kind ``source_inconsistent``: two planes at one position that nothing tells apart, or planes that lie on no line.
    """
    ordered = sorted(planes, key=_depth_key(planes[0]))
    stacks: list[Stack] = []
    for stack in _separate_repeats(ordered):
        stacks += _separate_lines(stack)
    return stacks


def _depth_key(reference: Plane) -> Any:
    normal = normal_of(reference)

    def depth(plane: Plane) -> tuple[float, tuple[float, ...]]:
        return float(np.dot(plane.place.position, normal)), plane.place.position

    return depth


def _separate_repeats(planes: list[Plane]) -> list[Stack]:
    ids = _position_ids(planes)
    if len(set(ids)) == len(planes):
        return [Stack((tuple(planes),))]
    for key in _SPLIT_KEYS:
        parts = _partition(planes, (key,))
        if parts is not None:
            return [
                replace(stack, labels={key: str(value[0]), **stack.labels}, notes=(*stack.notes, _split_note(key)))
                for value, part in parts
                for stack in _separate_repeats(part)
            ]
    at = {id(plane): place for plane, place in zip(planes, ids, strict=True)}
    everywhere = set(ids)
    broken: Stack | None = None
    for keys in _TIME_KEYS:
        parts = _partition(planes, keys)
        if parts is None or any(len({at[id(p)] for p in part}) < len(part) for _, part in parts):
            continue
        whole = [part for _, part in parts if len(part) == len(everywhere)]
        if len(whole) == len(parts):
            note = f"{len(parts)} repeats of every position were put on a time axis by {' and '.join(keys)}."
            return [Stack(tuple(map(tuple, whole)), keys, notes=(note,))]
        if broken is None and len(whole) * 2 > len(parts):
            return _with_rest(parts, whole, keys, len(everywhere))
    return [_by_rank(planes, ids)]


def _with_rest(parts: Any, whole: list[list[Plane]], keys: tuple[str, ...], count: int) -> list[Stack]:
    """Keep complete time points as one stack and every incomplete one as its own, so nothing is lost or made up."""
    note = f"{len(whole)} repeats of every position were put on a time axis by {' and '.join(keys)}."
    stacks = [Stack(tuple(map(tuple, whole)), keys if len(whole) > 1 else (), notes=(note,))]
    for value, part in parts:
        if len(part) < count:
            label = "" if says_when(keys[0]) else ",".join(str(v) for v in value)
            text = f"One repeat ({' '.join((keys[0], label)).strip()}) has {len(part)} of {count} slices: a volume of its own."
            stacks.append(Stack((tuple(part),), labels={"part": label}, notes=(text,)))
    return stacks


def _by_rank(planes: list[Plane], ids: list[int]) -> Stack:
    """Order repeats of each position by time of day, then instance number, when every position has equally many."""
    at: dict[int, list[Plane]] = {}
    for plane, place in zip(planes, ids, strict=True):
        at.setdefault(place, []).append(plane)
    counts = {len(found) for found in at.values()}
    usable = [key for key in _LAST_RESORT if all(p.keys.get(key) is not None for p in planes)]
    ranked = [sorted(found, key=lambda p: tuple(p.keys[key] for key in usable)) for found in at.values()]
    distinct = usable and all(len({tuple(p.keys[key] for key in usable) for p in found}) == len(found) for found in at.values())
    if len(counts) != 1 or not distinct:
        one, two = next(found for found in at.values() if len(found) == max(counts))[:2]
        raise SourceUnreadable(
            f"lies at the same position as {two.name} and nothing in the headers tells the two apart",
            where=one.name,
            fix="remove one of the two, or ingest them apart",
            kind=Kind.SOURCE_INCONSISTENT,
        )
    note = f"{counts.pop()} repeats of every position were put on a time axis in the order of {', '.join(usable)}."
    return Stack(tuple(zip(*ranked, strict=True)), tuple(usable), notes=(note,))


def _separate_lines(stack: Stack) -> list[Stack]:
    """Keep a stack whose origins lie on one line; part one that is several parallel columns of slices."""
    planes = stack.planes
    positions = positions_of(planes)
    tolerance = IN_LINE * min(planes[0].place.spacing)
    off = _off_line(positions)
    if off.max() <= tolerance:
        return [stack]
    normal = normal_of(planes[0])
    in_plane = positions - np.outer(positions @ normal, normal)
    columns: list[list[int]] = []
    for index, offset in enumerate(in_plane):
        home = next((c for c in columns if np.linalg.norm(in_plane[c[0]] - offset) <= tolerance), None)
        if home is None:
            columns.append([index])
        else:
            home.append(index)
    if len(columns) > max(1, len(planes) // 2):
        worst = planes[int(np.argmax(off))]
        raise SourceUnreadable(
            f"its slice lies {off.max():.3g} mm off the line of the others, so the series is not one regular volume",
            where=worst.name,
            fix="remove it, or ingest the parts of the series apart",
            kind=Kind.SOURCE_INCONSISTENT,
        )
    note = f"The series holds {len(columns)} parallel stacks beside each other; each is a volume of its own."
    return [
        replace(
            stack,
            times=tuple(tuple(time[i] for i in column) for time in stack.times),
            labels={**stack.labels, "column": str(number)},
            notes=(*stack.notes, note),
        )
        for number, column in enumerate(columns, 1)
    ]


def _off_line(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the distance of each point from the line through the first and last one, shape (n,)."""
    from_first = positions - positions[0]
    length = np.linalg.norm(from_first[-1])
    if length == 0:
        return np.asarray(np.linalg.norm(from_first, axis=1))
    along = from_first[-1] / length
    return np.asarray(np.linalg.norm(from_first - np.outer(from_first @ along, along), axis=1))


def _position_ids(planes: list[Plane]) -> list[int]:
    """Return a number for each plane: the same for planes at one position. Takes planes that are sorted by depth."""
    tolerance = SAME_PLACE * min(planes[0].place.spacing)
    normal = normal_of(planes[0])
    positions = positions_of(planes)
    depths = positions @ normal
    seen: list[tuple[float, npt.NDArray[np.float64], int]] = []
    ids: list[int] = []
    count = 0
    for depth, position in zip(depths, positions, strict=True):
        seen = [entry for entry in seen if depth - entry[0] <= tolerance]
        match = next((entry[2] for entry in seen if np.linalg.norm(entry[1] - position) <= tolerance), None)
        if match is None:
            match, count = count, count + 1
            seen.append((float(depth), position, match))
        ids.append(match)
    return ids


def _partition(planes: Sequence[Plane], keys: tuple[str, ...]) -> list[tuple[tuple[Any, ...], list[Plane]]] | None:
    """Group planes by the values of some keys, in order of value; ``None`` unless all have them and they differ."""
    parts: dict[tuple[Any, ...], list[Plane]] = {}
    for plane in planes:
        parts.setdefault(tuple(plane.keys.get(key) for key in keys), []).append(plane)
    if len(parts) < 2 or any(value[0] is None for value in parts):
        return None
    return sorted(parts.items(), key=lambda item: tuple((v is not None, str(type(v)), v or 0) for v in item[0]))


def _split_note(key: str) -> str:
    return f"The series repeats positions with different {key}; each is a volume of its own."
