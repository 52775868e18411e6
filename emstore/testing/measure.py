"""What an adapter costs, measured in a process of its own: ``python -m emstore.testing.measure``.

A test process already holds every library and much memory, so it cannot tell what one adapter reads and holds. This one
imports the adapter, uses it once on the original files (imports and codecs get loaded), and then measures it on a
copy at another path, which no cache of the adapter can know. Linux only: bytes come from ``/proc/self/io`` plus the
growth of mapped file pages, memory from the peak resident size less those pages.

The job is JSON on standard input, the answer a JSON file; what adapters print goes nowhere near it.
"""

import gc
import json
import math
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from emstore.adapter import Adapter
from emstore.errors import EmstoreError
from emstore.source import Source
from emstore.testing import regions
from emstore.testing.loading import load
from emstore.testing.samples import Sample, copy, corrupt
from emstore.volume import Region, Volume

HEAVY: Final = (
    "PIL", "av", "cv2", "dask", "gdcm", "h5py", "imagecodecs", "mrcfile", "nibabel", "pydicom", "rsciio", "scipy",
    "skimage", "tensorflow", "tifffile", "torch", "xarray", "zarr",
)  # fmt: skip
"""Libraries that importing an adapter's module must not load."""

MOST_MEMORY: Final = 4 << 30
MOST_CORRUPT_READ: Final = 128 << 20

T = TypeVar("T")


def main() -> None:
    """Do the job on standard input and write the answer to the file it names."""
    job: dict[str, Any] = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    warnings.simplefilter("ignore")
    sys.path[:0] = job["path"]
    answer = Path(job["answer"])
    before = set(sys.modules)
    started = time.process_time()
    adapter = load(job["module"], job["file"], job["class"])()
    result: dict[str, Any] = {
        "import_seconds": time.process_time() - started,
        "heavy": sorted(set(HEAVY) & ({name.split(".")[0] for name in set(sys.modules) - before})),
        "samples": [],
    }
    work = corrupted if job["task"] == "corrupt" else costs
    for entry in job["samples"]:
        # Kept on disk before each step, so that a crash or a hang can be pinned on a file.
        answer.write_text(json.dumps({**result, "at": entry["name"]}))
        result["samples"].append(work(adapter, Sample(tuple(Path(p) for p in entry["paths"])), entry))
    answer.write_text(json.dumps(result))


def costs(adapter: Adapter, sample: Sample, entry: dict[str, Any]) -> dict[str, Any]:
    """Measure recognising, opening and slicing one sample."""
    with Source.of(sample.paths) as source, _Opened(sample.paths[0].parent.absolute()) as opened:
        for item in source.items:
            adapter.sniff(item)
        known = [item.path.absolute() for item in source.items]
        for volume in adapter.open(source):
            volume.data[regions.window(volume.data, 1, random.Random(0))]
            known += [path.absolute() for path in volume.files]
    code = (".py", ".pyc", ".so")
    unlisted = [p for p in opened.paths if p.is_file() and p.suffix not in code and not any(p.is_relative_to(k) for k in known)]
    with tempfile.TemporaryDirectory(prefix="emstore-measure-") as folder:
        mirror = copy(sample, known, Path(folder).resolve())
        with Source.of(mirror.paths) as source:
            sniffed = max(_spent(partial(adapter.sniff, item))[1] for item in source.items)
            size = sum(item.size for item in source.items)
            volumes, read, held = _spent(lambda: list(adapter.open(source)))
            return {
                "name": entry["name"],
                "size": size,
                "nbytes": max(volume.nbytes for volume in volumes),
                "sniff_read": sniffed,
                "open_read": read,
                "open_held": held,
                "slices": _slices(max(volumes, key=lambda volume: volume.nbytes)),
                "unlisted": sorted(str(path) for path in unlisted),
            }


def corrupted(adapter: Adapter, sample: Sample, entry: dict[str, Any]) -> dict[str, Any]:
    """Open and read damaged copies of a sample; list every exception that is not emstore's own."""
    wrong: list[str] = []
    Path("/proc/self/clear_refs").write_text("5")
    start = _status("VmRSS")
    for turn in range(entry["turns"]):
        with tempfile.TemporaryDirectory(prefix="emstore-corrupt-") as folder:
            mirror = copy(sample, map(Path, entry["files"]), Path(folder).resolve())
            seed = f"{entry['name']}:{turn}"
            corrupt(mirror.largest, seed)
            try:
                with Source.of(mirror.paths) as source:
                    if not any([adapter.sniff(item) for item in source.items]):
                        continue
                    for volume in adapter.open(source):
                        if math.prod(volume.data.block) * volume.dtype.itemsize <= MOST_CORRUPT_READ:
                            volume.data[regions.window(volume.data, 1, random.Random(0))]
            except EmstoreError:
                continue
            except Exception as error:  # noqa: BLE001 - finding these is the point
                wrong.append(f"seed {seed}: {type(error).__name__}: {str(error)[:200]}")
    return {"name": entry["name"], "wrong": wrong, "held": _status("VmHWM") - start}


def _slices(volume: Volume) -> list[dict[str, Any]]:
    """Measure one slab of whole blocks about a sixteenth of the volume, and one single block."""
    data = volume.data
    found = []
    for budget in (volume.nbytes // 16, 1):
        region = regions.window(data, budget, random.Random(budget))
        values, read, held = _spent(partial(data.__getitem__, region))
        found.append(
            {
                "region": [[part.start, part.stop] for part in region],
                "requested": int(values.nbytes),
                "block": math.prod(data.block) * data.dtype.itemsize,
                "share": _share(region, data.shape),
                "read": read,
                "held": held,
            }
        )
        del values
    return found


def _share(region: Region, shape: Sequence[int]) -> float:
    return math.prod(regions.extent(region)) / math.prod(shape)


def _spent(work: Callable[[], T]) -> tuple[T, int, int]:
    """Return what `work` returns, the bytes it read, and the most memory it held beyond what there was before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    resident, mapped, read = _status("VmRSS"), _status("RssFile"), _rchar()
    result = work()
    read = _rchar() - read
    seen = max(0, _status("RssFile") - mapped)
    return result, max(0, read - _ASKING) + seen, max(0, _status("VmHWM") - resident - seen)


def _rchar() -> int:
    """Return the bytes read by this process so far, reads from the page cache included."""
    return int(Path("/proc/self/io").read_text().split()[1])


_ASKING: Final = len(Path("/proc/self/io").read_text())
"""Bytes that asking for the bytes read adds to them."""


def _status(key: str) -> int:
    """Return one memory figure of this process, bytes."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:", 1)[1].split()[0]) * 1024


class _Opened:
    """Data files below a folder that Python code opens, while in use."""

    def __init__(self, root: Path) -> None:
        self.paths: set[Path] = set()
        self._root = f"{root}/"
        self._on = False
        sys.addaudithook(self._note)

    def __enter__(self) -> "_Opened":
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        # An audit hook cannot be taken out again, only switched off.
        if self._on and event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(self._root):
            self.paths.add(Path(arguments[0]))


if __name__ == "__main__":
    main()
