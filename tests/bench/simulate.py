"""What a simulation costs, CPU seconds: one cell of every material thin and thick, and the benchmark's whole field projected.

`project` lets a simulation make a few of its pieces, stops it as a user would, and multiplies by their number.
"""

import time
from pathlib import Path
from typing import Any

from emstore.simulators.stem import Stem, StemParams
from emstore.simulators.stem.beam import abtem_ready
from emstore.work import Bench

ALL = ((30, 60), (30, 70), (50, 180), (60, 180), (65, 180), (75, 180), (80, 180))
TRAINING = ("graphene", "graphite", "GaAs", "InAs", "MoS2", "SrTiO3", "Si")
TELLURIUM = {"material": "Te", "thickness": (252.0,), "full": True, "pixel": 0.2, "shape": (128, 128), "convergence_mrad": 30.0}


def cost(folder: Path, asked: dict[str, Any]) -> float:
    """Return the CPU seconds of a whole simulation."""
    folder.mkdir()
    start = time.process_time()
    Stem().simulate(StemParams(**asked), Bench(folder, lambda share, what: None, 4 << 30, 1))
    return time.process_time() - start


def project(folder: Path, asked: dict[str, Any], *, pieces: int = 3) -> dict[str, float]:
    """Return the CPU seconds per unit of progress of the first pieces, and what the whole would take at that pace."""
    folder.mkdir()
    told: list[tuple[float, float]] = []

    def tell(share: float, what: str) -> None:
        told.append((share, time.process_time()))
        if len(told) > pieces + 1:
            raise KeyboardInterrupt

    try:
        Stem().simulate(StemParams(**asked), Bench(folder, tell, 4 << 30, 1))
    except KeyboardInterrupt:
        pass
    # The first piece plans transforms: it does not count.
    (first, begun), (last, ended) = told[1], told[-1]
    return {"share": last - first, "cpu_s": ended - begun, "whole_cpu_s": (ended - begun) / (last - first)}


def measure(root: Path, *, materials: tuple[str, ...] = (*TRAINING, "Te", "PbTe"), thick: bool = True) -> dict[str, Any]:
    """Return CPU seconds per material and thickness, and of the benchmark under several settings, projected."""
    with abtem_ready():
        pass  # importing it is not what is measured
    results: dict[str, Any] = {}
    for material in materials:
        single = material in ("graphene", "MoS2")
        asked = {"material": material, "detectors_mrad": ALL, "thickness": None if single else (20.0, 25.0, 30.0)}
        results[f"{material}, one cell, thin"] = round(cost(root / f"{material}-thin", asked), 1)
        if thick and not single:
            thicknesses = (250.0, 350.0, 450.0, 630.0) if material in TRAINING else (252.0,)
            found = project(root / f"{material}-thick", {**asked, "thickness": thicknesses}, pieces=2)
            results[f"{material}, one cell, to {thicknesses[-1]:g}"] = round(found["whole_cpu_s"])
    for name, changes in {
        "60-180, potential 0.05": {},
        "60-180, potential 0.066": {"potential_sampling": 0.066},
        "30-70, potential 0.08": {"detectors_mrad": ((30, 70),), "potential_sampling": 0.08},
    }.items():
        found = project(root / f"te-{name}".replace(" ", ""), {**TELLURIUM, **changes})
        results[f"Te, whole field, {name}"] = round(found["whole_cpu_s"])
    return results
