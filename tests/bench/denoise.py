"""What denoising does to counted images of materials that no network was trained on, and how long it takes.

One cell of every material is simulated, counted at several doses, denoised by the networks that come with emstore and by a
Gaussian filter, and held against the electrons expected: squared error in parts of the counted images', columns found and lost.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from process import seal

import emstore
from emstore.blocks.compute import evaluate
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.processing.plan import plan_process
from emstore.volume import MemoryArray, Volume

MATERIALS: Final[Mapping[str, Any]] = {
    "MoSe2": {"material": "MoSe2"},
    "WS2": {"material": "WS2"},
    "PbTe": {"material": "PbTe", "thickness": [50.0]},
    "tellurene": {"material": "tellurene", "thickness": [50.0]},
}
DOSES: Final = (500, 1000, 2500, 5000, 10000)
FRAMES: Final = 4
PIXEL: Final = 0.2
"""Angstrom."""
METHODS: Final[Mapping[str, Any]] = {
    "denoise.gaussian": {"sigma": 1.0, "axes": "slice"},
    "denoise.autoencoder": {},
    "denoise.poisson_unet": {},
}
FIT: Final = {"threshold": 0.12, "radius": 10.0}


def measure(root: Path, *, materials: tuple[str, ...] = tuple(MATERIALS), doses: tuple[int, ...] = DOSES) -> dict[str, Any]:
    """Return errors, recall and precision by material, dose and method, and seconds per frame."""
    store = str(emstore.create_store(str(root / "stem.zarr")).url)
    found: dict[str, Any] = {"seconds": {name: seconds(store, name) for name in METHODS}}
    for material in materials:
        asked = {**MATERIALS[material], "shape": [128, 128], "pixel": PIXEL, "seed": 3}
        clean = emstore.simulate("stem", f"{store}/{material.lower()}/clean", params=asked)[0].ref
        columns = process("measure.columns", [clean], f"{store}/{material.lower()}/columns", **FIT)
        found[material] = {f"{dose}": at_dose(f"{store}/{material.lower()}", clean, columns, dose) for dose in doses}
    return found


def at_dose(dataset: str, clean: str, columns: str, dose: int) -> dict[str, Any]:
    """Return how every method does at a dose."""
    counted = process("noise.digital", [clean], f"{dataset}/counted-{dose}", dose=dose, frames=FRAMES, seed=dose)
    expected = values(clean) * dose * PIXEL**2
    noise = np.mean((values(counted) - expected) ** 2)
    found: dict[str, Any] = {}
    for name, params in METHODS.items():
        method = array_of(name)
        denoised = process(name, [counted], f"{dataset}/{method}-{dose}", **params)
        fitted = process("measure.columns", [denoised], f"{dataset}/{method}-{dose}-columns", **FIT)
        summary: Mapping[str, Any] = {"recall": 0.0, "precision": None}
        if emstore.open(fitted).table().rows:
            matched = process("measure.matching", [fitted, columns], f"{dataset}/{method}-{dose}-found", radius=0.5)
            summary = emstore.open(matched).table().summary
        error = np.mean((values(denoised) - expected) ** 2) / noise
        found[method] = {"error": round(float(error), 4), "recall": summary["recall"], "precision": summary["precision"]}
    if "autoencoder" in found:
        found["ours_over_autoencoder"] = round(found["poisson-unet"]["error"] / found["autoencoder"]["error"], 3)
    return found


def seconds(store: str, name: str) -> dict[str, float]:
    """Return the median time of a frame: a large one from store to store on all cores, start-up apart, a small one in memory."""
    spots = 5 * np.add.outer(*(np.cos(np.arange(2048) / 3) + 1,) * 2)
    frame = np.random.default_rng(0).poisson(spots).astype("u2")
    dataset = f"{store}/speed-{array_of(name)}"
    for side in (2048, 128):
        axes = (Axis("y", side, spacing=0.2, unit="angstrom"), Axis("x", side, spacing=0.2, unit="angstrom"))
        volume = Volume(
            "spots", MemoryArray(frame[:side, :side]), Grid(axes), Header("synthetic"), attributes={"quantity": "electrons"}
        )
        seal(volume, f"{dataset}/in{side}")
    large = spent(lambda: process(name, [f"{dataset}/in2048"], f"{dataset}/out", again=True, **METHODS[name]), 4)
    planned = plan_process(name, [f"{dataset}/in128"], METHODS[name], memory=1 << 30, device="cpu", pyramid=False)
    small = spent(lambda: evaluate(planned.operation, planned.volumes), 20)
    return {"2048x2048": round(large, 2), "128x128": round(small, 4)}


def spent(call: Callable[[], Any], times: int) -> float:
    """Return the median seconds of a call; the first one, which loads what is needed, does not count."""
    found = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return float(np.median(found[1:]))


def array_of(name: str) -> str:
    return name.partition(".")[2].replace("_", "-")


def process(name: str, inputs: Sequence[str], target: str, *, again: bool = False, **params: Any) -> str:
    return emstore.process(name, inputs, target, params=params, again=again).version.ref


def values(ref: str) -> npt.NDArray[Any]:
    array = emstore.open(ref).array()
    return array[tuple(slice(0, n) for n in array.shape)].astype(float)
