"""A simulator and a trainer small enough to be killed at any step, which tell in a file what they did (``PLANTED_LOG``).

And processors that work with weights, with tables, and with any number of inputs.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

import emstore
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.simulator import Simulated
from emstore.table import Column, Table
from emstore.volume import MemoryArray, Region, Volume
from emstore.weights import Weights
from emstore.work import Bench

PACKAGE = "planted-makers"
SIMULATORS = ("planted.spots = planted_makers:Spots",)
TRAINERS = ("planted.mean = planted_makers:Mean",)
PROCESSORS = (
    "planted.add = planted_makers:Add",
    "planted.tally = planted_makers:Tally",
    "planted.marked = planted_makers:Marked",
)


def log(line: str) -> None:
    """Tell the test what was done."""
    with Path(os.environ["PLANTED_LOG"]).open("a") as file:
        file.write(f"{line}\n")


class SpotsParams(Params):
    size: int = Field(12, ge=1, description="rows and columns, pixels")
    steps: int = Field(4, ge=1, description="images that are added up")
    pause: float = Field(0.0, description="wait in every step, seconds")
    linger: float = Field(0.0, description="wait before a part of the phase is read, seconds")
    seed: int = Field(0, description="seed of the noise")
    note: str = Field("", description="text for the Record")
    fault: str = Field("", description="what to do wrong")


@dataclass(frozen=True)
class Slow:
    """Values that are made as they are read."""

    values: npt.NDArray[Any]
    linger: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def block(self) -> tuple[int, ...]:
        return (1,) * self.values.ndim

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        time.sleep(self.linger)
        log("read the phase")
        return self.values[region]


def spots(size: int, steps: int, seed: int) -> npt.NDArray[Any]:
    """Return the sum that the simulator must come to."""
    return sum(np.random.default_rng([seed, k]).integers(0, 9, (size, size)) for k in range(steps)).astype("f4")  # type: ignore[union-attr, no-any-return]


class Spots:
    """Adds random images up, one a step, each kept in its scratch folder."""

    name: ClassVar[str] = "planted.spots"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Scatter spots"
    params: ClassVar[type[Params]] = SpotsParams
    libraries: ClassVar[tuple[str, ...]] = ("scipy",)

    def simulate(self, params: SpotsParams, bench: Bench) -> Sequence[Simulated]:
        total = np.zeros((params.size, params.size), "f4")
        for k in range(params.steps):
            kept = bench.scratch / f"{k}.npy"
            if not kept.exists():
                time.sleep(params.pause)
                if params.fault == "raise" and k == 1:
                    raise RuntimeError("a spot fell off")
                if params.fault == "stop" and k == 1 and not (bench.scratch / "stopped").exists():
                    (bench.scratch / "stopped").touch()
                    raise KeyboardInterrupt
                beside = bench.scratch / f"{k}.part.npy"
                np.save(beside, np.random.default_rng([params.seed, k]).integers(0, 9, total.shape))
                beside.replace(kept)
                log(f"step {k}")
            total += np.load(kept)
            bench.tell((k + 1) / params.steps, f"step {k + 1}")
        axes = tuple(Axis(name, params.size, AxisKind.SPACE, 0.25, "angstrom") for name in "yx")

        def image(values: Any, *notes: str) -> Volume:
            return Volume("spots", values, Grid(axes), Header("simulation"), modality="stem", notes=notes)

        columns = Table("columns", {"y": Column(np.arange(3.0), "angstrom"), "species": Column(np.array(["Mo", "S", "S"]))})
        suffix = "columns" if params.fault != "twice" else "phase"
        return (
            Simulated("", image(MemoryArray(total), "Made of spots.")),
            Simulated(suffix, columns),
            Simulated("phase", image(Slow(-total, params.linger))),
        )


class MeanParams(Params):
    epochs: int = Field(4, ge=1, description="passes over the data")
    pause: float = Field(0.0, description="wait in every pass, seconds")
    seed: int = Field(0, description="seed of the start")
    fault: str = Field("", description="what to do wrong")


class Mean:
    """Learns the mean, and a number that no two trainings share."""

    name: ClassVar[str] = "planted.mean"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Learn the mean"
    inputs: ClassVar[tuple[str, ...]] = ("training", "validation")
    params: ClassVar[type[Params]] = MeanParams

    def train(self, refs: Sequence[str], params: MeanParams, bench: Bench) -> Weights:
        training, validation = (np.asarray(emstore.open(ref).xarray()["image"]) for ref in refs)
        checkpoint = bench.scratch / "checkpoint.json"
        done = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"epoch": 0, "mean": 0.0}
        for epoch in range(done["epoch"], params.epochs):
            time.sleep(params.pause)
            if params.fault == "raise":
                raise RuntimeError("the loss ran away")
            done = {"epoch": epoch + 1, "mean": done["mean"] + float(training.mean()) / params.epochs}
            beside = checkpoint.with_suffix(".part")
            beside.write_text(json.dumps(done))
            beside.replace(checkpoint)
            log(f"epoch {epoch}")
            bench.tell((epoch + 1) / params.epochs, f"epoch {epoch + 1}")
        if params.fault == "nothing":
            return None  # type: ignore[return-value]
        name = "bad name" if params.fault == "name" else "layer/mean"
        return Weights(
            "planted",
            "planted",
            {"scale": 2},
            {name: np.array([done["mean"]], "f4"), "chance": np.frombuffer(os.urandom(16), "u1")},
            "CC0-1.0",
            {"validation": float(((validation - done["mean"]) ** 2).mean()), "epochs": params.epochs},
            ("Learnt the mean.",),
        )


class AddParams(Params):
    weights: str = Field("planted-shipped", description="name or REF of the weights")
    offset: float = Field(0.0, description="what is added besides")


class Add:
    """Adds what was learnt, in every block."""

    name: ClassVar[str] = "planted.add"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Add what was learnt"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AddParams
    weights: ClassVar[tuple[str, ...]] = ("planted",)

    def plan(self, volumes: Sequence[Volume], params: AddParams, *, weights: Weights) -> Operation:
        added = float(weights.arrays["layer/mean"][0]) + params.offset

        def apply(block: Block, arrays: Sequence[Any], found: Any) -> npt.NDArray[Any]:
            return (arrays[0] + added).astype("f4")  # type: ignore[no-any-return]

        return Operation(Result.like(volumes[0], dtype=np.dtype("f4")), apply)


class Tally:
    """Counts the rows of tables, and their mean height."""

    name: ClassVar[str] = "planted.tally"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Tally columns"
    inputs: ClassVar[tuple[str, ...]] = ("columns*",)
    params: ClassVar[type[Params]] = Params
    tables: ClassVar[tuple[str, ...]] = ("columns",)

    def plan(self, tables: Sequence[Any], params: Params) -> Table:
        return Table("tally", {"rows": Column(np.array([table.rows for table in tables]))}, {"tables": len(tables)})


class Marked:
    """Puts every column of a table into an image, or counts what the image has there."""

    name: ClassVar[str] = "planted.marked"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Mark columns"
    inputs: ClassVar[tuple[str, ...]] = ("image", "columns", "others*")
    params: ClassVar[type[Params]] = Params
    tables: ClassVar[tuple[str, ...]] = ("columns",)

    def plan(self, inputs: Sequence[Any], params: Params) -> Operation:
        image, table, *others = inputs
        height = float(table.columns["y"].values.sum())

        def apply(block: Block, arrays: Sequence[Any], found: Any) -> npt.NDArray[Any]:
            assert len(arrays) == len(block.inputs) == 1 + len(others)
            return (sum(arrays) + height).astype("f4")  # type: ignore[no-any-return, union-attr]

        return Operation(Result.like(image, dtype=np.dtype("f4")), apply)
