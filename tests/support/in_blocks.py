"""Planning and evaluating processors in tests, over arrays in memory."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from emstore.blocks.compute import evaluate
from emstore.geometry import Affine, Axis, AxisKind, Grid
from emstore.header import Header
from emstore.operation import Operation
from emstore.processor import Processor
from emstore.volume import MemoryArray, Volume

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}


def axes_of(dims: str, shape: tuple[int, ...], **spacing: float) -> tuple[Axis, ...]:
    """Return one axis per letter: lengths in nanometer where a spacing is given, else unknown."""
    return tuple(
        Axis(
            name,
            size,
            KINDS.get(name, AxisKind.SPACE),
            spacing=spacing.get(name),
            unit=None if name not in spacing else "second" if name == "t" else "nanometer",
        )
        for name, size in zip(dims, shape, strict=True)
    )


def over(values: npt.NDArray[Any], *axes: Axis, affine: Affine | None = None, **rest: Any) -> Volume:
    """Return a volume over an array; axes called z, y, x of unknown spacing unless given."""
    given = axes or axes_of("tczyx"[5 - values.ndim :], values.shape)
    return Volume("made", MemoryArray(values), Grid(given, affine), rest.pop("header", Header("memory")), **rest)


def planned(processor: Processor, *volumes: Volume, **params: Any) -> Operation:
    """Return a processor's plan."""
    return processor.plan(volumes, processor.params(**params))


def run(processor: Processor, *volumes: Volume, block: tuple[int, ...] | None = None, **params: Any) -> Any:
    """Return what a processor makes of volumes."""
    return evaluate(planned(processor, *volumes, **params), volumes, block=block)


def same_whatever_the_blocks(operation: Operation, volumes: tuple[Volume, ...], block: tuple[int, ...]) -> npt.NDArray[Any]:
    """Assert that cutting changes no bit, and return the result."""
    whole = evaluate(operation, volumes)
    parts = evaluate(operation, volumes, block=block)
    assert isinstance(whole, np.ndarray)
    assert isinstance(parts, np.ndarray)
    assert operation.result is not None
    assert whole.shape == operation.result.grid.shape
    assert whole.dtype == parts.dtype == operation.result.dtype
    assert whole.tobytes() == parts.tobytes()
    return whole


def told(operation: Operation, volume: Volume, block: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Return what a run tells of what its reduction found."""
    assert operation.reduction is not None
    assert operation.tell is not None
    seen: dict[str, Any] = {}
    finish, tell = operation.reduction.finish, operation.tell

    def keep(state: Any) -> Any:
        found = finish(state)
        seen.update(tell(found))
        return found

    evaluate(replace(operation, reduction=replace(operation.reduction, finish=keep)), (volume,), block=block)
    return seen


NUMBERS = ["u1", "i1", "<u2", ">u2", "i4", "u8", "i8", "f2", "f4", ">f8"]
"""Types of values to try."""


@st.composite
def arrays(draw: st.DrawFn, *, dims: int = 3, types: tuple[str, ...] = tuple(NUMBERS), largest: int = 9) -> npt.NDArray[Any]:
    """Draw an array of any size and type, its values over the type's whole range (finite ones of moderate size)."""
    dtype = np.dtype(draw(st.sampled_from(types)))
    shape = draw(st.tuples(*[st.integers(1, largest)] * dims))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 100).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)
