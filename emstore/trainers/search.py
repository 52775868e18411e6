"""Trying settings of the autoencoder at random, over the search space of the paper.

References
----------
.. [1] J. Bergstra, Y. Bengio, "Random search for hyper-parameter optimization", J. Mach. Learn. Res. 13 (2012) 281-305.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from pydantic import Field

from emstore.errors import ProcessingFailed
from emstore.networks.autoencoder import parameter_count
from emstore.networks.chance import stream
from emstore.processor import Params
from emstore.table import Column, Table
from emstore.trainers.autoencoder import AutoencoderTrainer, AutoencoderTrainingParams
from emstore.work import Bench

FILTERS: Final = (8, 16, 32, 64)
DEPTHS: Final = (1, 2, 3)
"""6, 10 and 14 layers."""
WEIGHTS: Final = (10.0, 100.0, 1000.0, 10_000.0)
BATCHES: Final = (16, 32, 64)
OPTIMISERS: Final = ("adam", "adadelta")
TRIALS: Final = "trials.json"


class SearchParams(Params):
    """Parameters of `search`."""

    trials: int = Field(20, ge=1, description="how many settings to try")
    seed: int = Field(0, ge=0, description="what settings are drawn from, and every training's own seed")
    steps: int | None = Field(None, ge=1, description="steps of every training")
    minutes: float | None = Field(None, gt=0, description="minutes of every training: all get the same time, not the same steps")
    cpu_minutes: float | None = Field(None, gt=0, description="the same in minutes of all CPU threads together")
    crop: int | None = Field(None, ge=8, description="side of what is cut from every image, pixels; whole images when left out")
    held_out: int = Field(128, ge=1, description="most images of the validation version to find the held-out error on")


def search(refs: Sequence[str], params: SearchParams, bench: Bench) -> Table:
    """Train the autoencoder with settings drawn at random, all else equal, and say what came of each.

    Trials that are done are kept in ``bench.scratch``; a stopped search goes on with the next, or with the checkpoint of the
    one it was at.

    Parameters
    ----------
    refs : sequence of str
        Training and validation version, as `AutoencoderTrainer` takes them.
    params : SearchParams
    bench : Bench

    Returns
    -------
    Table
        One row per trial, the best first; the summary has the best one's settings.

    Raises
    ------
    InvalidInput
        As `AutoencoderTrainer.train`.
    """
    path = bench.scratch / TRIALS
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for number in range(len(done), params.trials):
        settings = drawn(params.seed, number)
        training = AutoencoderTrainingParams(
            **params.model_dump(include={"seed", "steps", "minutes", "cpu_minutes", "crop", "held_out"}), **settings
        )
        scratch = bench.scratch / f"trial-{number}"
        scratch.mkdir(exist_ok=True)

        def tell(share: float, what: str, number: int = number) -> None:
            bench.tell((number + share) / params.trials, f"trial {number + 1} of {params.trials}, {what}")

        error, steps = float("nan"), 0
        try:
            weights = AutoencoderTrainer().train(refs, training, replace(bench, scratch=scratch, tell=tell))
            error, steps = weights.figures["held_out"]["ratio"], weights.figures["steps"]
        except ProcessingFailed:
            pass  # a network that died, or ran away, is a result of the search: its error is not known
        done.append({**settings, "error": None if np.isnan(error) else error, "steps": steps})
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(done))
        beside.replace(path)
    return table(done)


def drawn(seed: int, number: int) -> dict[str, Any]:
    """Return the settings of one trial: every combination of the space is equally likely."""
    rng = stream(seed, "search", number)
    space: dict[str, Sequence[Any]] = {
        "filters": FILTERS,
        "depth": DEPTHS,
        "weight": WEIGHTS,
        "batch": BATCHES,
        "optimiser": OPTIMISERS,
    }
    found: dict[str, Any] = {name: values[int(rng.integers(len(values)))] for name, values in space.items()}
    # The rates that the two methods' authors give: Adadelta's is a factor of steps that it finds itself.
    return {**found, "rate": 1.0 if found["optimiser"] == "adadelta" else 1e-3}


def table(done: Sequence[dict[str, Any]]) -> Table:
    """Return trials as a table, the best first, those that failed last."""
    rows = sorted(enumerate(done), key=lambda row: (row[1]["error"] is None, row[1]["error"] or 0.0))
    best = rows[0][1] if rows[0][1]["error"] is not None else {}

    def numbers(name: str, kind: str) -> Any:
        return np.array([np.nan if row[name] is None else row[name] for _, row in rows], dtype=kind)

    return Table(
        "trials",
        {
            "trial": Column(np.array([number for number, _ in rows]), description="in the order they were tried"),
            "layers": Column(4 * numbers("depth", "i8") + 2, description="input, convolutions, poolings and repetitions"),
            "filters": Column(numbers("filters", "i8"), description="maps of every layer but the last"),
            "weight": Column(numbers("weight", "f8"), description="of pixels that are not the darkest, in the loss"),
            "batch": Column(numbers("batch", "i8"), description="images per step"),
            "optimiser": Column(np.array([row["optimiser"] for _, row in rows]), description="what takes the steps"),
            "parameters": Column(np.array([parameter_count(row["filters"], row["depth"]) for _, row in rows])),
            "steps": Column(numbers("steps", "i8"), description="taken until the end"),
            "error": Column(numbers("error", "f8"), description="least held-out squared error, in parts of the noisy images'"),
        },
        summary={"best": best},
    )
