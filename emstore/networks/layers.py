"""What a network is made of: a list of steps. All else follows from it: its arrays, its reach, and how it is computed.

Steps work on maps on a grid of pixels. Beyond the border of the image, maps are zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

Activation = Literal["relu", "sigmoid"]


@dataclass(frozen=True)
class Weighted:
    """A step with arrays: weighted sums of maps, each with something added."""

    name: str
    inputs: int
    """Maps that go in."""
    outputs: int
    """Maps that come out."""
    activation: Activation | None = "relu"


class Convolve(Weighted):
    """Convolution with kernels of 3x3 pixels."""


class Reduce(Weighted):
    """Weighted sums of every 2x2 pixels: half as many along both axes."""


class Expand(Weighted):
    """Every pixel becomes 2x2 of them, each with weights of its own (a transposed convolution)."""


@dataclass(frozen=True)
class Pool:
    """The largest of every 2x2 pixels."""


@dataclass(frozen=True)
class Repeat:
    """Every pixel becomes 2x2 equal ones."""


@dataclass(frozen=True)
class Keep:
    """Remember the maps under a name."""

    name: str


@dataclass(frozen=True)
class Join:
    """Add the maps remembered under a name, then set what is below 0 to 0."""

    name: str


Step = Convolve | Reduce | Expand | Pool | Repeat | Keep | Join


def shapes(steps: Sequence[Step]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array, in order; kernels as Keras keeps them, (y, x, in, out), of `Expand` (y, x, out, in)."""
    found: dict[str, tuple[int, ...]] = {}
    for step in steps:
        if isinstance(step, Weighted):
            side = 3 if isinstance(step, Convolve) else 2
            maps = (step.outputs, step.inputs) if isinstance(step, Expand) else (step.inputs, step.outputs)
            found[f"{step.name}/kernel"] = (side, side, *maps)
            found[f"{step.name}/bias"] = (step.outputs,)
    return found


def factor(steps: Sequence[Step]) -> int:
    """Return of how many pixels the coarsest maps have one: sides of images are multiples of it."""
    now = most = 1
    for step in steps:
        if isinstance(step, Pool | Reduce):
            now *= 2
        elif isinstance(step, Repeat | Expand):
            now //= 2
        most = max(most, now)
    return most


def reach(steps: Sequence[Step], block: int) -> int:
    """Return how many pixels beyond a block take part in it.

    Parameters
    ----------
    steps : sequence of Step
    block : int
        Blocks begin and end at multiples of this, itself a multiple of `factor`.

    Returns
    -------
    int
        Multiple of `block`.
    """
    # In maps as fine as the result's, the block is [0, block); going back through the steps, what it is made of.
    low, high = 0, block - 1
    for step in reversed(steps):
        if isinstance(step, Convolve):
            low, high = low - 1, high + 1
        elif isinstance(step, Pool | Reduce):
            low, high = 2 * low, 2 * high + 1
        elif isinstance(step, Repeat | Expand):
            low, high = low // 2, high // 2
    return -(-max(-low, high - block + 1) // block) * block


def weighted(steps: Sequence[Step]) -> Iterator[Weighted]:
    """Yield the steps that have arrays."""
    return (step for step in steps if isinstance(step, Weighted))


def total(sizes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of parameters of arrays of some shapes."""
    return sum(map(prod, sizes.values()))
