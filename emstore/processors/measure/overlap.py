"""``measure.overlap``: how well labels agree with a reference, class by class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure import counts
from emstore.processors.measure.pairs import ROLES, same_grid
from emstore.processors.measure.slices import SliceParams, Slices, plain
from emstore.table import Column, Table
from emstore.volume import Volume

Tally = dict[int, npt.NDArray[np.int64]]
"""By class: voxels of it in both volumes, in the image, in the reference, row by row; shape (3, rows)."""

MOST_CLASSES = 256
_WORK_BYTES = 48.0  # np.unique of labels that all differ

_FIGURES = {
    "dice": "2 tp / (2 tp + fp + fn)",
    "jaccard": "tp / (tp + fp + fn)",
    "accuracy": "(tp + tn) / all",
    "precision": "tp / (tp + fp)",
    "sensitivity": "tp / (tp + fn), also called recall",
    "specificity": "tn / (tn + fp)",
}


class OverlapParams(SliceParams):
    """Parameters of `Overlap`."""

    classes: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Labels to compare; left out: all that occur in either volume but 0."
    )
    foreground: bool = Field(default=False, description="Take every label but 0 for one class, as in masks of 0 and 255.")


class Overlap:
    """Dice, Jaccard, accuracy, precision, sensitivity and specificity of labels against a reference; exact.

    For each class, a voxel is a true positive (tp) when both volumes say so, a false positive (fp) when only the image does,
    a false negative (fn) when only the reference does, and a true negative (tn) otherwise. Rows are slices times classes. A
    ratio of nothing to nothing, e.g. the Dice coefficient of a class that neither has, is unknown.
    """

    name: ClassVar[str] = "measure.overlap"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Measure Dice, Jaccard, accuracy, precision, sensitivity and specificity of labels against a reference"
    )
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = OverlapParams

    def plan(self, volumes: Sequence[Volume], params: OverlapParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_grid(volumes)
        for one in (image, reference):
            if one.dtype.kind not in "biu":
                raise InvalidInput(
                    f"values of type {one.dtype.name} are no labels", where=one.name, fix="make labels with segment.threshold"
                )
        if params.classes is not None and params.foreground:
            raise InvalidInput("classes and foreground exclude each other", fix="give one of them")
        chosen = (1,) if params.foreground else params.classes
        work = _Pass(
            f"overlap of {image.name} with {reference.name}",
            Slices.of(image, params.axis),
            None if chosen is None else tuple(dict.fromkeys(chosen)),
            params.foreground,
        )
        return Operation(None, reduction=Reduction(work.map, work.start, work.add, work.finish), work_bytes=_WORK_BYTES)


@dataclass(frozen=True)
class _Pass:
    """The pass over both volumes."""

    title: str
    slices: Slices
    classes: tuple[int, ...] | None
    foreground: bool

    def start(self) -> dict[str, Any]:
        """Return nothing seen."""
        return {"voxels": np.zeros(self.slices.count, np.int64), "tally": {}}

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> dict[str, Any]:
        """Return the tally of a block's part of every slice it touches."""
        tally: Tally = {}
        rows = self.slices.rows(block)
        voxels = np.zeros(len(rows), np.int64)
        for row, pair in enumerate(self.slices.parts(block.crop(arrays[0]), block.crop(arrays[1], of=1))):
            image, reference = (np.ravel(one != 0 if self.foreground else one) for one in pair)
            voxels[row] = image.size
            same = image == reference
            for kind, values in enumerate((image[same], image, reference)):
                for label, number in _labels(values):
                    if self._wanted(label):
                        tally.setdefault(label, np.zeros((3, len(rows)), np.int64))[kind, row] = number
            self._refuse_many(tally)
        return {"voxels": voxels, "tally": tally}

    def _wanted(self, label: int) -> bool:
        return label != 0 if self.classes is None else label in self.classes

    def _refuse_many(self, tally: Tally) -> None:
        if len(tally) > MOST_CLASSES:
            raise InvalidInput(
                f"there are more than {MOST_CLASSES} classes",
                fix="name the ones to compare with classes=..., or take all for one with foreground=true",
            )

    def add(self, state: dict[str, Any], block: Block, part: dict[str, Any]) -> dict[str, Any]:
        """Add up, slice by slice."""
        rows = self.slices.rows(block)
        at = slice(rows.start, rows.stop)
        state["voxels"][at] += part["voxels"]
        for label, found in part["tally"].items():
            state["tally"].setdefault(label, np.zeros((3, self.slices.count), np.int64))[:, at] += found
        self._refuse_many(state["tally"])
        return state

    def finish(self, state: dict[str, Any]) -> Table:
        """Return the table."""
        labels = sorted(state["tally"]) if self.classes is None else list(self.classes)
        nothing = np.zeros((3, self.slices.count), np.int64)
        found = np.stack([state["tally"].get(label, nothing) for label in labels], axis=-1) if labels else nothing[..., :0, None]
        voxels = np.repeat(state["voxels"], len(labels)) if labels else np.zeros(0, np.int64)
        rows = [one.ravel() for one in _confusion(found, voxels.reshape(found.shape[1:]))]
        place = {
            name: Column(np.repeat(column.values, len(labels)), column.unit, column.description)
            for name, column in self.slices.columns().items()
        }
        columns = {
            **place,
            "class": Column(np.tile(np.array(labels, np.int64), found.shape[1]), None, "label"),
            **{
                name: Column(values, None, told)
                for name, values, told in zip(
                    ("tp", "fp", "fn", "tn"),
                    rows,
                    ("true positives", "false positives", "false negatives", "true negatives"),
                    strict=True,
                )
            },
            **{name: Column(values, None, _FIGURES[name]) for name, values in _figures(*rows).items()},
        }
        total = int(state["voxels"].sum())
        summary: dict[str, Any] = {"voxels": total, "classes": labels}
        for i, label in enumerate(labels):
            whole = _confusion(found[:, :, i].sum(axis=1), np.array(total))
            for name, value in _figures(*whole).items():
                summary[name if len(labels) == 1 else f"{name}_{label}"] = plain(float(value))
        notes = () if labels else ("neither volume has a label but 0",)
        return Table(self.title, columns, summary, notes)


def _labels(values: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield every label that occurs, and how often."""
    if counts.countable(values.dtype):
        found = counts.count(values)
        there = np.flatnonzero(found)
        yield from zip(counts.values_of(values.dtype)[there].tolist(), found[there].tolist(), strict=True)
    else:
        for label, number in zip(*np.unique(values, return_counts=True), strict=True):
            yield int(label), int(number)


def _confusion(found: npt.NDArray[np.int64], voxels: npt.NDArray[np.int64]) -> tuple[Any, Any, Any, Any]:
    """Return tp, fp, fn, tn of tallies, shape (3, ...)."""
    both, image, reference = found
    return both, image - both, reference - both, voxels - image - reference + both


def _figures(tp: Any, fp: Any, fn: Any, tn: Any) -> dict[str, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "dice": np.divide(2 * tp, 2 * tp + fp + fn),
            "jaccard": np.divide(tp, tp + fp + fn),
            "accuracy": np.divide(tp + tn, tp + fp + fn + tn),
            "precision": np.divide(tp, tp + fp),
            "sensitivity": np.divide(tp, tp + fn),
            "specificity": np.divide(tn, tn + fp),
        }
