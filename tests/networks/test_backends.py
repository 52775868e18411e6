"""One definition, two frameworks: the same numbers from TensorFlow, torch and torch's own functions."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emstore.errors import InvalidInput
from emstore.networks import backend, write_weights
from random_weights import random_weights

SUPPORT = Path(__file__).resolve().parents[1] / "support"
BACKENDS = ("torch", "tensorflow")
Found = dict[str, npt.NDArray[Any]]


ARCHITECTURES = ("autoencoder", "poisson_unet")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both networks give on both frameworks: one process each, side by side."""
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(5)
    images = rng.poisson(rng.uniform(0, 60, (2, 1, 1)) * rng.random((2, 44, 64))).clip(0, 71).astype(np.float32)
    images[0, 0, 0] = 71
    np.save(folder / "images.npy", images)
    for name in ARCHITECTURES:
        write_weights(folder / f"{name}.npz", random_weights(name))
    running = {}
    for name in BACKENDS:
        command = [sys.executable, SUPPORT / "network_driver.py", folder, *ARCHITECTURES]
        threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        environment = {
            **os.environ,
            **threads,
            "KERAS_BACKEND": name,
            "PYTHONPATH": str(SUPPORT),
            "PYTHONWARNINGS": "error::UserWarning",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        running[name] = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = {name: process.communicate(timeout=300)[1] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, f"{name}: {said[name][-3000:]}"
    return folder


@pytest.fixture(params=ARCHITECTURES)
def found(request: pytest.FixtureRequest, computed: Path) -> dict[str, Found]:
    return {name: dict(np.load(computed / f"{request.param}-{name}.npz")) for name in BACKENDS}


def far(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> float:
    """Largest difference, in parts of the range."""
    assert one.shape == two.shape
    return float(np.abs(one - two).max() / np.ptp(one))


def test_backends_agree(found: dict[str, Found]) -> None:
    torch, tensorflow = (found[name]["keras"] for name in BACKENDS)
    assert np.ptp(torch) > 1
    assert np.abs(torch - tensorflow).max() < 1e-4 * max(1.0, np.abs(torch).max() / 71)


def test_layouts_agree(found: dict[str, Found]) -> None:
    assert far(found["torch"]["keras"], found["torch"]["first"]) < 1e-5


def test_processors_give_what_keras_gives(found: dict[str, Found]) -> None:
    """Sides of 44 and 64 are multiples of 4: nothing is continued, and the whole image in Keras is the truth for every block."""
    for name in BACKENDS:
        assert far(np.maximum(found[name]["keras"], 0), found[name]["processed"]) < 1e-5


def test_latent_maps_agree(found: dict[str, Found]) -> None:
    if "latent" not in found["torch"]:
        return
    assert found["torch"]["latent"].shape == (2, 32, 11, 16)
    assert far(found["torch"]["latent"], found["tensorflow"]["latent"]) < 1e-5


def test_losses_by_hand(found: dict[str, Found]) -> None:
    """Clean 1 1 2 / 1 5 3, found 2 1 4 / 1 5 1: one dark pixel is off by 1, two bright ones by 2."""
    shifted, other = np.array([1, 1, 2, 1, 5, 3]) + 0.375, np.array([2, 1, 4, 1, 5, 1]) + 0.375
    deviance = np.mean(2 * (shifted * np.log(shifted / other) - shifted + other))
    for name in BACKENDS:
        assert found[name]["weighted"] == pytest.approx([(1 + 1000 * (4 + 4)) / 6])
        assert found[name]["weighted_by_10"] == pytest.approx([(1 + 10 * (4 + 4)) / 6])
        assert found[name]["deviance"] == pytest.approx([deviance], rel=1e-5)
        assert found[name]["no_deviance"] == pytest.approx([0], abs=1e-6)


def test_a_gradient_step_lowers_the_loss(found: dict[str, Found]) -> None:
    for name in BACKENDS:
        one, two, three = found[name]["losses"]
        assert one > two > three
    assert found["torch"]["losses"] == pytest.approx(found["tensorflow"]["losses"], rel=1e-3)


def test_weights_come_back_from_a_model(found: dict[str, Found]) -> None:
    assert all(found[name]["again"] for name in BACKENDS)


class TestChoice:
    @pytest.fixture(autouse=True)
    def _nothing_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def test_torch_when_nothing_is_said(self) -> None:
        assert backend.chosen() == "torch"

    def test_what_keras_writes_by_itself_is_no_choice(self, tmp_path: Path) -> None:
        (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
        assert backend.chosen() == "torch"

    def test_the_settings_file(self, tmp_path: Path) -> None:
        (tmp_path / "keras.json").write_text('{"backend": "jax"}')
        with pytest.raises(InvalidInput, match="jax"):
            backend.chosen()

    def test_a_broken_settings_file_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "keras.json").write_text("[")
        assert backend.chosen() == "torch"

    def test_the_environment_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "keras.json").write_text('{"backend": "jax"}')
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        assert backend.chosen() == "tensorflow"
