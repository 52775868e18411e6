"""How long 1,000 columns take to find and fit together, and how near the fit comes to the Cramer-Rao bound."""

import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.spatial import cKDTree

from emstore.processors.measure.columns.localise import Search, locate

_SIDE, _PITCH = 32, 12.0
_WIDTHS: Final = {"apart": 2.2, "crowded": 3.0}
"""Standard deviations of the columns, pixels: 5.5 and 4 of them from one column to the next."""


def measure(root: Path, *, rounds: int = 5) -> dict[str, Any]:
    """Return seconds per image of 1,024 columns (384 x 384 pixels, 40 electrons on 10), best and median, and error over bound.

    ``bias_over_error`` is the larger of the mean errors along y and x, in standard errors of such a mean. Where real files are
    (``EMSTORE_TEST_DATA``), a quarter of a real image of overlapping columns too, of which the truth is not known.
    """
    found: dict[str, Any] = {"columns": _SIDE**2, "wanted_seconds": 1.0}
    found |= {name: _case(sigma, rounds) for name, sigma in _WIDTHS.items()}
    if (data := os.environ.get("EMSTORE_TEST_DATA")) is not None:
        found["real"] = _real(Path(data) / "stem" / "example_Se_implanted_MoS2.dm3", rounds)
    return found


def _real(path: Path, rounds: int) -> dict[str, Any]:
    from rsciio.digitalmicrograph import file_reader

    image = file_reader(str(path))[0]["data"][:512, :512].astype(float)
    cpu = []
    for _ in range(rounds):
        spent = time.process_time()
        located = locate(image, Search())
        cpu.append(time.process_time() - spent)
    found = {"cpu_seconds": float(np.median(cpu)), "best_cpu_seconds": min(cpu)}
    return {
        **{name: round(value, 3) for name, value in found.items()},
        "found": len(located.theta),
        "converged": int(located.converged.sum()),
    }


def _case(sigma: float, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*(np.arange(_SIDE) * _PITCH + _PITCH / 2,) * 2, indexing="ij"), -1).reshape(-1, 2)
    places = places + rng.normal(0, 0.3, places.shape)
    pixels = np.arange(_SIDE * _PITCH)
    down, across = (np.exp(-((pixels[:, None] - places[:, i]) ** 2) / (2 * sigma**2)) for i in range(2))
    mu = 10 + 40 * down @ across.T
    bound = locate(mu, Search(method="poisson"))
    exact = cKDTree(bound.theta[:, :2]).query(places)[1]
    found: dict[str, Any] = {}
    for method in ("least_squares", "poisson"):
        seconds, cpu, off = [], [], []
        for _ in range(rounds):
            image = rng.poisson(mu).astype(float)
            begun, spent = time.perf_counter(), time.process_time()
            located = locate(image, Search(method=method, counts=True))
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - spent)
            at = cKDTree(located.theta[:, :2]).query(places)[1]
            off.append((located.theta[at, :2] - places) / bound.errors[exact, :2])
        errors = np.concatenate(off)
        found[method] = {
            "seconds": round(float(np.median(seconds)), 3),
            "best": round(min(seconds), 3),
            "cpu_seconds": round(float(np.median(cpu)), 3),
            "found": len(located.theta),
            "converged": int(located.converged.sum()),
            "error_over_bound": round(float(np.sqrt(np.mean(errors**2))), 4),
            "bias_over_error": round(float(np.abs(errors.mean(0) / (errors.std(0) / np.sqrt(len(errors)))).max()), 2),
        }
    return found
