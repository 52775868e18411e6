"""The grid of a stack: affine, slice spacing, and what is irregular about it (PS3.3 C.7.6.2.1.1)."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore_adapters.dicom.planes import Plane
from emstore_adapters.dicom.stacks import Stack, normal_of, positions_of

MILLIMETER: Final = "millimeter"
UNIFORM: Final = 5e-3
"""Slices are equally spaced when none is off by more than this part of a step."""
WORTH_TELLING: Final = 1e-3
"""Deviations below this are rounding in the header, millimetres."""


def stack_grid(stack: Stack, rows: int, columns: int, samples: int, time: Axis | None) -> tuple[Grid, tuple[str, ...]]:
    """Return the grid of a stack, axes ``[t, c,] z, y, x``, with its affine in LPS millimetres, and notes on it."""
    plane = stack.planes[0]
    axis, step, notes = _slice_axis(stack.planes)
    down, across = plane.place.spacing
    matrix = np.eye(4)
    matrix[:3, 0] = np.asarray(plane.place.orientation[:3]) * across
    matrix[:3, 1] = np.asarray(plane.place.orientation[3:]) * down
    matrix[:3, 2] = step
    matrix[:3, 3] = plane.place.position
    axes = [
        *([] if time is None else [time]),
        *colour_axis(samples),
        axis,
        Axis("y", rows, spacing=down, unit=MILLIMETER),
        Axis("x", columns, spacing=across, unit=MILLIMETER),
    ]
    return Grid(tuple(axes), Affine.from_xyz(matrix, Space.LPS, MILLIMETER)), notes


def colour_axis(samples: int) -> list[Axis]:
    """Return the channel axis of colour data; none for grey."""
    labels = {3: ("R", "G", "B"), 4: ("C0", "C1", "C2", "C3")}
    return [] if samples == 1 else [Axis("c", samples, AxisKind.CHANNEL, labels=labels[samples])]


def _slice_axis(planes: tuple[Plane, ...]) -> tuple[Axis, npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the z axis, the world step of one slice (x, y, z), and notes."""
    normal = normal_of(planes[0])
    if len(planes) == 1:
        return _single(planes[0], normal)
    positions = positions_of(planes)
    total = positions[-1] - positions[0]
    length = float(np.linalg.norm(total))
    along = total / length
    distances = (positions - positions[0]) @ along
    steps = np.diff(distances)
    notes = [f"{len(planes)} slices sorted by position along the slice normal."]
    angle = math.degrees(math.acos(min(1.0, abs(float(along @ normal)))))
    if angle > 0.05:
        notes.append(
            f"The slices are sheared by {angle:.2f} degrees against their normal (gantry tilt); the affine keeps the shear "
            f"and nothing is resampled. Slice distances are measured along the shifted direction."
        )
    mean = length / (len(planes) - 1)
    deviation = float(np.abs(distances - mean * np.arange(len(planes))).max())
    if deviation <= UNIFORM * mean:
        if deviation > WORTH_TELLING:
            notes.append(f"Slice positions leave equal spacing by up to {deviation:.3g} mm.")
        return Axis("z", len(planes), spacing=mean, unit=MILLIMETER), total / (len(planes) - 1), tuple(notes)
    median = float(np.median(steps))
    notes.append(
        f"Slice spacing is irregular ({steps.min():.4g} to {steps.max():.4g} mm, median {median:.4g}); "
        "the true positions are kept and nothing is resampled."
    )
    notes += _gaps(planes, steps)
    axis = Axis("z", len(planes), unit=MILLIMETER, positions=tuple(float(d) for d in distances))
    return axis, along * median, tuple(notes)


def _gaps(planes: tuple[Plane, ...], steps: npt.NDArray[np.float64]) -> list[str]:
    """Name gaps that look like missing slices: whole multiples of the usual step."""
    notes = []
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    for index, step in enumerate(steps):
        missing = round(step / usual) - 1
        if missing >= 1 and abs(step - (missing + 1) * usual) < 0.1 * usual:
            count = f"{missing} slice{'s' if missing > 1 else ''} may be missing"
            # Counted, not named: file names of a scan may hold the patient's.
            notes.append(f"Gap of {step:.4g} mm between slices {index + 1} and {index + 2} of {len(planes)}: {count}.")
    return notes[:20]


def _single(plane: Plane, normal: npt.NDArray[np.float64]) -> tuple[Axis, npt.NDArray[np.float64], tuple[str, ...]]:
    step, source = (plane.gap, "SpacingBetweenSlices") if plane.gap else (plane.thickness, "SliceThickness")
    if step is None:
        note = "One slice, whose thickness is not stated: its spacing along z is not known and the affine steps 1 mm there."
        return Axis("z", 1), normal, (note,)
    return Axis("z", 1, spacing=step, unit=MILLIMETER), normal * step, (f"One slice; its step along z is its {source}.",)
