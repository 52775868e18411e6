"""How many atoms the sites of images have: those of one specimen are decided together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.atoms import Counted, Counters, Flags, Steps, best_calls, count_atoms, fit_mixture
from emstore.processors.measure.vacancies.lattice import Lattice, Matrix

Phase = Literal["2H", "1T"]


@dataclass(frozen=True)
class Fitted:
    """The chalcogen sites of one image, from top to bottom, and what they look like."""

    places: Matrix
    """y, x, pixels, shape (N, 2)."""
    sublattice: npt.NDArray[np.int64]
    """1, or 1 and 2 where the two chalcogens of 1T lie apart."""
    amplitude: Matrix
    """Height from the joint fit, in the image's values, shape (N,)."""
    error: Matrix
    at_edge: Flags
    says: Flags
    """Whole and surrounded by metal columns: those from which the share of vacancies is found."""
    counts: Flags
    """Surrounded by metal columns that are there, and not at the edge."""
    counters: Counters
    """Overdispersion included."""
    metal: Matrix
    """Height of the metals beside every site, in the counters' unit, shape (N,)."""
    unit: float
    """The image's values per unit of the counters' heights."""
    steps: Steps
    phase: Phase
    lattice: Lattice
    metals: Matrix
    """Places of the metal columns, shape (M, 2)."""
    brighter: bool
    """The metal is the brighter of the two."""
    phi: float
    clearness: float
    """Distance between full and one atom less, in standard errors of a typical column."""
    notes: tuple[str, ...] = ()

    @property
    def atoms(self) -> int:
        """Of a full column."""
        return len(self.steps.parts) - 1


@dataclass(frozen=True)
class Sites:
    """How many atoms the sites of one image have."""

    fitted: Fitted
    counted: Counted
    called: npt.NDArray[np.int64]
    """Atoms each column is said to have, for the highest F1."""
    full: float
    """Mean height of a full column, in the image's values."""


def decide(images: Sequence[Fitted], *, seed: int = 0) -> list[Sites]:
    """Say how many atoms the sites of images of one specimen have.

    The images share the shares of vacancies, and how high a full column is beside its metals; those of another phase, or in which
    the other sublattice is the brighter, are decided by themselves.

    Parameters
    ----------
    images : sequence of Fitted
        Taken alike but for dose, turn and place.
    """
    found: dict[int, Sites] = {}
    for kind in dict.fromkeys((one.phase, one.brighter) for one in images):
        alike = [n for n, one in enumerate(images) if (one.phase, one.brighter) == kind]
        found.update(zip(alike, _decided([images[n] for n in alike], seed), strict=True))
    return [found[n] for n in range(len(images))]


def _decided(images: Sequence[Fitted], seed: int) -> list[Sites]:
    counters = Counters(
        *(np.concatenate([getattr(one.counters, name) for one in images]) for name in ("height", "rate", "offset"))
    )
    metal, says, counts = (np.concatenate([getattr(one, name) for one in images]) for name in ("metal", "says", "counts"))
    ends = np.cumsum([len(one.places) for one in images]).tolist()
    steps = images[0].steps
    mixture = fit_mixture(counters.of(says), steps, metal[says], phi=1.0)
    counted = count_atoms(counters, steps, metal, mixture, says, counts, ends, seed)
    called = np.split(_calls(np.concatenate([each.probabilities for each in counted]), counts), ends[:-1])
    return [
        Sites(one, each, calls, one.unit * mixture.level * float(one.metal.mean()))
        for one, each, calls in zip(images, counted, called, strict=True)
    ]


def _calls(probabilities: Matrix, counts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the number of atoms every column is said to have."""
    last = probabilities.shape[1] - 1
    vacant = 1 - probabilities[:, last]
    called = np.zeros(len(vacant), bool)
    called[counts] = best_calls(vacant[counts])
    least = float(vacant[counts & called].min()) if (counts & called).any() else 0.5
    called |= ~counts & (vacant >= least)
    fewer = np.argmax(probabilities[:, :last], axis=1)
    return np.asarray(np.where(called, fewer, last), np.int64)
