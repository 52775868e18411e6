"""From stored values to floats and back: nothing wraps around, nothing is cut short in silence."""

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.processors.denoise.selection import AxesParams
from emstore.volume import Volume

Floats = npt.NDArray[np.floating[Any]]
ResultType = Literal["float32", "float64", "same"]

EXACT: Final = 2**53
"""Integers up to here are exact in float64."""


class ResultParams(AxesParams):
    """Parameters of every method whose results are averages."""

    dtype: ResultType = Field(
        "float32",
        description="type of the result: float32 (whole numbers up to 2^24 stay exact), float64, or same (the input's own; "
        "integers are rounded to the nearest)",
    )


def result_type(volume: Volume, dtype: ResultType) -> np.dtype[Any]:
    """Return the type of the result, native byte order."""
    return volume.dtype.newbyteorder("=") if dtype == "same" else np.dtype(dtype)


def working_type(volume: Volume, result: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type to compute in: float32 where it holds every value of the input and the result is no finer than it."""
    kind, size = volume.dtype.kind, volume.dtype.itemsize
    narrow = size <= 4 if kind == "f" else size <= 2
    return np.dtype(np.float32 if narrow and result.kind == "f" and result.itemsize <= 4 else np.float64)


def notes(volume: Volume, dtype: ResultType) -> tuple[str, ...]:
    """Return what a reader of the Record should know about the result's type."""
    if dtype != "same" or volume.dtype.kind == "f":
        return ()
    return (f"Results are rounded to the nearest {volume.dtype.newbyteorder('=')}; any beyond its range is set to its end.",)


def beyond_exact(values: npt.NDArray[Any]) -> bool:
    """Say whether there are integers beyond 2^53, which float64 does not hold exactly."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or values.size == 0:
        return False
    return int(values.max()) > EXACT or int(values.min()) < -EXACT


def to_floats(values: npt.NDArray[Any], dtype: np.dtype[Any], *, finite: bool = False) -> Floats:
    """Return a copy of stored values as floats.

    Parameters
    ----------
    values : ndarray
        Integers or floats, any byte order.
    dtype : dtype
        From `working_type`.
    finite : bool, optional
        Refuse NaN and infinity, for methods in which one such value would reach far beyond its neighbours.

    Raises
    ------
    InvalidInput
        64-bit integers beyond 2^53, or values that are not finite.
    """
    if beyond_exact(values):
        raise InvalidInput("holds integers beyond 2^53, which no floating-point number holds exactly", fix="rescale it first")
    if finite and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InvalidInput(
            "holds NaN or infinity, which this method would spread over its neighbourhood",
            fix="fill them first, or use denoise.median or denoise.gaussian",
        )
    return values.astype(dtype)


def to_stored(values: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return computed values as the result's type; `values` may be overwritten.

    Integers are rounded half to even and held to the type's range.

    Raises
    ------
    InvalidInput
        A value is too large for a floating-point result.
    """
    if dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return values.astype(dtype, copy=False)
        except FloatingPointError:
            raise InvalidInput(f"holds values too large for {dtype}", fix="ask for dtype=float64") from None
    info = np.iinfo(dtype)
    np.rint(values, out=values)
    np.clip(values, max(info.min, -EXACT), min(info.max, EXACT), out=values)
    return values.astype(dtype)
