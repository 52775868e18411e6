"""The one loop that all trainings go through: steps, held-out error, checkpoints, and an honest end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput, ProcessingFailed
from emstore.networks import archive
from emstore.networks.architectures import Network, started
from emstore.networks.backend import chosen, keras
from emstore.networks.chance import stream
from emstore.networks.graph import build, computed, numbers, put, take
from emstore.processor import Params
from emstore.trainers.data import Images, Source, batches, finite, varied
from emstore.weights import Weights
from emstore.work import Bench

CPU: Final = "cpu"  # with a number, Keras moves its variables and loses their gradients on torch
CHECKPOINT: Final = "checkpoint.npz"
SAVE_EVERY: Final = 300.0
"""Seconds of training after which a checkpoint is written though no held-out error is due."""
STILL: Final = 0.1
"""Most that the held-out error of a training that has converged falls by in its second half, in parts of itself."""
FEWEST: Final = 10
"""Validations without which that cannot be told."""

HISTORY: Final = ("step", "seconds", "loss", "held_out_mse", "cpu_seconds")
"""What is kept of every validation; the loss is the mean since the one before."""

Arrays = Mapping[str, npt.NDArray[Any]]


class TrainingParams(Params):
    """Parameters of every training."""

    seed: int = Field(0, ge=0, description="what first weights, order, flips, turns and noise come from")
    steps: int | None = Field(None, ge=1, description="stop after so many steps")
    minutes: float | None = Field(
        None, gt=0, description="stop after so many minutes of training, held-out error included, from the first step on"
    )
    cpu_minutes: float | None = Field(
        None,
        gt=0,
        description="stop after so many minutes of all CPU threads together, counted likewise: the same work whatever else runs "
        "on the machine, but for trainings on a GPU",
    )
    batch: int = Field(16, ge=1, description="images per step")
    crop: int | None = Field(None, ge=8, description="side of what is cut from every image, pixels; whole images when left out")
    optimiser: Literal["adam", "adadelta"] = Field("adam", description="what takes the steps")
    rate: float = Field(1e-3, gt=0, description="learning rate at the beginning")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="how the rate goes on: falling to 1/50 along a cosine over the whole training, or as it is"
    )
    validations: int = Field(40, ge=1, description="how often the held-out error is found over the whole training")
    patience: int | None = Field(
        None, ge=1, description="stop when the held-out error was not the least for so many times; never when left out"
    )
    held_out: int = Field(128, ge=1, description="most images of the validation version to find the held-out error on")

    @model_validator(mode="after")
    def _ends(self) -> "TrainingParams":
        if self.steps is None and self.minutes is None and self.cpu_minutes is None:
            raise ValueError("give steps or minutes or cpu_minutes: when to stop")
        return self


@dataclass(frozen=True)
class Job:
    """What is fitted to what."""

    name: str
    """Of the weights."""
    network: Network
    loss: Callable[[], Any]
    """Returns the loss for Keras."""
    noisy: Callable[[Images, np.random.Generator], tuple[Images, Images]]
    """Returns what goes in and what should come out, of clean images (n, y, x)."""
    params: TrainingParams
    refs: Sequence[str]
    """Training and validation version."""


@dataclass
class _State:
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process, all threads."""
    history: list[list[float]] = field(default_factory=list)
    """Of every validation: `HISTORY`."""
    losses: list[float] = field(default_factory=list)
    best: int | None = None
    """Which validation was the best."""
    resumed: int = 0


