"""SLAB files: a text header of ``key value`` lines that starts with ``SLAB 1`` and ends with an empty line, then raw values."""

from dataclasses import dataclass

import numpy as np

from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore.geometry import Axis, Grid, units
from emstore.header import Header, RawHeader
from emstore.volume import Volume


@dataclass(frozen=True)
class SlabArray:
    path: object
    start: int
    shape: tuple
    dtype: np.dtype

    @property
    def block(self):
        return (1, *self.shape[1:])

    def __getitem__(self, region):
        z, y, x = region
        plane = self.shape[1] * self.shape[2]
        skip = self.start + z.start * plane * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (z.stop - z.start) * plane, offset=skip)
        return values.reshape(-1, *self.shape[1:])[:, y, x].copy()


class SlabAdapter:
    name = "slab"
    version = "1"
    formats = {"SLAB": (".slab",)}  # noqa: RUF012

    def sniff(self, item):
        return 100 if item.head.startswith(b"SLAB 1\n") else 0

    def open(self, source):
        return [self._open(item) for item in source.items]

    def _open(self, item):
        try:
            raw = item.head[: item.head.index(b"\n\n") + 2]
            tree = dict(line.split(" ", 1) for line in raw.decode("ascii").splitlines()[1:-1])
            shape = tuple(int(tree[key]) for key in ("slices", "rows", "columns"))
            dtype = np.dtype({"u8": "u1", "u16": "<u2", "f32": "<f4"}[tree["type"]])
            step = float(tree["step"]) if "step" in tree else None
            axes = tuple(Axis.measured(n, s, step, units.canonical(tree.get("unit"))) for n, s in zip("zyx", shape, strict=True))
        except (ValueError, KeyError) as error:
            raise SourceUnreadable(f"the SLAB header is damaged: {error!r}", where=item.name) from error
        good = (item.size - len(raw)) // (shape[1] * shape[2] * dtype.itemsize)
        if good < shape[0]:
            raise SourceIncomplete(f"{good} of {shape[0]} slices are whole", where=item.name, fix="copy it again")
        header = Header("SLAB", tree, raw=(RawHeader(f"{item.path.name}.txt", lambda: raw),))
        return Volume(item.path.stem, SlabArray(item.path, len(raw), shape, dtype), Grid(axes), header, files=(item.path,))
