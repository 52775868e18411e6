"""Which arrays samples are cut from, checked against each other, and what a sample looks like."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.geometry import Affine, Axis, Grid
from emstore.loaders.tiling import Shape
from emstore.provenance.record import Input
from emstore.store import Version, open_version

T = TypeVar("T")
Ref = str | Version
"""``STORE/DATASET/ARRAY[/vN]``, or a version already open."""
Item = Ref | Mapping[str, Ref]
"""One version, or several on the same grid by their roles, e.g. ``{"image": ..., "labels": ...}``."""

ROLE: Final = "image"
"""Role of a version that was given without one."""
_SAME_PLACE: Final = 1e-3
"""Grids are the same when no sample is further off than this part of a voxel."""


@dataclass(frozen=True)
class Cut:
    """One array that patches are cut from: plain facts, so that another process can open it again."""

    role: str
    ref: str
    """``STORE/DATASET/ARRAY/vN``."""
    place: str
    """``DATASET/ARRAY/vN``."""
    id: str
    store: str
    """Identity of its store."""
    level: int
    dims: tuple[str, ...]
    shape: Shape
    dtype: np.dtype[Any]
    chunk: Shape
    shard: Shape

    @classmethod
    def of(cls, role: str, version: Version, level: int) -> "Cut":
        """Describe one level of a version."""
        array = version.array(level)
        dims = tuple(version.info.volume.dims)
        who = (role, version.ref, str(version.place), version.id, version.store.id)
        return cls(*who, level, dims, array.shape, array.dtype, array.block, array.shard)

    @property
    def cited(self) -> Input:
        """The version as a Record cites it."""
        return Input(role=self.role, ref=self.place, id=self.id, store=self.store)


def open_items(refs: Item | Sequence[Item], level: int) -> tuple[list[tuple[Cut, ...]], dict[str, Version], bool]:
    """Open all versions and check that the inputs of every item lie on the same grid.

    Returns
    -------
    items : list of tuple of Cut
        The inputs of every item, roles in the same order; the first one has all axes.
    versions : dict of str to Version
        The opened versions by their ref.
    plain : bool
        Versions were given without roles.

    Raises
    ------
    InvalidInput
        There are none, their roles differ, or the inputs of an item do not lie on the same grid.
    """
    given: Sequence[Item] = [refs] if isinstance(refs, str | Version | Mapping) else list(refs)
    if not given:
        raise InvalidInput("there are no versions to take patches of")
    plain = not isinstance(given[0], Mapping)
    roles = (ROLE,) if plain else tuple(given[0])  # type: ignore[arg-type]
    if not roles or not all(isinstance(role, str) and role for role in roles):
        raise InvalidInput('the inputs of a sample need names, e.g. {"image": REF, "labels": REF}')
    items, versions = [], {}
    for item in given:
        if plain == isinstance(item, Mapping) or (isinstance(item, Mapping) and set(item) != set(roles)):
            raise InvalidInput(
                "all items must have the same inputs",
                where=str(item),
                fix=f"give every item {'one version' if plain else 'the inputs ' + ', '.join(roles)}",
            )
        opened = {role: _opened(item[role] if isinstance(item, Mapping) else item) for role in roles}
        _check_grids({role: version.grid(level) for role, version in opened.items()}, opened)
        items.append(tuple(Cut.of(role, version, level) for role, version in opened.items()))
        versions.update({version.ref: version for version in opened.values()})
    return items, versions, plain


def _opened(ref: object) -> Version:
    if not isinstance(ref, str | Version):
        raise InvalidInput(f"{ref!r} is no version", fix="give STORE/DATASET/ARRAY[/vN], or what emstore.open returned")
    version = open_version(ref) if isinstance(ref, str) else ref
    if version.is_table or version.is_model:
        what = "table" if version.is_table else "model"
        raise InvalidInput(f"this version holds a {what}, which has no patches", where=version.ref, fix="give an image or labels")
    return version


def _check_grids(grids: Mapping[str, Grid], versions: Mapping[str, Version]) -> None:
    (main, whole), *others = grids.items()
    for role, grid in others:
        why = None
        for axis in grid.axes:
            if axis.name not in whole.dims:
                why = f"it has an axis {axis.name}, which {main} has not"
            elif (why := _differ(axis, whole.axis(axis.name))) is not None:
                break
        if why is None and grid.affine is not None and whole.affine is not None:
            why = _affines_differ(grid.affine, whole.affine, whole.shape[-3:])
        if why is not None:
            raise InvalidInput(
                f"{role} is not on the grid of {main} ({versions[main].place}): {why}",
                where=versions[role].ref,
                fix=f"resample one of them; the first input ({main}) must have all axes of the others",
            )


def _differ(axis: Axis, main: Axis) -> str | None:
    """Say how an axis differs from that of the main input; ``None`` when it does not. What is not known cannot differ."""
    if axis.size != main.size:
        return f"axis {axis.name} has {axis.size} samples, not {main.size}"
    if not (axis.known and main.known):
        return None
    if axis.unit != main.unit:
        return f"axis {axis.name} is in {axis.unit}, not {main.unit}"
    off = float(np.max(np.abs(axis.coordinates() - main.coordinates())))
    if off > _SAME_PLACE * (main.median_step() or 1.0):
        return f"samples along {axis.name} are up to {off:g} {main.unit or ''} apart".rstrip()
    return None


def _affines_differ(affine: Affine, main: Affine, shape: Shape) -> str | None:
    if (affine.space, affine.unit) != (main.space, main.unit):
        return f"its place is given in {affine.space} {affine.unit}, not {main.space} {main.unit}"
    corners = np.array([[*at, 1] for at in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in shape), 1]
    off = float(np.max(np.linalg.norm(corners @ (affine.array - main.array).T, axis=1)))
    step = float(np.min(np.linalg.norm(main.array[:3, :3], axis=0)))
    return f"it lies up to {off:g} {main.unit or ''} beside it" if off > _SAME_PLACE * step else None


@dataclass(frozen=True)
class Form:
    """How the patches of one input are given."""

    shape: Shape
    """Shape of the sample."""
    dtype: np.dtype[Any]
    take: tuple[int, ...]
    """Axes of the array in the order of the sample's; those left out have size 1."""
    normalise: tuple[float, float] | None
    """(a, b): values are (stored - a) / b; ``None``: as stored."""

    def __call__(self, patch: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
        """Return a patch as it goes into the sample: C order, the patch's own memory or a copy.

        Raises
        ------
        InvalidInput
            A value is too large for the type: it would have become infinite.
        """
        left = tuple(i for i in range(patch.ndim) if i not in self.take)
        values = patch.transpose((*self.take, *left)).reshape(self.shape)
        try:
            with np.errstate(over="raise"):
                if self.normalise is not None:
                    # At least single precision, and all that the stored type needs: int32 and float64 are worked on as float64.
                    values = values.astype(np.result_type(values.dtype, self.dtype, np.float32))
                    values -= self.normalise[0]
                    values /= self.normalise[1]
                return np.ascontiguousarray(values, dtype=self.dtype)
        except FloatingPointError as error:
            raise InvalidInput(f"a value is too large for {self.dtype}", where=where, fix="use float32, or normalise") from error


def per_axis(given: Sequence[int] | Mapping[str, int], cut: Cut, what: str, rest: Mapping[str, int]) -> Shape:
    """Return sizes for every axis of an array, given for all in order or for some by name; `rest` has the others.

    Raises
    ------
    InvalidInput
        They do not fit the array's axes, or are no whole numbers above 0.
    """
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in cut.dims]:
            raise InvalidInput(f"{what} names an axis {unknown[0]}; the axes are {', '.join(cut.dims)}", where=cut.ref)
        sizes = [given.get(name, rest[name]) for name in cut.dims]
    else:
        sizes = list(given)
        if len(sizes) != len(cut.dims):
            raise InvalidInput(
                f"{what} has {len(sizes)} sizes for the {len(cut.dims)} axes {', '.join(cut.dims)}",
                where=cut.ref,
                fix='give one per axis in this order, or some by name, e.g. {"y": 64, "x": 64}',
            )
    for name, size in zip(cut.dims, sizes, strict=True):
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise InvalidInput(f"{what} along {name} is {size!r}; it must be a whole number above 0", where=cut.ref)
    return tuple(int(size) for size in sizes)


