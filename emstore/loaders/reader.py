"""Reading samples: every chunk decoded once while its patches are served, within a bound on memory."""

import os
import threading
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput
from emstore.loaders.inputs import Cut
from emstore.loaders.patches import Patches
from emstore.loaders.tiling import Numbers, Shape
from emstore.store import open_version
from emstore.volume import LazyArray, Region

Sample = dict[str, npt.NDArray[Any]] | npt.NDArray[Any]
"""One array per role, or one array where versions were given without roles."""

_THREADS: Final = 4
_Key = tuple[str, Shape]


class Reader:
    """Reads samples. Keeps decoded chunks, the ones used last, up to the plan's memory. Safe in threads.

    A reader that travels to another process (pickled) opens its versions there. One that a fork has copied refuses to read:
    the threads of the storage library do not survive a fork, and reading could wait for them for ever.
    """

    def __init__(self, patches: Patches) -> None:
        self.patches = patches
        self._fresh()

    def _fresh(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._arrays: dict[tuple[str, int], LazyArray] = {}
        self._chunks: OrderedDict[_Key, npt.NDArray[Any]] = OrderedDict()
        self._held = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"patches": self.patches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.patches = state["patches"]
        self._fresh()

    def check_process(self) -> None:
        """Refuse to work in a fork.

        Raises
        ------
        InvalidInput
            This process was forked from the one the reader was made in.
        """
        if self._process != os.getpid():
            raise InvalidInput(
                "this dataset was made before the process was forked; its open store cannot be read on this side of the fork",
                fix='start workers afresh: DataLoader(..., multiprocessing_context="spawn"), or make the dataset after the fork',
            )

    def run(self, epoch: int, run: range, skip: int = 0) -> Iterator[Sample]:
        """Yield the samples of a run of an epoch but for the first `skip`."""
        for numbers in self.patches.epoch(epoch, run):
            left, skip = numbers[skip:], max(0, skip - len(numbers))
            if len(left):
                self.prepare(left)
                for number in left.tolist():
                    yield self.sample(number)

    def prepare(self, numbers: Numbers) -> None:
        """Read the chunks of some patches that are not in memory, several at a time.

        Raises
        ------
        Damaged, StorageFailed
            See `emstore.errors`.
        """
        self.check_process()
        with self._lock:
            self._prepare(numbers)

    def sample(self, number: int) -> Sample:
        """Return one sample, read first if need be: arrays of its own, C order, native byte order."""
        self.check_process()
        item, start = self.patches.locate(number)
        regions = [self.patches.region(cut, item[0], start) for cut in item]
        with self._lock:
            if any(
                (cut.ref, index) not in self._chunks for cut, r in zip(item, regions, strict=True) for index in _chunks(cut, r)
            ):
                self._prepare(np.asarray([number]))
            patches = [self._assembled(cut, region) for cut, region in zip(item, regions, strict=True)]
        found = {cut.role: self.patches.forms[cut.role](patch, cut.ref) for cut, patch in zip(item, patches, strict=True)}
        return next(iter(found.values())) if self.patches.plain else found

    def _prepare(self, numbers: Numbers) -> None:
        wanted: dict[_Key, Cut] = {}
        for item, starts in self.patches.located(numbers):
            for cut in item:
                for index in self._touched(cut, item[0], starts):
                    wanted.setdefault((cut.ref, index), cut)
        missing: list[tuple[_Key, LazyArray, Region]] = []
        size = 0
        for key, cut in wanted.items():
            if key in self._chunks:
                self._chunks.move_to_end(key)
            else:
                missing.append((key, self._array(cut), _extent(cut, key[1])))
                size += _bytes(cut, missing[-1][2])
        self._make_room(size, wanted)
        self._read(missing)

    def _touched(self, cut: Cut, main: Cut, starts: tuple[Numbers, ...]) -> set[Shape]:
        """Return the chunks of an input that patches need, given by their first voxels on the axes of the main input."""
        along = {name: (line, size) for name, line, size in zip(main.dims, starts, self.patches.patch, strict=True)}
        low = [along[name][0] // c for name, c in zip(cut.dims, cut.chunk, strict=True)]
        more = [(along[name][0] + along[name][1] - 1) // c - a for name, c, a in zip(cut.dims, cut.chunk, low, strict=True)]
        # Most patches of a window need the same few boxes of chunks: first find these, in one number each.
        sides = [int(values.max()) + 1 for values in (*low, *more)]
        boxes = np.unravel_index(np.unique(np.ravel_multi_index((*low, *more), sides)), sides)
        found: set[Shape] = set()
        for box in np.stack(boxes, axis=1).tolist():
            found.update(product(*(range(a, a + n + 1) for a, n in zip(box[: len(low)], box[len(low) :], strict=True))))
        return found

    def _make_room(self, size: int, wanted: Container[_Key]) -> None:
        if self._held + size > self.patches.memory:
            for key in [key for key in self._chunks if key not in wanted]:
                self._held -= self._chunks.pop(key).nbytes
                if self._held + size <= self.patches.memory:
                    return

    def _read(self, missing: list[tuple[_Key, LazyArray, Region]]) -> None:
        if len(missing) == 1:
            self._keep(map(_read_one, missing))
        elif missing:
            with ThreadPoolExecutor(min(_THREADS, len(missing)), "patches") as pool:
                self._keep(pool.map(_read_one, missing))

    def _keep(self, chunks: Iterable[tuple[_Key, npt.NDArray[Any]]]) -> None:
        for key, values in chunks:
            self._chunks[key] = values
            self._held += values.nbytes

    def _array(self, cut: Cut) -> LazyArray:
        key = (cut.ref, cut.level)
        if key not in self._arrays:
            version = self.patches.versions.get(cut.ref) or open_version(cut.ref)
            if version.id != cut.id:
                raise Damaged("this is not the version the dataset was made of", where=cut.ref, fix="make the dataset anew")
            self._arrays[key] = version.array(cut.level)
        return self._arrays[key]

    def _assembled(self, cut: Cut, region: Region) -> npt.NDArray[Any]:
        """Put a patch together from its chunks."""
        out = np.empty([part.stop - part.start for part in region], cut.dtype)
        for index in _chunks(cut, region):
            into, of = [], []
            for part, (low, high) in zip(region, ((s.start, s.stop) for s in _extent(cut, index)), strict=True):
                start, stop = max(part.start, low), min(part.stop, high)
                into.append(slice(start - part.start, stop - part.start))
                of.append(slice(start - low, stop - low))
            self._chunks.move_to_end((cut.ref, index))
            out[tuple(into)] = self._chunks[cut.ref, index][tuple(of)]
        return out


def _read_one(missing: tuple[_Key, LazyArray, Region]) -> tuple[_Key, npt.NDArray[Any]]:
    key, array, region = missing
    return key, array[region]


def _chunks(cut: Cut, region: Region) -> Iterator[Shape]:
    """Yield the chunks that a region touches."""
    return product(*(range(part.start // c, -(-part.stop // c)) for part, c in zip(region, cut.chunk, strict=True)))


def _extent(cut: Cut, index: Shape) -> Region:
    """Return the region a chunk covers, cut at the array's end."""
    return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, cut.chunk, cut.shape, strict=True))


def _bytes(cut: Cut, region: Region) -> int:
    size = cut.dtype.itemsize
    for part in region:
        size *= part.stop - part.start
    return size
