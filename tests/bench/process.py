"""A Gaussian filter (sigma 1, halo 4) over a 2 GB volume, as whole processes in turns: emstore, a hand-written loop on the same
engine, and dask.array.map_overlap. All read the same sealed version and write level 0 in shards of the same shape.
"""

import shutil
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from processes import Ran, emstore, run
from stored import Synthetic, em_slices

import emstore as library
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.provenance import environment
from emstore.provenance.record import Activity, Random, Record, Software
from emstore.store import begin, digest, load, plan_version, resolve, seal_volume
from emstore.volume import Volume

RIVALS = Path(__file__).with_name("rivals")


def measure(root: Path, *, shape: tuple[int, int, int] = (1000, 1024, 2048), rounds: int = 3) -> dict[str, Any]:
    """Return seconds, peak memory and ratios (medians of rounds in turns)."""
    ref = make(root / "lab.zarr", shape)
    made, loop, graph = root / "lab.zarr" / "bench" / "smooth", root / "loop", root / "graph.zarr"
    target = f"{root}/lab.zarr/bench/smooth"
    turns = {
        "emstore": (
            made,
            emstore("process", "denoise.gaussian", ref, target, "-p", "sigma=1", "-p", "dtype=same", "--no-pyramid"),
        ),
        "loop": (loop, [sys.executable, str(RIVALS / "gaussian_loop.py"), ref, str(loop)]),
        "dask map_overlap": (graph, [sys.executable, str(RIVALS / "gaussian_dask.py"), ref, str(graph)]),
    }
    ran: dict[str, list[Ran]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, (out, command) in turns.items():
            shutil.rmtree(out, ignore_errors=True)
            ran[name].append(run(command))
    region = (slice(90, 300), slice(200, 520), slice(700, 1100))
    mine, theirs = library.open(target).array()[region], zarr.open_array(graph)[region]
    assert np.array_equal(mine[8:-8, 8:-8, 8:-8], theirs[8:-8, 8:-8, 8:-8])  # the same work
    seconds = {name: statistics.median(each.seconds for each in all_) for name, all_ in ran.items()}
    return {
        "bytes": int(np.prod(shape)),
        "seconds": {name: [round(each.seconds, 2) for each in all_] for name, all_ in ran.items()},
        "peak_MiB": {name: round(max(each.peak_MiB for each in all_)) for name, all_ in ran.items()},
        "times_the_loop (wanted <= 1.1)": round(seconds["emstore"] / seconds["loop"], 3),
        "times_dask (wanted <= 0.7)": round(seconds["emstore"] / seconds["dask map_overlap"], 3),
    }


def make(store: Path, shape: tuple[int, int, int]) -> str:
    """Seal a noisy volume without going through files; return its REF."""
    library.create_store(str(store))
    spacing = {"z": 10.0, "y": 5.0, "x": 5.0}
    axes = tuple(Axis(name, n, spacing=spacing[name], unit="nanometer") for name, n in zip("zyx", shape, strict=True))
    volume = Volume("raw", Synthetic(shape, list(em_slices(1, *shape[1:]))), Grid(axes), Header("synthetic"))
    return seal(volume, f"{store}/bench/raw")


def seal(volume: Volume, target: str) -> str:
    """Seal a volume as ``STORE/DATASET/ARRAY``; return its REF."""
    at, place = resolve(target)
    held = begin(at.backend, place, settings=digest(b"bench"), task="bench", store_id=at.id)
    now, us = datetime.now(UTC), Software(name="bench", version="1")
    record = Record(
        activity=Activity(
            id="urn:uuid:00000000-0000-4000-8000-000000000000", type="simulate", name="bench", started=now, ended=now
        ),
        params_digest=digest(b""),
        software=(us,),
        environment=environment.current(),
        random=Random(deterministic=True),
        agent=us,
    )
    seal_volume(held, volume, plan_version(volume, pyramid=False), lambda: record)
    return load(at, held.place).ref
