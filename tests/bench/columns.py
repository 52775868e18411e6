"""How long 1,000 columns take to find and fit together, and how near the fit comes to the Cramer-Rao bound."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from emstore.processors.measure.columns.localise import Search, locate

_SIDE, _PITCH, _SIGMA = 32, 12.0, 2.2


def measure(root: Path, *, rounds: int = 5) -> dict[str, Any]:
    """Return seconds per image of 1,024 columns (384 x 384 pixels, 40 electrons on 10), best and median, and error over bound."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*(np.arange(_SIDE) * _PITCH + _PITCH / 2,) * 2, indexing="ij"), -1).reshape(-1, 2)
    places = places + rng.normal(0, 0.3, places.shape)
    y, x = np.mgrid[: int(_SIDE * _PITCH), : int(_SIDE * _PITCH)].astype(float)
    mu = np.full(y.shape, 10.0)
    for row, column in places:
        near = slice(max(0, int(row) - 14), int(row) + 15), slice(max(0, int(column) - 14), int(column) + 15)
        mu[near] += 40 * np.exp(-((y[near] - row) ** 2 + (x[near] - column) ** 2) / (2 * _SIGMA**2))
    bound = locate(mu, Search(method="poisson"))
    found: dict[str, Any] = {"columns": len(places), "wanted_seconds": 1.0}
    for method in ("least_squares", "poisson"):
        seconds, cpu, off = [], [], []
        for _ in range(rounds):
            image = rng.poisson(mu).astype(float)
            begun, spent = time.perf_counter(), time.process_time()
            located = locate(image, Search(method=method, counts=True))  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - spent)
            at = cKDTree(located.theta[:, :2]).query(places)[1]
            exact = cKDTree(bound.theta[:, :2]).query(places)[1]
            off.append((located.theta[at, :2] - places) / bound.errors[exact, :2])
        found[method] = {
            "seconds": round(float(np.median(seconds)), 3),
            "best": round(min(seconds), 3),
            "cpu_seconds": round(float(np.median(cpu)), 3),
            "found": len(located.theta),
            "converged": int(located.converged.sum()),
            "error_over_bound": round(float(np.sqrt(np.mean(np.square(off)))), 4),
        }
    return found
