"""Killed processes leave nothing torn behind, and the rerun finishes what they began, byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import emstore
from seaweed import Seaweed

DRIVER = Path(__file__).resolve().parents[1] / "support" / "crash_driver.py"


def make_slices(folder: Path, count: int, rows: int, columns: int) -> Path:
    noise = np.random.default_rng(7)
    wave = np.sin(np.arange(rows) / 23)[:, None] * 60 + 120
    for k in range(count):
        values = (wave + noise.normal(0, 9, (rows, columns))).clip(0, 255).astype("u1")
        tifffile.imwrite(folder / f"slice_{k:03}.tif", values)
    return folder


def crash(mode: str, store: str, source: Path, env: dict[str, str], **rest: Any) -> dict[str, Any]:
    job = {"mode": mode, "store": store, "source": str(source), "memory": 1 << 30, **rest}
    done = subprocess.run(
        [sys.executable, str(DRIVER), json.dumps(job)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["problems"] == [], done.stderr[-3000:]
    return result


@pytest.fixture(params=["disk", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A fresh store on disk or on S3, and the environment that reaches it."""
    if request.param == "disk":
        url, env = str(tmp_path / "lab.zarr"), {}
    else:
        server: Seaweed = request.getfixturevalue("seaweed")
        url, env = server.url(f"{tmp_path.name}/lab.zarr"), server.environment
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        emstore.create_store(url)
    return url, env


def test_killed_between_every_two_storage_operations(place: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    store, env = place
    (tmp_path / "slices").mkdir()
    slices = make_slices(tmp_path / "slices", 8, 300, 200)
    result = crash("puts", store, slices, env)
    assert result["killed"] > result["objects"]


def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    slices = make_slices(tmp_path / "slices", 80, 320, 400)
    store = str(tmp_path / "lab.zarr")
    emstore.create_store(store)
    result = crash("moments", store, slices, {}, kills=50, seed=11)
    assert result["killed"] == 50