def per_role(given: T | Mapping[str, T] | None, roles: Sequence[str], what: str) -> dict[str, T]:
    """Return a setting by role; one that is given without roles is for the only input.

    Raises
    ------
    InvalidInput
        It names a role there is not, or none where there are several inputs.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(roles) > 1:
            raise InvalidInput(
                f"{what} does not say for which of the inputs {', '.join(roles)} it is", fix=f'e.g. {{"{roles[0]}": {given!r}}}'
            )
        return {roles[0]: given}
    if unknown := [role for role in given if role not in roles]:
        raise InvalidInput(f"{what} names an input {unknown[0]}; the inputs are {', '.join(roles)}")
    return dict(given)


def form_of(
    cut: Cut,
    patch: Mapping[str, int],
    axes: Sequence[str | None] | None,
    dtype: str | None,
    normalise: tuple[float, float] | None,
) -> Form:
    """Say how the patches of an input are given.

    Parameters
    ----------
    cut : Cut
        The input.
    patch : mapping of str to int
        Size of a patch along every axis.
    axes : sequence of (str or None), optional
        Axes of the sample in order, ``None`` for a new one of size 1; those of the array when left out.
    dtype : str, optional
        Type of the values; the stored one when left out, ``float32`` where they are normalised.
    normalise : tuple of float, optional
        What to take away, then what to divide by.

    Raises
    ------
    InvalidInput
        An axis longer than 1 is left out, the type could not hold the values, or the numbers make no sense.
    """
    order = [name for name in (cut.dims if axes is None else axes) if name is None or name in cut.dims]
    names = [name for name in order if name is not None]
    if len(set(names)) != len(names):
        raise InvalidInput(f"axes names {max(names, key=names.count)} twice")
    if left := [name for name in cut.dims if name not in names and patch[name] > 1]:
        raise InvalidInput(
            f"axes leaves out {left[0]}, along which a patch has {patch[left[0]]} samples",
            where=cut.ref,
            fix=f'name it too, or cut patches of 1: patch={{..., "{left[0]}": 1}}',
        )
    kind = cut.dtype
    if normalise is not None:
        normalise = _two_numbers(normalise)
        kind = np.dtype(np.float32)
    if dtype is not None:
        kind = _type(dtype)
    if normalise is not None and (kind.kind != "f" or cut.dtype.kind == "c"):
        raise InvalidInput(
            f"{cut.dtype} values cannot be normalised into {kind}", where=cut.ref, fix="use a type such as float32"
        )
    if not (np.can_cast(cut.dtype, kind, "safe") or (kind.kind, cut.dtype.kind) in _MAY_ROUND):
        raise InvalidInput(f"{kind} cannot hold stored values of {cut.dtype}", where=cut.ref, fix="use a type such as float32")
    take = tuple(cut.dims.index(name) for name in names)
    return Form(tuple(1 if name is None else patch[name] for name in order), kind, take, normalise)


_MAY_ROUND: Final = frozenset({("f", "i"), ("f", "u"), ("f", "f"), ("c", "i"), ("c", "u"), ("c", "f"), ("c", "c")})
"""Kinds of type that may hold values of another kind though some digits are lost: (asked for, stored)."""


def _type(name: str) -> np.dtype[Any]:
    try:
        kind = np.dtype(name).newbyteorder("=")
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "biufc":
        raise InvalidInput(f"{name!r} is no type of numbers", fix="use e.g. float32")
    return kind


def _two_numbers(given: tuple[float, float]) -> tuple[float, float]:
    try:
        low, scale = (float(value) for value in given)
    except (TypeError, ValueError):
        low = scale = math.nan
    if not (math.isfinite(low) and math.isfinite(scale)) or scale == 0:
        raise InvalidInput(f"normalise={given!r} makes no sense", fix="give two numbers: what to take away, what to divide by")
    return low, scale
