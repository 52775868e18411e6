"""`emstore ingest` of a folder of TIFF slices, whole process, against the physical limit and two rivals, in turns.

The limit (`store_write.limit`) reads every byte, encodes every level's chunks once with the same codec on all cores, and
writes and fsyncs the result; it pays for no start-up, digests, checks, reduction or layout. The rivals are the script a
user would write (`rivals/dask_script.py`) and the command line of ngff-zarr, which takes the same slices as one multi-page
file, since of several files it converts the first only (measured here too). Neither rival fsyncs.
"""

import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tifffile
from processes import Ran, emstore, run
from store_write import levels_of, limit
from stored import SliceFiles, em_slices

from emstore import inspect
from emstore.store.plan import plan_version

SPACING = (10, 5, 5)
GIVEN = ("--spacing", ",".join(map(str, SPACING)), "--unit", "nm")
NGFF = (
    *("--input-backend", "tifffile", "--ome-zarr-version", "0.5", "-d", "z", "y", "x", "-c", "64"),
    *("--chunks-per-shard", "2", "4", "4", "--codec", "zstd", "--compression-level", "1", "-m", "dask_bin_shrink"),
    *("-u", "z", "nanometer", "y", "nanometer", "x", "nanometer", "-s", "z", "10", "y", "5", "x", "5", "--no-omero", "-q"),
)


def measure(
    root: Path, *, shape: tuple[int, int, int] = (400, 2048, 1024), rounds: int = 5, rival_rounds: int = 3
) -> dict[str, Any]:
    """Return seconds, peak memory and the ratios to the limit, with and without pyramid (medians of alternating rounds)."""
    folder = write_tiffs(root / "slices", shape)
    files = tuple(sorted(folder.iterdir()))
    with tifffile.TiffFile(files[0]) as first:
        slices = SliceFiles(files, *shape[1:], offset=first.pages[0].dataoffsets[0])
    run(emstore("init", str(root / "lab.zarr")))
    found: dict[str, Any] = {"bytes": slices.shape[0] * slices.height * slices.width}
    for name, pyramid in (("with pyramid", True), ("without pyramid", False)):
        with inspect([folder]) as inspection:
            volume = inspection.volumes[0]
            grid = volume.grid.with_spacing(dict(zip("zyx", SPACING, strict=True)), "nm")
            plan = plan_version(replace(volume, grid=grid), pyramid=pyramid)  # the very levels that `ours` writes
        higher = levels_of(slices, plan)
        ours(root, folder, pyramid)  # warms the page cache
        pairs = []
        for _ in range(rounds):
            pairs.append((limit(slices, plan, higher, root / "limit"), ours(root, folder, pyramid)))
        seconds = statistics.median(mine.seconds for _, mine in pairs)
        best = statistics.median(least["total"] for least, _ in pairs)
        found[name] = {
            "seconds": round(seconds, 2),
            "limit_seconds": round(best, 2),
            "ratio_to_limit": round(best / seconds, 3),
            "ratios": [round(least["total"] / mine.seconds, 3) for least, mine in pairs],
            "peak_MiB": round(max(mine.peak_MiB for _, mine in pairs)),
        }
        del higher
    if rival_rounds:
        found["rivals"] = rivals(root, folder, shape, rival_rounds)
    shutil.rmtree(root / "limit")
    return found


def rivals(root: Path, folder: Path, shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Both rivals and emstore in turns, all with a pyramid."""
    stack = root / "stack.tif"
    each = (tifffile.imread(path) for path in sorted(folder.iterdir()))
    tifffile.imwrite(stack, each, shape=shape, dtype="uint8", metadata={"axes": "ZYX"}, bigtiff=True)
    out = root / "rival.zarr"
    script = [sys.executable, str(Path(__file__).with_name("rivals") / "dask_script.py"), str(folder), str(out)]
    ngff = [str(Path(sys.executable).with_name("ngff-zarr")), "-i", str(stack), "-o", str(out), *NGFF]

    def fresh(command: list[str]) -> Callable[[], Ran]:
        def go() -> Ran:
            shutil.rmtree(out, ignore_errors=True)
            return run(command)

        return go

    turns = {"emstore": lambda: ours(root, folder, True), "tifffile + dask + zarr": fresh(script), "ngff-zarr": fresh(ngff)}
    ran: dict[str, list[Ran]] = {name: [] for name in turns}
    said: dict[str, dict[str, Any]] = {name: {} for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            ran[name].append(turn())
            if name != "emstore":
                said[name] = {"spacing": scales(out), "killed": None}
    mine = statistics.median(each.seconds for each in ran["emstore"])
    for name, command in (("tifffile + dask + zarr", script), ("ngff-zarr", ngff)):
        said[name]["killed"] = killed(command, out, statistics.median(each.seconds for each in ran[name]) * 0.7)
    several = [ngff[0], "-i", *map(str, sorted(folder.iterdir())), "-o", str(out), "-q", "--input-backend", "tifffile"]
    shutil.rmtree(out, ignore_errors=True)
    slices = run(several, check=False)
    said["ngff-zarr"]["given every slice"] = {"code": slices.code, "shape written": written(out)}
    shutil.rmtree(out, ignore_errors=True)
    stack.unlink()
    return {
        name: {
            "seconds": round(statistics.median(one.seconds for one in all_), 2),
            "times_ours": round(statistics.median(one.seconds for one in all_) / mine, 2),
            "peak_MiB": round(max(one.peak_MiB for one in all_)),
            **said[name],
        }
        for name, all_ in ran.items()
    }


def killed(command: list[str], out: Path, after: float) -> dict[str, Any]:
    """Kill a rival that is not done; say whether what is there still validates as OME-Zarr, and opens."""
    shutil.rmtree(out, ignore_errors=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    code = process.wait()
    if code != -signal.SIGKILL:
        return {"ended before it was killed": code}
    checks = {
        "validates (ngff-zarr)": "import ngff_zarr, sys; ngff_zarr.from_ngff_zarr(sys.argv[1], validate=True)",
        "level 0 opens (zarr)": "import zarr, sys; g = zarr.open_group(sys.argv[1], mode='r'); next(iter(g.groups()), 0)",
    }
    after_kill = {name: run([sys.executable, "-c", code_, str(out)], check=False).code == 0 for name, code_ in checks.items()}
    return {"after seconds": round(after, 1), **after_kill}


def scales(out: Path) -> Any:
    """The units and scale that the root document of an OME-Zarr states; None where it states none."""
    ome = json.loads((out / "zarr.json").read_text())["attributes"].get("ome")
    if ome is None:
        return None
    image = ome["multiscales"][0]
    steps = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    return {axis["name"]: f"{step:g} {axis.get('unit')}" for axis, step in zip(image["axes"], steps, strict=True)}


def written(out: Path) -> Any:
    documents = [json.loads(path.read_text()) for path in out.rglob("zarr.json")]
    return max((each["shape"] for each in documents if each["node_type"] == "array"), default=None)


def ours(root: Path, folder: Path, pyramid: bool) -> Ran:
    """Ingest into an array that is not there, and say how that went."""
    shutil.rmtree(root / "lab.zarr" / "bench", ignore_errors=True)
    flag = "--pyramid" if pyramid else "--no-pyramid"
    return run(emstore("ingest", str(folder), f"{root}/lab.zarr/bench/slices", *GIVEN, flag))


def write_tiffs(folder: Path, shape: tuple[int, int, int]) -> Path:
    folder.mkdir()
    for z, values in enumerate(em_slices(*shape)):
        tifffile.imwrite(folder / f"slice_{z:04d}.tif", values)
    return folder
