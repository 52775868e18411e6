"""``measure.roc``: how well scores tell the true from the false, at every threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure import counts
from emstore.processors.measure.pairs import ROLES, same_grid
from emstore.processors.measure.slices import real
from emstore.table import Column, Table
from emstore.volume import Volume

Tally = npt.NDArray[np.int64]
"""Scores of false and of true voxels, per value or bin, lowest first; then how many are NaN, how many out of range.

Shape (2, n + 2).
"""

_WORK_BYTES = 32.0


class RocParams(Params):
    """Parameters of `RocCurve`."""

    bins: int = Field(default=65536, ge=2, le=1 << 20, description="Bins that scores of wide types are sorted into.")
    range: tuple[float, float] | None = Field(
        default=None,
        description="Smallest and largest possible score, e.g. [0, 1]; needed unless scores are integers of <= 16 bits.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> "RocParams":
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("the range must go from a smaller to a larger score")
        return self


class RocCurve:
    """Receiver operating characteristic and the area under it, of scores against a truth (not 0 = true).

    Rows are thresholds, highest first: a voxel is taken for true when its score is at least the threshold (Fawcett, Pattern
    Recognition Letters 27, 861, 2006). The area is that of the Mann-Whitney statistic, ties counted half (Hanley & McNeil,
    Radiology 143, 29, 1982). Scores of at most 16-bit integers are counted one by one: exact. Others are sorted into equal
    bins, those outside the range into the bins at its ends, and the summary's ``auc_error`` says how far the area can be off,
    at most: half the share of pairs in one bin. NaN scores are left out and counted.
    """

    name: ClassVar[str] = "measure.roc"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure the receiver operating characteristic of scores against a truth, and the area under it"
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = RocParams

    def plan(self, volumes: Sequence[Volume], params: RocParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_grid(volumes)
        real(image)
        if reference.dtype.kind not in "biu":
            raise InvalidInput(
                f"values of type {reference.dtype.name} are no truth",
                where=reference.name,
                fix="give labels: 0 false, others true",
            )
        dtype = image.dtype.newbyteorder("=")
        exact = counts.countable(dtype)
        if not exact and params.range is None:
            raise InvalidInput(
                f"scores of type {dtype.name} are too many to count one by one",
                where=image.name,
                fix="give the range they lie in, e.g. range=[0,1]",
            )
        work = _Pass(f"ROC of {image.name} against {reference.name}", dtype, None if exact else params.range, params.bins)
        return Operation(None, reduction=Reduction(work.map, work.start, work.add, work.finish), work_bytes=_WORK_BYTES)


@dataclass(frozen=True)
class _Pass:
    """The pass over scores and truth."""

    title: str
    dtype: np.dtype[Any]
    range: tuple[float, float] | None
    """Of binned scores; ``None`` when every value is counted."""
    bins: int

    @property
    def _size(self) -> int:
        return int(counts.values_of(self.dtype).size) if self.range is None else self.bins

    def start(self) -> Tally:
        """Return nothing seen."""
        return np.zeros((2, self._size + 2), np.int64)

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> Tally:
        """Return the tally of a block."""
        scores, truth = block.crop(arrays[0]).ravel(), block.crop(arrays[1], of=1).ravel() != 0
        return np.stack([self._count(scores[~truth]), self._count(scores[truth])])

    def _count(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if self.range is None:
            return np.append(counts.count(scores), (0, 0))
        known = scores[~np.isnan(scores)] if self.dtype.kind == "f" else scores
        low, high = self.range
        inside = int(np.count_nonzero((known >= low) & (known <= high)))
        found, _ = np.histogram(np.clip(known.astype(np.float64, copy=False), low, high), self.bins, self.range)
        return np.append(found, (scores.size - known.size, known.size - inside))

    def add(self, state: Tally, block: Block, part: Tally) -> Tally:
        """Add up."""
        return state + part

    def finish(self, state: Tally) -> Table:
        """Return the curve."""
        unknown, outside = (int(n) for n in state[:, -2:].sum(axis=0))
        lowest = counts.values_of(self.dtype) if self.range is None else np.linspace(*self.range, self.bins + 1)[:-1]
        there = np.flatnonzero(state[:, :-2].any(axis=0))[::-1]  # highest score first
        false, true = state[:, there]
        negatives, positives = int(false.sum()), int(true.sum())
        thresholds = np.concatenate([[np.inf], lowest[there].astype(np.float64)])
        fp, tp = (np.concatenate([[0], np.cumsum(one)]) for one in (false, true))
        with np.errstate(invalid="ignore", divide="ignore"):
            columns = {
                "threshold": Column(thresholds, None, "smallest score taken for true"),
                "fp": Column(fp, None, "false positives"),
                "tp": Column(tp, None, "true positives"),
                "fpr": Column(np.divide(fp, negatives), None, "false positive rate, fp / negatives"),
                "tpr": Column(np.divide(tp, positives), None, "true positive rate, tp / positives"),
            }
        summary: dict[str, Any] = {
            "auc": None,
            "auc_error": None,
            "positives": positives,
            "negatives": negatives,
            "unknown": unknown,
            "outside": outside,
        }
        if positives and negatives:
            # In Python's integers: the products of counts of a large volume do not fit 64 bits.
            higher = np.cumsum(true) - true
            above = sum(n * m for n, m in zip(false.tolist(), higher.tolist(), strict=True))
            tied = sum(n * m for n, m in zip(false.tolist(), true.tolist(), strict=True))
            pairs = positives * negatives
            summary |= {"auc": (2 * above + tied) / (2 * pairs), "auc_error": 0.0 if self.range is None else tied / (2 * pairs)}
        notes = () if positives and negatives else ("the truth holds only one of true and false: there is no area",)
        return Table(self.title, columns, summary, notes)
