"""What the benchmarks of the store share: data that compresses as microscope images do, and a folder to write it to."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.volume import LazyArray, Region, Volume

MIB = 1 << 20


@dataclass
class FolderSink:
    """Writes each object once, hashes it as it is sent, and makes it durable."""

    root: Path
    digests: dict[str, str] = field(default_factory=dict)
    _folders: set[Path] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def have(self, key: str) -> bool:
        return (self.root / key).exists()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        path = self.root / key
        digest = blake3.blake3(data).hexdigest()
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
            self.digests[key] = digest
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def sync(self) -> None:
        """Make the folders durable too."""
        for folder in sorted(self._folders):
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def em_slices(count: int, height: int, width: int, *, seed: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield slices of smooth structure under camera noise, uint8; zstd-1 shrinks them about 1.3 times."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = rng.normal(0, 7, (4, height, width)).astype(np.float32)
    for z in range(count):
        smooth = 128 + 60 * np.sin(z / 17) * np.cos(y / 23) * np.sin(x / 31)
        # Noise drawn anew every slice would take longer than the benchmark; shifts and flips of four fields look as new.
        grain = np.roll(noise[z % 4], (37 * z % height, 61 * z % width), (0, 1))
        yield np.clip(smooth + grain, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SliceFiles:
    """A `LazyArray` over one raw file per slice, as cheap to read as a file can be."""

    paths: tuple[Path, ...]
    height: int
    width: int
    offset: int = 0
    """Where the samples start in each file, bytes."""

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.paths), self.height, self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def block(self) -> tuple[int, ...]:
        return 1, self.height, self.width

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        z, y, x = region
        out = np.empty((z.stop - z.start, self.height, self.width), np.uint8)
        for at, path in zip(out, self.paths[z], strict=True):
            self.read(path, at)
        return out[:, y, x]

    def read(self, path: Path, out: npt.NDArray[np.uint8]) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            file.readinto(memoryview(out).cast("B"))


@dataclass(frozen=True)
class Synthetic:
    """A `LazyArray` of any depth that exists only while it is read: shifts of a few noisy slices."""

    shape: tuple[int, ...]
    slices: Sequence[npt.NDArray[Any]]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.slices[0].dtype

    @property
    def block(self) -> tuple[int, ...]:
        return 1, *self.shape[1:]

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        z, y, x = region
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype)
        for at, k in zip(out, range(z.start, z.stop), strict=True):
            at[...] = np.roll(self.slices[k % len(self.slices)], 13 * k, axis=1)[y, x]
        return out


def volume(data: LazyArray, *, spacing: float = 4.0) -> Volume:
    axes = tuple(Axis(name, n, spacing=spacing, unit="nanometer") for name, n in zip("zyx", data.shape, strict=True))
    return Volume("bench", data, Grid(axes), Header("synthetic"))


def write_slices(folder: Path, count: int, height: int, width: int) -> SliceFiles:
    folder.mkdir(parents=True)
    paths = tuple(folder / f"slice{z:05d}.raw" for z in range(count))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda at: at[0].write_bytes(at[1].tobytes()), zip(paths, em_slices(count, height, width), strict=True)))
    return SliceFiles(paths, height, width)
