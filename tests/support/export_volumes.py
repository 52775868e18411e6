"""Volumes to export."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.volume import MemoryArray, Region, Volume

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL, "n": AxisKind.OTHER, "energy": AxisKind.SPECTRAL}


@dataclass
class Watched:
    """An array in memory that remembers the regions asked of it and has blocks."""

    values: npt.NDArray[Any]
    block: tuple[int, ...]
    asked: list[Region] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        self.asked.append(region)
        return self.values[region]


def axes(
    dims: str | Sequence[str], shape: Sequence[int], spacing: float | None = None, unit: str | None = None
) -> tuple[Axis, ...]:
    """Return one axis per name; those over space have the spacing."""
    names = dims.split() if isinstance(dims, str) else dims
    return tuple(
        Axis(name, size, KINDS[name])
        if name in KINDS
        else Axis(name, size, spacing=spacing, unit=unit if spacing is not None else None)
        for name, size in zip(names, shape, strict=True)
    )


def volume(values: npt.NDArray[Any], grid: Grid | str, **rest: Any) -> Volume:
    """Return a volume over an array; a grid may be given by its axis names."""
    if isinstance(grid, str):
        grid = Grid(axes(grid, values.shape))
    return Volume("test", MemoryArray(values), grid, Header("made"), **rest)


def numbers(shape: Sequence[int], kind: str, seed: int = 5) -> npt.NDArray[Any]:
    """Return values over the whole range of a type."""
    chance, dtype = np.random.default_rng(seed), np.dtype(kind)
    match dtype.kind:
        case "b":
            return chance.integers(0, 2, shape).astype(bool)
        case "c":
            return (chance.normal(size=shape) + 1j * chance.normal(size=shape)).astype(dtype)
        case "f":
            return chance.normal(size=shape).astype(dtype)
        case _:
            info = np.iinfo(dtype)
            return chance.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
