"""Asking where things come from, among a million versions: small answers at once, everything within seconds.

The versions are made up: every one comes from one to three earlier ones, mostly near ones, as measured results do from the
images before them; one in two hundred is raw. Most belong to one web of ancestors of hundreds of thousands, the worst that
can be; the others to small projects. They go into the cache through the same door as real seals.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emstore.lineage.graph import Lineage, gather
from emstore.lineage.index import Index, Seal
from emstore.lineage.search import search
from emstore.store import Place, create_store

COUNT = 1_000_000
PROJECT = 200
ROUNDS = 3
EXPRESSIONS = (
    'maker == "segment.otsu" and modality == "mr"',
    "params.sigma == 3 and stale",
    "params.seen > 900000",
    'terms."series/number" == 4',
    'input == "d0/a0/v1"',
    'source ~ "99.dcm"',
)
TERMS = {f"instrument/part {n}/setting": {"value": n, "unit": "millimeter"} for n in range(20)}
AXES = [{"name": name, "size": 512, "spacing": 0.5, "unit": "millimeter", "origin": 0.0} for name in "zyx"]
VOXEL = {"axes": AXES, "spacing": {"z": 0.5, "y": 0.5, "x": 0.5}, "positions": {}, "affine": None}
VOLUME: dict[str, Any] = {
    "kind": "image", "shape": [512, 512, 512], "dims": ["z", "y", "x"], "dtype": "uint8", "levels": ["s0", "s1"],
    "attributes": {}, "notes": [], "scale": None, "window": None,
}  # fmt: skip
PROGRAM = {"name": "emstore", "version": "0.1.0"}
RECORD = {
    "params_digest": "blake3:" + "0" * 64, "software": [PROGRAM], "agent": PROGRAM, "models": [], "notes": [], "deid": None,
    "environment": {"python": "3.11.0", "platform": "linux x86_64", "device": "cpu", "lock": "blake3:" + "0" * 64},
    "random": {"seed": None, "deterministic": True}, "ignored": [], "skipped": [], "step": None,
}  # fmt: skip


def parents(count: int) -> list[list[int]]:
    """Return what every version is made from, by number."""
    rng = np.random.default_rng(1)
    some = rng.integers(1, 4, count)
    numbers = np.arange(count)
    # The first tenth are projects of two hundred versions each, the rest is one web of them all.
    first = np.where(numbers < count // 10, numbers // PROJECT * PROJECT, 0)
    near = np.where(numbers < count // 10, PROJECT // 10, PROJECT)[:, None]
    back = np.minimum(rng.geometric(1 / near, (count, 3)), (numbers - first)[:, None])
    back[numbers % PROJECT == 0] = 0
    return [sorted({n - b for b in row[:k] if b}) for n, (row, k) in enumerate(zip(back.tolist(), some.tolist(), strict=True))]


def identity(n: int) -> str:
    """Return the id of a version; as spread as a digest is."""
    return f"blake3:{n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}{n:032x}"


def seals(graph: list[list[int]]) -> Iterator[Seal]:
    """Return the versions as seals, a thousand to an array."""
    for n, used in enumerate(graph):
        place = Place(f"d{n // 100_000}", f"a{n // 1000}", n % 1000 + 1)
        inputs = [{"role": "image", "ref": _ref(p), "id": identity(p), "store": None} for p in used]
        document = {
            "kind": "version",
            "layout": 1,
            "store_id": "urn:uuid:0",
            "path": str(place),
            "txn": f"urn:uuid:{n:032x}",
            "settings": identity(n + COUNT),
            "manifest": identity(n + 2 * COUNT),
            "contents": {"nbytes": 1000 + n, "objects": 9},
            "volume": {**VOLUME, "modality": "ct" if n % 3 else "mr", "name": place.array},
            "voxel": VOXEL,
            "header": {"format": "DICOM", "source": None, "tree": None, "terms": {"series/number": n // PROJECT, **TERMS}},
            "record": {
                **RECORD,
                "activity": {
                    "id": f"urn:uuid:{n:032x}",
                    "type": "process" if used else "ingest",
                    "name": "denoise.gaussian" if n % 10 else "segment.otsu",
                    "started": "2026-01-01T00:00:00Z",
                    "ended": f"2026-01-{1 + n % 28:02d}T00:00:00Z",
                },
                "inputs": inputs,
                "sources": [] if used else [{"name": f"{n}.dcm", "size": n, "digest": identity(n), "format": "DICOM"}],
                # One in ten was made with settings of its own, the others with one of seven.
                "params": {"processor": "a", "params": {"sigma": n % 7, "edge": "nearest", "seen": n if n % 10 == 9 else 0}},
            },
        }
        yield Seal(place, "", identity(n), document)


def _ref(n: int) -> str:
    return str(Place(f"d{n // 100_000}", f"a{n // 1000}", n % 1000 + 1))


def timed(work: Callable[[], Any], rounds: int = 1) -> tuple[dict[str, float], Any]:
    """Return the median time in seconds, of the clock and of the processor, and the last answer.

    All of it is one thread: on a busy machine the processor's time is nearer to what a quiet one takes.
    """
    times = []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        answer = work()
        times.append((time.perf_counter() - start, time.process_time() - used))
    wall, cpu = (round(statistics.median(each), 5) for each in zip(*times, strict=True))
    return {"s": wall, "cpu s": cpu}, answer


def measure(root: Path, *, count: int = COUNT) -> dict[str, Any]:
    """Return seconds, milliseconds and counts."""
    return fill(root, count) | ask(root, count)


def fill(root: Path, count: int) -> dict[str, Any]:
    """Fill the cache."""
    graph = parents(count)
    file = root / "lineage.sqlite"
    store = create_store(str(root / "lab.zarr"))
    with Index(file) as index:
        index.refresh(store)
        (known,) = index.stores()

        def enter() -> None:
            with index.transaction():
                index.add(known.n, seals(graph))

        filled, _ = timed(enter)
    megabytes = round(file.stat().st_size / 1e6)
    return {"versions": count, "edges": sum(map(len, graph)), "fill": filled, "cache MB": megabytes}


def ask(root: Path, count: int) -> dict[str, Any]:
    """Ask a filled cache."""
    results: dict[str, Any] = {}
    with Index(root / "lineage.sqlite") as index:
        few, last, half = (number(index, n) for n in (count // 20 // PROJECT * PROJECT + PROJECT - 1, count - 1, count // 2))
        for name, n, options in (
            ("the whole past of a small project", few, {"up": True, "down": False, "depth": None}),
            ("one step up", last, {"up": True, "down": False, "depth": 1}),
            ("three steps both ways", half, {"up": True, "down": True, "depth": 3}),
        ):
            seconds, answer = timed(lambda n=n, options=options: gather(index, n, notes=[], **options), 21)  # type: ignore[misc]
            results[name] = seconds
            results[f"{name} versions"] = len(answer.nodes)
        for name, n, up in (("all ancestors of the last", last, True), ("all descendants of the half-way", half, False)):
            seconds, whole = timed(
                lambda n=n, up=up: gather(index, n, up=up, down=not up, depth=None, notes=[]),  # type: ignore[misc]
                ROUNDS,
            )
            results[name] = seconds
            results[f"{name} versions"] = len(whole.nodes)
            if up:
                seconds, _ = timed(lambda whole=whole: write(whole, root / "out.json"), ROUNDS)  # type: ignore[misc]
                results["the same written as JSON"] = seconds
                results["the same written as JSON MB"] = round((root / "out.json").stat().st_size / 1e6)
                seconds, tree = timed(lambda whole=whole: whole.tree(), ROUNDS)  # type: ignore[misc]
                results["the same as a tree"] = seconds
                results["the same as a tree lines"] = len(tree.splitlines())
        for expression in EXPRESSIONS:
            seconds, found = timed(lambda expression=expression: list(search(index, expression)))  # type: ignore[misc]
            results[f"find {expression}"] = seconds
            results[f"find {expression} versions"] = len(found)
    return results


def number(index: Index, n: int) -> int:
    """Return the cache's number of a version."""
    found = index.number(identity(n))
    assert found is not None
    return found


def write(whole: Lineage, file: Path) -> None:
    """Write a lineage down as the command does."""
    with file.open("w", encoding="utf-8") as out:
        out.writelines(whole.json())