class _Clock:
    """Adds the time from now on to what a state had already."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.began = time.monotonic() - state.seconds
        self.cpu_began = time.process_time() - state.cpu_seconds

    def read(self) -> None:
        self.state.seconds = time.monotonic() - self.began
        self.state.cpu_seconds = time.process_time() - self.cpu_began


def fit(job: Job, bench: Bench) -> Weights:
    """Fit a network.

    A stopped training goes on from its last checkpoint. With a budget in steps it ends with the same weights as one that was
    never stopped, but for rounding on a GPU; with one in minutes, of whichever kind, those before the checkpoint count.

    Raises
    ------
    InvalidInput
        The versions cannot be trained on, or a library is missing.
    ProcessingFailed
        The loss is not finite, or every output is the same: the network died.
    """
    backend = chosen()
    k = keras()
    with _surroundings(k, backend, bench):
        return _Fitting(job, bench, backend, k).run()


class _Fitting:
    def __init__(self, job: Job, bench: Bench, backend: str, k: Any) -> None:
        self.job, self.bench, self.backend, self.params = job, bench, backend, job.params
        share = max(bench.memory // 4, 1 << 20)
        factor = job.network.factor
        self.source = Source(job.refs[0], self.params.crop, factor, share, backend)
        held_out = Source(job.refs[1], None, factor, share, backend)
        self.sides = self.source.sides()
        sides = held_out.sides()
        clean = np.stack([image for image, _ in zip(held_out.images(sides), range(self.params.held_out), strict=False)])
        finite(clean, held_out.ref)
        pairs = [job.noisy(image[None], stream(self.params.seed, "held out", n)) for n, image in enumerate(clean)]
        self.noisy, self.clean = (np.concatenate(each) for each in zip(*pairs, strict=True))
        self.noisy_error = _error(self.noisy, self.clean)
        # Keras on torch copies every map when channels come last; TensorFlow on a CPU knows nothing else.
        self.channel = 1 if backend == "torch" else -1
        self.model = build(job.network, layout="channels_first" if backend == "torch" else "channels_last")
        put(self.model, job.network, started(job.network, self.params.seed))
        optimiser = k.optimizers.Adam if self.params.optimiser == "adam" else k.optimizers.Adadelta
        self.model.compile(optimizer=optimiser(self.params.rate), loss=job.loss(), jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)
        self.libraries = f"keras {k.__version__}, {backend}"
        self.state, self.best = _State(), take(self.model, job.network)

    def run(self) -> Weights:
        self._resume()
        state, params = self.state, self.params
        clock = _Clock(state)
        saved = state.seconds
        data = batches(self.source, self.sides, batch=params.batch, seed=params.seed, step=state.step)
        stopped = "budget"
        while self._share() < 1:
            rng = stream(params.seed, "step", state.step)
            clean = next(data)
            finite(clean, self.source.ref)
            image, wanted = self.job.noisy(varied(clean, rng), rng)
            self.model.optimizer.learning_rate.assign(self._rate())
            loss = float(self.model.train_on_batch(self._shaped(image), self._shaped(wanted)))
            if not math.isfinite(loss):
                raise ProcessingFailed(
                    f"the loss is {loss} at step {state.step}", where=self.job.name, fix="use a lower rate, or another seed"
                )
            state.losses.append(loss)
            state.step += 1
            clock.read()
            due = len(state.history) < math.floor(self._share() * params.validations)
            if due:
                self._validate()
                clock.read()
            if due or state.seconds - saved > SAVE_EVERY:
                self._save()
                saved = state.seconds
            self.bench.tell(min(self._share(), 1.0), f"step {state.step}: {self._told()}")
            if self._given_up():
                stopped = f"not better for {params.patience} validations"
                break
        return self._weights(stopped)

    def _share(self) -> float:
        params, state = self.params, self.state
        shares = [state.step / params.steps] if params.steps else []
        if params.minutes:
            shares.append(state.seconds / (60 * params.minutes))
        if params.cpu_minutes:
            shares.append(state.cpu_seconds / (60 * params.cpu_minutes))
        return max(shares)

    def _rate(self) -> float:
        if self.params.schedule == "constant":
            return self.params.rate
        return self.params.rate * max(0.02, 0.5 * (1 + math.cos(math.pi * min(1.0, self._share()))))

    def _shaped(self, images: Images) -> Images:
        return np.expand_dims(images, self.channel)

    def _found(self) -> Images:
        found: Images = np.empty(self.clean.shape, np.float32)
        for n in range(0, len(found), 8):
            part = computed(self.model, self._shaped(self.noisy[n : n + 8]))
            found[n : n + 8] = np.maximum(part.squeeze(self.channel), 0)
        return found

    def _validate(self) -> None:
        state = self.state
        found = self._found()
        error = _error(found, self.clean)
        if not math.isfinite(error) or np.ptp(found) == 0:
            raise ProcessingFailed(
                f"at step {state.step} the network gives {'the same value' if math.isfinite(error) else 'infinity'} everywhere",
                where=self.job.name,
                fix="use another seed, or a lower rate",
            )
        seconds, cpu_seconds = round(state.seconds, 3), round(state.cpu_seconds, 3)
        state.history.append([state.step, seconds, float(np.mean(state.losses)), error, cpu_seconds])
        state.losses.clear()
        if state.best is None or error < state.history[state.best][3]:
            state.best = len(state.history) - 1
            self.best = take(self.model, self.job.network)

    def _told(self) -> str:
        if not self.state.history:
            return f"loss {self.state.losses[-1]:.4g}"
        return f"held-out error {self.state.history[-1][3] / self.noisy_error:.4f} of the noisy images'"

    def _given_up(self) -> bool:
        state, patience = self.state, self.params.patience
        return patience is not None and state.best is not None and len(state.history) - 1 - state.best >= patience

    # ------------------------------------------------------------------------------------------------ checkpoints

    def _save(self) -> None:
        state = self.state
        arrays = {f"now/{name}": values for name, values in take(self.model, self.job.network).items()}
        arrays |= {f"best/{name}": values for name, values in self.best.items()}
        for number, variable in enumerate(self.model.optimizer.variables):
            arrays[f"optimizer/v{number}"] = numbers(variable)
        archive.write(self.bench.scratch / CHECKPOINT, {"state": vars(state), "job": self._identity()}, arrays)

    def _resume(self) -> None:
        path = self.bench.scratch / CHECKPOINT
        if not path.exists():
            return
        facts, arrays = archive.read(path)
        if facts["job"] != self._identity():
            raise InvalidInput("the checkpoint is of another training", where=CHECKPOINT, fix="use an empty scratch folder")
        self.state = _State(**facts["state"])
        self.state.resumed += 1
        put(self.model, self.job.network, _part(arrays, "now/"))
        self.best = _part(arrays, "best/")
        for number, variable in enumerate(self.model.optimizer.variables):
            variable.assign(arrays[f"optimizer/v{number}"])

    def _identity(self) -> dict[str, Any]:
        job = self.job
        return {
            "name": job.name,
            "architecture": job.network.architecture,
            "settings": dict(job.network.settings),
            "params": job.params.model_dump(mode="json"),
            "refs": [ref.rpartition("/")[2] for ref in job.refs],
        }

    # ------------------------------------------------------------------------------------------------ the end

    def _weights(self, stopped: str) -> Weights:
        state, network = self.state, self.job.network
        if not state.history or state.history[-1][0] != state.step:
            self._validate()
        assert state.best is not None
        best = state.history[state.best]
        late = fell([row[3] for row in state.history])
        # Where the learning rate falls all the time, the last part of a training is flat whether it has converged or not.
        converged = late is not None and late < STILL and best[3] < self.noisy_error
        notes = [] if converged else ["The held-out error was still falling in the second half: the training has not converged."]
        figures = {
            "parameters": network.parameters,
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "cpu_seconds": round(state.cpu_seconds, 1),
            "images_seen": state.step * self.params.batch,
            "sides": list(self.sides),
            "stopped": stopped,
            "resumed": state.resumed,
            "converged": converged,
            "fell_in_second_half": late,
            "held_out": {
                "images": len(self.clean),
                "noisy_mse": self.noisy_error,
                "mse": best[3],
                "ratio": best[3] / self.noisy_error,
                "step": best[0],
            },
            "history_columns": list(HISTORY),
            "history": state.history,
            "seed": self.params.seed,
            "computed_with": self.libraries,
        }
        return Weights(self.job.name, network.architecture, network.settings, self.best, figures=figures, notes=tuple(notes))


def fell(errors: Sequence[float]) -> float | None:
    """Return by how much the least held-out error fell in the second half of a training, in parts of what it was before.

    ``None`` where fewer than ten errors do not tell.
    """
    if len(errors) < FEWEST:
        return None
    return 1 - min(errors) / min(errors[: len(errors) // 2])


def _error(found: Images, clean: Images) -> float:
    return float(np.mean(np.square(found.astype(np.float64) - clean)))


def _part(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


@contextmanager
def _surroundings(k: Any, backend: str, bench: Bench) -> Iterator[None]:
    """Have Keras work on the bench's device, and torch with its threads."""
    device, _, number = bench.device.partition(":")
    with k.device(CPU if device == CPU else f"gpu:{number or 0}"):
        if backend != "torch":
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(bench.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
