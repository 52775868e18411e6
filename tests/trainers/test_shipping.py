"""Models that are shipped: only good ones, and the commands in the file make the same again."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
from command_line import call, result
from emstore import registry, training
from emstore.errors import Capacity, InvalidInput, NotFound
from emstore.networks import files, read_weights, shipped_record, shipped_weights
from emstore.trainers import fitting, shipping
from planted_crystals import SIMULATORS
from planted_entry_points import planted

SMALL = ["-p", "batch=8", "-p", "validations=10", "-p", "seed=3"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with a good model, and one that has not converged."""
    folder = tmp_path_factory.mktemp("shipping")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMSTORE_HOME", str(folder / "home"))
        patch.setattr(training, "cpu_count", lambda: 1)
        patch.setattr(fitting, "STILL", 1.0)  # a minute would be too long for a training to converge
        with planted(folder, "planted-crystals", {registry.SIMULATORS: SIMULATORS}):
            store = f"{folder}/lab.zarr"
            result("init", store)
            result("simulate", "planted.crystals", f"{store}/sets/training")
            result("simulate", "planted.crystals", f"{store}/sets/held-out", "-p", "seed=2", "-p", "count=8")
            sets = [f"{store}/sets/training", f"{store}/sets/held-out-second"]
            result("train", "poisson_unet", *sets, f"{store}/nets/good", "-p", "steps=36", *SMALL)
            result("train", "poisson_unet", *sets, f"{store}/nets/short", "-p", "steps=1", *SMALL)
            yield store


def test_the_commands_in_the_file_make_it_again(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shipping.ship(f"{lab}/nets/good", tmp_path)
    assert path == tmp_path / "poisson_unet.npz"
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name]
    assert path.stat().st_size < 500_000
    weights, told = read_weights(path)
    assert told is not None
    assert weights.licence == "BSD-3-Clause"
    assert weights.digest == emstore.open(f"{lab}/nets/good").weights().digest
    made_of = ["sets/training/v1", "sets/held-out/v1", "sets/held-out-second/v1"]
    assert [each["ref"] for each in told["records"]] == [*made_of, "nets/good/v1"]
    assert told["records"][-1]["record"]["params"]["params"]["seed"] == 3
    assert str(tmp_path) not in str(told)
    assert lab not in str(told)
    monkeypatch.chdir(tmp_path)
    for command in ["emstore init lab.zarr", *told["commands"]]:
        done = call(*shlex.split(command)[1:])
        assert done.returncode == 0, (command, done.stderr)
    again = emstore.open("lab.zarr/nets/good").weights()
    for name, values in weights.arrays.items():
        np.testing.assert_allclose(again.arrays[name], values, rtol=1e-4, atol=1e-5)


def test_what_is_shipped_is_found_by_its_name(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipping.ship(f"{lab}/nets/good", tmp_path)
    monkeypatch.setattr(files, "files", lambda package: tmp_path)
    monkeypatch.setattr(files, "_SHIPPED", ".")
    assert shipped_weights("poisson_unet").architecture == "poisson_unet"
    assert len(shipped_record("poisson_unet")["commands"]) == 3
    with pytest.raises(NotFound, match="there are poisson_unet"):
        shipped_record("other")


def test_what_is_not_shipped(lab: str, refs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[str, str]] = [("nets/short", "not converged"), ("sets/training", "no model")]
    for place, words in cases:
        with pytest.raises(InvalidInput, match=words):
            shipping.ship(f"{lab}/{place}", tmp_path)
    monkeypatch.setattr(shipping, "LARGEST", 1000)
    with pytest.raises(Capacity, match="at most 1000"):
        shipping.ship(f"{lab}/nets/good", tmp_path)
    assert list(tmp_path.iterdir()) == []
    version: Any = emstore.open(refs[0])
    with pytest.raises(InvalidInput, match="nobody else could do again"):
        shipping.commands({str(version.place): version.record})
