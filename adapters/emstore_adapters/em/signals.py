"""What every format reader of this adapter returns, and how it becomes Volumes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.errors import Kind, SourceUnreadable
from emstore.geometry import Grid
from emstore.header import Header, RawHeader, json_safe
from emstore.volume import LazyArray, ValueScale, Volume
from emstore_adapters.em.arrays import View
from emstore_adapters.em.axes import RawAxis, arrange
from emstore_adapters.em.terms import with_dose

_BYTES_MAX: Final = 1 << 50
"""No instrument writes a petabyte: a larger declared array is a damaged header."""


@dataclass(frozen=True)
class Signal:
    """One array of a file with its axes, all in the reader's order."""

    title: str
    data: LazyArray
    axes: tuple[RawAxis, ...]
    format: str
    tree: Mapping[str, Any]
    terms: Mapping[str, Any]
    raw: tuple[RawHeader, ...]
    files: tuple[Path, ...]
    modality: str | None = None
    scale: ValueScale | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    derived: bool = False
    """Computed from what the detectors saw: an element map, a phase, a transform."""

    @property
    def rank(self) -> int:
        """How far from an image as a detector saw it; the least is the default of a file.

        0 image or stack, 1 image derived from others, 2 4D-STEM, 3 spectrum image, 4 fewer than two image axes.
        """
        names = [axis.name for axis in arrange(self.axes)[0]]
        if not {"y", "x"} <= set(names):
            return 4
        return 2 if "kx" in names else 3 if {"energy", "wavelength"} & set(names) else int(self.derived)

    def volume(self, name: str) -> Volume:
        """Return the signal as a Volume: axes named, in our order, values transposed lazily."""
        axes, order = arrange(self.axes)
        data = self.data if order == tuple(range(len(order))) else View(self.data, order)
        return Volume(
            name,
            data,
            Grid(axes),
            Header(self.format, json_safe(self.tree), with_dose(self.terms, axes), self.raw),
            modality=self.modality,
            scale=self.scale,
            files=self.files,
            attributes=self.attributes,
            notes=self.notes,
        )


def checked_shape(shape: Sequence[int], dtype: np.dtype[Any], where: str) -> tuple[int, ...]:
    """Return a declared shape as plain integers.

    Raises
    ------
    SourceUnreadable
        An empty or absurd shape; kind ``source_unsupported`` for values that are not numbers.
    """
    sizes = tuple(int(size) for size in shape)
    if dtype.kind not in "biufc":
        raise SourceUnreadable(
            f"holds values of type {dtype}, which are not numbers",
            where=where,
            fix="only numbers and booleans can be stored",
            kind=Kind.SOURCE_UNSUPPORTED,
        )
    if not sizes or min(sizes) < 1:
        raise SourceUnreadable(f"declares an empty array, shape {sizes}", where=where)
    if math.prod(sizes) * dtype.itemsize > _BYTES_MAX:
        raise SourceUnreadable(f"declares an impossible array, shape {sizes}", where=where, fix="the header is damaged")
    return sizes


def unique_names(titles: Sequence[str]) -> list[str]:
    """Return the titles with repeated ones numbered from 1: ``EDS-1``, ``EDS-2``."""
    seen: dict[str, int] = {}
    taken = set(titles)
    names = []
    for title in titles:
        if titles.count(title) > 1:
            number = seen.get(title, 0) + 1
            while f"{title}-{number}" in taken:
                number += 1
            seen[title] = number
            title = f"{title}-{number}"
        names.append(title)
    return names
