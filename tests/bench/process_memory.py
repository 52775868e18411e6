"""Peak memory of `emstore process` for every processor, against what it projected and the budget it was given.

Each processor runs as a command of its own at three sizes of input; the largest does not fit into the budget. What takes
seconds per slice (block matching) gets smaller inputs, and the iterative ones few steps: the memory is the same. The images
are noisy, the worst there is for codecs.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from process import seal
from processes import Ran, emstore, run
from stored import Synthetic

import emstore as library
from emstore import registry
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.volume import Volume, VolumeKind

BUDGET = 640
"""MiB."""
SIDE = 1024
"""Length of the last two axes of most inputs."""
DEPTHS = (32, 128, 352)
"""Slices at each size: 64, 256 and 704 MiB of 16-bit values."""
LABELS = (64, 256, 704)
"""The same for labels of 8 bits."""
PAIRS = (16, 64, 176)
"""The same for two inputs together."""


def image(seed: int) -> Callable[[int], npt.NDArray[Any]]:
    def slices(side: int) -> npt.NDArray[Any]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:side, :side]
        return np.clip(3000 + 900 * np.sin(y / 23) * np.cos(x / 31) + rng.normal(0, 200, (4, side, side)), 0, 4095).astype("u2")

    return slices


def labels(side: int) -> npt.NDArray[Any]:
    """Return slices of square grains, 32 voxels wide, of four classes: of single voxels there are more than are accounted for."""
    grains = np.random.default_rng(3).integers(0, 4, (4, side // 32 + 1, side // 32 + 1), "u1")
    return grains.repeat(32, 1).repeat(32, 2)[:, :side, :side]


def truth(side: int) -> npt.NDArray[Any]:
    return np.random.default_rng(4).random((4, side, side)) < 0.5


INPUTS: Mapping[str, tuple[Callable[[int], npt.NDArray[Any]], VolumeKind]] = {
    "image": (image(1), VolumeKind.IMAGE),
    "reference": (image(2), VolumeKind.IMAGE),
    "irregular": (image(1), VolumeKind.IMAGE),
    "labels": (labels, VolumeKind.LABELS),
    "truth": (truth, VolumeKind.LABELS),
}


@dataclass(frozen=True)
class Case:
    """How a processor is run."""

    inputs: tuple[str, ...] = ("image",)
    params: tuple[str, ...] = ()
    depths: tuple[int, ...] = DEPTHS
    side: int = SIDE


PAIR = ("image", "reference")
RANGE = ("data_range=dtype",)
CASES: Mapping[str, Case] = {
    "denoise.bm3d": Case(depths=(2, 4, 8), side=256),
    "denoise.gaussian": Case(),
    "denoise.median": Case(params=("size=[1,3,3]",)),
    "denoise.nlm": Case(params=("patch=3", "distance=1")),
    "denoise.tv": Case(params=("iterations=2",)),
    "interpolate.cubic": Case(params=("factor=2",)),
    "interpolate.linear": Case(params=("factor=2",)),
    "interpolate.nearest": Case(params=("factor=2",)),
    "measure.histogram": Case(params=("range=measured",)),
    "measure.mse": Case(PAIR, depths=PAIRS),
    "measure.msssim": Case(PAIR, RANGE, PAIRS),
    "measure.overlap": Case(("labels", "labels"), depths=LABELS),
    "measure.psnr": Case(PAIR, RANGE, PAIRS),
    "measure.roc": Case(("image", "truth")),
    "measure.ssim": Case(PAIR, RANGE, PAIRS),
    "measure.statistics": Case(),
    "register.slices": Case(),
    "segment.components": Case(("labels",), ("minimum_size=100",), LABELS),
    "segment.isodata": Case(),
    "segment.otsu": Case(),
    "segment.threshold": Case(params=("thresholds=[2000,3000]",)),
    "transform.calibrate": Case(params=('spacing={"z":7,"y":7,"x":7}', "unit=nm")),
    "transform.crop": Case(params=('index={"y":[5,1001],"x":[7,1003]}',)),
    "transform.project": Case(params=("how=mean",)),
    "transform.regularise": Case(("irregular",), ("method=linear",)),
    "transform.resample": Case(params=('spacing={"z":20,"y":9,"x":9}', "method=linear")),
    "transform.rescale": Case(params=("percentiles=[1,99]", "dtype=uint8")),
}


def measure(root: Path, *, names: tuple[str, ...] = (), sizes: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """Return peak, projection and budget of every processor at every size, MiB, and which of them were not kept."""
    found: dict[str, Any] = {"budget_MiB": BUDGET}
    broken = [f"{name} has no case" for name in registry.processors() if name not in CASES]
    library.create_store(str(root / "in.zarr"))
    # Size by size: only the inputs of one size are on the disk.
    for size in sizes:
        for name in names or CASES:
            row = one(root, name, CASES[name], size)
            found.setdefault(name, {})["small medium large".split()[size]] = row
            if not row.get("kept"):
                broken.append(f"{name}, {row}")
        shutil.rmtree(root / "in.zarr")
        library.create_store(str(root / "in.zarr"))
    found["not kept"] = broken
    return found


def one(root: Path, name: str, case: Case, size: int) -> dict[str, Any]:
    """Run a processor at one of its sizes; a failure is a result too."""
    shape = (case.depths[size], case.side, case.side)
    refs = [ref(root / "in.zarr", role, shape) for role in case.inputs]
    library.create_store(str(root / "out.zarr"))
    given = [part for each in case.params for part in ("-p", each)]
    ran = run(
        emstore("process", name, *refs, f"{root}/out.zarr/bench/made", *given, "--memory", f"{BUDGET}MiB", "--json"),
        check=False,
    )
    shutil.rmtree(root / "out.zarr")
    if ran.code:
        return {"failed": ran.output[-300:]}
    projected = projection(ran)
    peak = ran.peak_MiB
    return {
        "input_MiB": round(sum(np.prod(shape) * INPUTS[role][0](8).dtype.itemsize for role in set(case.inputs)) / (1 << 20)),
        "peak_MiB": round(peak),
        "projected_MiB": round(projected),
        "kept": peak <= projected <= BUDGET,
        "seconds": round(ran.seconds, 1),
    }


def projection(ran: Ran) -> float:
    """Return what a command said it would take at most, MiB."""
    events: Iterator[dict[str, Any]] = (json.loads(line) for line in ran.output.splitlines() if line.startswith("{"))
    return float(next(each["memory"] for each in events if each.get("event") == "started")) / (1 << 20)


def ref(store: Path, role: str, shape: tuple[int, ...]) -> str:
    """Return the REF of an input, sealed when first asked for."""
    target = f"{store}/{role}{shape[0]}/in"
    if not (store / f"{role}{shape[0]}").exists():
        slices, kind = INPUTS[role]
        z = Axis("z", shape[0], spacing=10.0, unit="nanometer")
        if role == "irregular":
            z = Axis("z", shape[0], positions=np.cumsum(np.resize([8.0, 12.0, 11.0, 9.0], shape[0])), unit="nanometer")
        axes = (z, *(Axis(name, n, spacing=5.0, unit="nanometer") for name, n in zip("yx", shape[1:], strict=True)))
        seal(Volume(role, Synthetic(shape, list(slices(shape[1]))), Grid(axes), Header("synthetic"), kind), target)
    return target
