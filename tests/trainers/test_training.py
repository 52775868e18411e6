"""Training: it learns, resumes to the same weights after a kill, ends when it should, and is honest about it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emstore.errors import EmstoreError, InvalidInput, NotFound, ProcessingFailed
from emstore.networks import network_of, read_weights
from emstore.networks.inference import TorchNetwork
from emstore.trainer import Trainer
from emstore.trainers.autoencoder import AutoencoderTrainer
from emstore.trainers.fitting import CHECKPOINT, fell
from emstore.trainers.poisson_unet import PoissonUnetTrainer
from emstore.trainers.search import SearchParams, drawn, search
from emstore.weights import Weights
from emstore.work import Bench
from lattices import crystals, sealed_crystals
from training_driver import train

SUPPORT = Path(__file__).resolve().parents[1] / "support"


def bench(scratch: Path, said: list[Any] | None = None) -> Bench:
    return Bench(scratch, lambda share, what: said.append((share, what)) if said is not None else None, 1 << 28, 1)


def trained(trainer: Any, refs: list[str], scratch: Path, said: list[Any] | None = None, **params: Any) -> Weights:
    given = trainer.params(**{"batch": 8, "validations": 4, **params})
    weights = trainer.train(refs, given, bench(scratch, said))
    assert isinstance(weights, Weights)
    return weights


def squared(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean((found - wanted) ** 2))


def test_our_network_learns_to_denoise(refs: list[str], tmp_path: Path) -> None:
    """On crystals and counts that no training saw, it is closer to the truth than the counts, and invents no electrons."""
    import torch

    said: list[Any] = []
    weights = trained(PoissonUnetTrainer(), refs, tmp_path, said, steps=60)
    network_of(weights)
    truth = crystals(77, 12, size=(64, 64), dose=800)
    counts = np.random.default_rng(8).poisson(truth).astype(np.float32)
    found = np.maximum(TorchNetwork(weights, "cpu")(torch.from_numpy(counts)).numpy(), 0)
    assert squared(found, truth) < 0.6 * squared(counts, truth)
    assert found.sum() == pytest.approx(truth.sum(), rel=0.05)
    figures = weights.figures
    assert figures["held_out"]["ratio"] < 0.7
    # The noise of counted electrons: its variance is the mean.
    held_out = crystals(2, 16, size=(32, 32), dose=800)
    assert figures["held_out"]["noisy_mse"] == pytest.approx(held_out.mean(), rel=0.1)
    assert (figures["steps"], figures["images_seen"], figures["parameters"]) == (60, 480, weights.count)
    assert [row[0] for row in figures["history"]] == [15, 30, 45, 60]
    assert not figures["converged"]
    assert "not converged" in weights.notes[0]
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("images", ["electrons", "analog"])
def test_the_autoencoder_learns(images: str, refs: list[str], tmp_path: Path) -> None:
    weights = trained(AutoencoderTrainer(), refs, tmp_path, steps=40, images=images, filters=8, rate=5e-3)
    history = [row[3] for row in weights.figures["history"]]
    assert weights.settings["output"] == ("relu" if images == "electrons" else "sigmoid")
    assert weights.name == ("autoencoder-digital" if images == "electrons" else "autoencoder-analog")
    assert min(history) < history[0]
    assert weights.figures["held_out"]["mse"] == min(history)


def test_analog_images_can_be_clean_analog_ones(crystal_lab: Path, tmp_path: Path) -> None:
    clean = crystals(3, 16, size=(32, 32), dose=800)
    clean /= clean.max()
    ref = sealed_crystals(f"{crystal_lab}/made/analog", clean, "analog")
    weights = trained(AutoencoderTrainer(), [ref, ref], tmp_path, steps=2, validations=1, images="analog", filters=4)
    assert 0 < weights.figures["held_out"]["noisy_mse"] < 1


def test_killed_and_resumed_is_as_never_stopped(refs: list[str], tmp_path: Path) -> None:
    """Same steps, same weights: bit for bit on one thread of a CPU."""
    command = [sys.executable, SUPPORT / "training_driver.py", tmp_path / "killed", tmp_path / "out.npz", "24", *refs]
    backend = sys.modules["keras"].backend.backend() if "keras" in sys.modules else "torch"
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step 14:" in line:
                process.kill()
                break
    assert process.returncode == -9
    assert not (tmp_path / "out.npz").exists()
    assert [each.name for each in (tmp_path / "killed").iterdir()] == [CHECKPOINT]
    whole = train(tmp_path / "whole", 24, refs)
    resumed = train(tmp_path / "killed", 24, refs)
    assert (whole.figures["resumed"], resumed.figures["resumed"]) == (0, 1)
    assert [row[0] for row in resumed.figures["history"]] == [row[0] for row in whole.figures["history"]]
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], values)


def test_minutes_end_a_training(refs: list[str], tmp_path: Path) -> None:
    figures = trained(PoissonUnetTrainer(), refs, tmp_path, minutes=0.02, validations=2).figures
    assert 1.2 <= figures["seconds"] < 20
    assert figures["stopped"] == "budget"


def test_minutes_of_the_processor_end_a_training_whatever_the_clock_says(refs: list[str], tmp_path: Path) -> None:
    """A training that waits at every step takes as much of the processor as one that does not."""
    given = PoissonUnetTrainer.params(cpu_minutes=0.015, batch=8, validations=2)
    began = time.process_time()
    weights = PoissonUnetTrainer().train(refs, given, Bench(tmp_path, lambda share, what: time.sleep(0.05), 1 << 28, 1))
    spent = time.process_time() - began
    figures = weights.figures
    assert 0.9 <= figures["cpu_seconds"] <= spent + 0.05
    # Threads that read ahead may work while it waits, the training itself does not.
    assert figures["seconds"] > 0.8 * figures["cpu_seconds"] + 0.04 * (figures["steps"] - 1)
    assert figures["stopped"] == "budget"
    rows = [dict(zip(figures["history_columns"], row, strict=True)) for row in figures["history"]]
    for name in ("step", "seconds", "cpu_seconds"):
        assert [row[name] for row in rows] == sorted(row[name] for row in rows)


def test_patience_ends_a_training(refs: list[str], tmp_path: Path) -> None:
    """With a rate of next to nothing, the error does not fall."""
    weights = trained(
        AutoencoderTrainer(), refs, tmp_path, steps=500, validations=500, patience=2, rate=1e-30, schedule="constant", filters=4
    )
    assert weights.figures["steps"] == 3
    assert "2 validations" in weights.figures["stopped"]


def test_a_training_that_runs_away_fails(refs: list[str], tmp_path: Path) -> None:
    with pytest.raises(ProcessingFailed, match=r"loss is|everywhere"):
        trained(AutoencoderTrainer(), refs, tmp_path, steps=60, rate=1e6, validations=30)


def test_stopping_is_passed_on(refs: list[str], tmp_path: Path) -> None:
    def tell(share: float, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AutoencoderTrainer().train(refs, AutoencoderTrainer.params(steps=3, batch=8), Bench(tmp_path, tell, 1 << 28, 1))


@pytest.mark.parametrize(
    ("errors", "falling"),
    [([1.0] * 9, None), ([1.0] * 10, 0), ([8, 4, 2, 1, 1, 1, 1, 1, 1, 0.99], 0.01), ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 5 / 6)],
)
def test_how_far_the_error_fell_late(errors: list[float], falling: float | None) -> None:
    assert fell(errors) == (None if falling is None else pytest.approx(falling))


def test_both_keep_the_contract() -> None:
    assert isinstance(AutoencoderTrainer(), Trainer)
    assert isinstance(PoissonUnetTrainer(), Trainer)


class TestRefused:
    def test_no_end(self) -> None:
        with pytest.raises(ValueError, match="steps or minutes"):
            PoissonUnetTrainer.params()

    def test_values_that_nothing_is_said_of(self, unmarked: str, tmp_path: Path) -> None:
        for trainer in (PoissonUnetTrainer(), AutoencoderTrainer()):
            with pytest.raises(InvalidInput, match="nothing says"):
                trained(trainer, [unmarked, unmarked], tmp_path, steps=1)

    def test_more_in_a_batch_than_there_are(self, refs: list[str], tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="no batch of 500"):
            trained(PoissonUnetTrainer(), refs, tmp_path, steps=1, batch=500)

    def test_sides_that_do_not_fit(self, refs: list[str], tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="multiples of 4"):
            trained(PoissonUnetTrainer(), refs, tmp_path, steps=1, crop=30)

    def test_no_version(self, refs: list[str], tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            trained(PoissonUnetTrainer(), [refs[0], refs[1].replace("validation", "none")], tmp_path, steps=1)

    def test_a_checkpoint_of_another_training(self, refs: list[str], tmp_path: Path) -> None:
        trained(AutoencoderTrainer(), refs, tmp_path, steps=1, validations=1, filters=4)
        with pytest.raises(InvalidInput, match="another training"):
            trained(AutoencoderTrainer(), refs, tmp_path, steps=2, validations=1, filters=4)

    def test_a_checkpoint_that_is_none(self, refs: list[str], tmp_path: Path) -> None:
        (tmp_path / CHECKPOINT).write_bytes(b"PK")
        with pytest.raises(EmstoreError, match=CHECKPOINT):
            trained(AutoencoderTrainer(), refs, tmp_path, steps=1, filters=4)


def test_a_search_goes_on_where_it_was(refs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emstore.trainers import search as module

    monkeypatch.setattr(module, "FILTERS", (4,))
    monkeypatch.setattr(module, "BATCHES", (8,))
    first = search(refs, SearchParams(trials=2, steps=2), bench(tmp_path))
    began = (tmp_path / "trials.json").stat().st_mtime_ns
    table = search(refs, SearchParams(trials=3, steps=2), bench(tmp_path))
    assert (tmp_path / "trials.json").stat().st_mtime_ns > began
    assert (first.rows, table.rows) == (2, 3)
    errors = table.columns["error"].values
    assert (np.diff(errors[np.isfinite(errors)]) >= 0).all()
    again = {n: e for n, e in zip(table.columns["trial"].values, errors, strict=True) if n < 2}
    assert again == dict(zip(first.columns["trial"].values, first.columns["error"].values, strict=True))


def test_the_search_space_is_drawn_evenly() -> None:
    found = [drawn(1, number) for number in range(400)]
    for name, values in {"filters": 4, "depth": 3, "weight": 4, "batch": 3, "optimiser": 2}.items():
        counts = np.unique([str(each[name]) for each in found], return_counts=True)[1]
        assert len(counts) == values
        assert counts.min() > 400 / values * 0.7


def test_weights_of_a_training_can_be_kept(refs: list[str], tmp_path: Path) -> None:
    from emstore.networks import write_weights

    weights = trained(AutoencoderTrainer(), refs, tmp_path, steps=1, validations=1, filters=4)
    write_weights(tmp_path / "kept.npz", weights)
    assert read_weights(tmp_path / "kept.npz")[0].digest == weights.digest
