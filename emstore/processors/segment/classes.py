"""Values to classes by rising thresholds, compared exactly in the values' own type."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.volume import Volume, VolumeKind


def check_numbers(volume: Volume, name: str) -> None:
    """Refuse what has no order to cut by a threshold: complex values, masks and labels.

    Raises
    ------
    InvalidInput
        The volume is no image of real numbers.
    """
    if volume.dtype.kind not in "iuf" or volume.kind != VolumeKind.IMAGE:
        what = f"{volume.kind} of type {volume.dtype}"
        raise InvalidInput(f"{name} takes an image of real numbers, not {what}", where=volume.name, fix="give it the image")


def class_type(classes: int) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds the classes 0 to `classes` - 1."""
    return np.dtype(np.min_scalar_type(classes - 1))


def classify(values: npt.NDArray[Any], thresholds: Sequence[float], out: npt.NDArray[Any], *, including: bool) -> None:
    """Count for every value the thresholds it has passed.

    Parameters
    ----------
    values : ndarray
        Integers or floats. NaN passes none.
    thresholds : sequence of int or float
        Any number of them; meant exactly, even where the type of `values` cannot hold them.
    out : ndarray of unsigned integers, shape of `values`
        Receives the class of every value, from 0.
    including : bool
        A value equal to a threshold has passed it (``>=``), or has not (``>``).
    """
    out[...] = 0
    for threshold in thresholds:
        edge = _nearest(values.dtype, threshold, above=including)
        out += values >= edge if including else values > edge


def _nearest(dtype: np.dtype[Any], threshold: float, *, above: bool) -> Any:
    """Return the value of a type that is nearest to a threshold from above, or from below, and parts values as it does.

    NumPy would round a threshold to the type of the values first, and then 0.1 parts 32-bit floats elsewhere than 0.1 does.
    """
    if dtype.kind in "iu":
        return math.ceil(threshold) if above else math.floor(threshold)
    with np.errstate(over="ignore"):
        edge = dtype.type(threshold)
    if (float(edge) < threshold) if above else (float(edge) > threshold):
        return np.nextafter(edge, dtype.type(math.inf if above else -math.inf))
    return edge
