"""Time axes: of cine runs (PS3.3 C.7.6.5) and of series that repeat their positions."""

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.geometry import Axis, AxisKind
from emstore_adapters.dicom import values
from emstore_adapters.dicom.stacks import Stack

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MILLISECOND: Final = "millisecond"
"""DICOM states frame times in milliseconds; all time axes here are in it."""


def cine_axis(dataset: "Dataset", frames: int) -> tuple[Axis, tuple[str, ...]]:
    """Return the ``t`` axis of a multi-frame file whose frames have no place in space, and notes on where it is from."""
    vector = values.numbers(dataset, "FrameTimeVector")
    if vector is not None and len(vector) == frames and all(v >= 0 for v in vector[1:]):
        at = np.cumsum([0.0, *vector[1:]])
        return _axis(frames, at), ("Frame times are the running sum of FrameTimeVector.",)
    notes = [] if vector is None else [f"FrameTimeVector has {len(vector)} entries for {frames} frames and is not used."]
    step = values.number(dataset, "FrameTime")
    if step is not None and step > 0:
        return Axis("t", frames, AxisKind.TIME, spacing=step, unit=MILLISECOND), (*notes, "Frame times are from FrameTime.")
    duration = values.number(dataset, "ActualFrameDuration")
    if duration is not None and duration > 0 and "DYNAMIC" in values.texts(dataset, "ImageType"):
        notes.append("Frame times are from ActualFrameDuration, one frame after the other.")
        return Axis("t", frames, AxisKind.TIME, spacing=duration, unit=MILLISECOND), tuple(notes)
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = values.number(dataset, keyword)
        if rate is not None and rate > 0:
            notes.append(f"The file states no frame times; {keyword} ({rate:g} per second) was used in their place.")
            return Axis("t", frames, AxisKind.TIME, spacing=1000 / rate, unit=MILLISECOND), tuple(notes)
    notes.append("The file does not say when its frames were taken, so their times are not known.")
    return Axis("t", frames, AxisKind.TIME), tuple(notes)


def repeat_axis(stack: Stack, repetition_time: float | None) -> tuple[Axis | None, tuple[str, ...]]:
    """Return the ``t`` axis of a stack with several time points; ``None`` when there is one.

    Parameters
    ----------
    stack : Stack
        The stack.
    repetition_time : float, optional
        Milliseconds from one volume to the next, where the acquisition is known to take one volume per repetition.
    """
    count = len(stack.times)
    if count == 1:
        return None, ()
    if repetition_time is not None and repetition_time > 0:
        axis = Axis("t", count, AxisKind.TIME, spacing=repetition_time, unit=MILLISECOND)
        return axis, ("One volume per RepetitionTime.",)
    for key in ("TriggerTime", "AcquisitionDateTime", "AcquisitionTime"):
        if key == "TriggerTime" and key not in stack.repeat_key:
            continue
        found = [_earliest(time, key) for time in stack.times]
        times = [value for value in found if value is not None]
        if len(times) == count and all(b > a for a, b in itertools.pairwise(times)):
            return _axis(count, np.asarray(times) - times[0]), (f"Times of the repeats are from {key}, counted from the first.",)
    return Axis("t", count, AxisKind.TIME), ("The headers do not say when the repeats were taken.",)


def _axis(count: int, at: Any) -> Axis:
    positions = np.round(np.asarray(at, dtype=np.float64), 6)
    if count == 1:
        return Axis("t", 1, AxisKind.TIME)
    step = float(positions[-1] - positions[0]) / (count - 1)
    if step > 0 and np.abs(positions - positions[0] - step * np.arange(count)).max() <= 1e-3 * step:
        return Axis("t", count, AxisKind.TIME, spacing=round(step, 9), unit=MILLISECOND)
    return Axis("t", count, AxisKind.TIME, unit=MILLISECOND, positions=tuple(float(v) for v in positions))


def _earliest(planes: Any, key: str) -> float | None:
    found = [_milliseconds(plane.keys.get(key), key) for plane in planes]
    times = [value for value in found if value is not None]
    return min(times) if len(times) == len(found) else None


def _milliseconds(value: Any, key: str) -> float | None:
    """Return a trigger time, or a DICOM time or date-time (PS3.5 6.2, TM and DT), as milliseconds."""
    if value is None or key == "TriggerTime":
        return None if value is None else float(value)
    digits = str(value).split("+")[0].split("-")[0]
    if isinstance(value, float):
        digits = f"{value:013.6f}" if key == "AcquisitionTime" else f"{value:021.6f}"
    whole, _, part = digits.partition(".")
    form = "%H%M%S" if key == "AcquisitionTime" else "%Y%m%d%H%M%S"
    try:
        at = datetime.strptime(whole, form)
    except ValueError:
        return None
    return (at - datetime(1900, 1, 1)) / timedelta(milliseconds=1) + (float(f"0.{part}") * 1000 if part.isdigit() else 0.0)
