"""Adapters with one defect each; `finds` names the test that must find it. Run by test_conformance_suite.py."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from emstore_slab import SlabAdapter, SlabArray
from heavy_slab import HeavySlab
from slab_files import slabs

from emstore.errors import SourceIncomplete
from emstore.header import Header, RawHeader
from emstore.testing import AdapterConformance
from emstore.volume import MemoryArray


def finds(test: str) -> Any:
    """Make a conformance class of an adapter that must fail `test`."""

    def make(adapter: type) -> type:
        name = f"Test{adapter.__name__}"
        globals()[name] = type(name, (AdapterConformance,), {"adapter": adapter, "files": slabs, "__module__": __name__})
        return adapter

    return make


class TestNothingWrong(AdapterConformance):
    adapter = SlabAdapter
    files = slabs

    def reference(self, sample: Any) -> Any:
        content = sample.paths[0].read_bytes()
        dtype, shape = (np.uint8, (5, 7, 9)) if sample.name == "small.slab" else (np.uint16, (40, 640, 1024))
        values = np.frombuffer(content, dtype, offset=content.index(b"\n\n") + 2)
        return {sample.paths[0].stem: values.reshape(shape)}


class Changed(SlabAdapter):
    """Changes every volume after it was opened as it should be."""

    def open(self, source: Any) -> Any:
        return [self.change(volume) for volume in super().open(source)]

    def change(self, volume: Any) -> Any:
        raise NotImplementedError


@finds("test_contract")
class NoVersion(SlabAdapter):
    version = ""


@finds("test_contract")
class LoudExtension(SlabAdapter):
    formats = {"SLAB": (".SLAB",)}  # noqa: RUF012


@finds("test_sniff_recognises_by_content")
class ByExtension(SlabAdapter):
    def sniff(self, item: Any) -> int:
        return 100 if item.extension == ".slab" else 0


@finds("test_sniff_refuses_what_is_nothing")
class TakesAll(SlabAdapter):
    def sniff(self, item: Any) -> int:
        return 1


@finds("test_sniff_reads_the_head_only")
class SniffsAll(SlabAdapter):
    def sniff(self, item: Any) -> int:
        return 100 if item.path.read_bytes().startswith(b"SLAB 1\n") else 0


@finds("test_sniff_never_raises")
class SniffRaises(SlabAdapter):
    def sniff(self, item: Any) -> int:
        return 100 if item.head[:6].decode("ascii") == "SLAB 1" else 0


finds("test_import_is_cheap")(HeavySlab)


@finds("test_volumes_keep_their_rules")
class SpacingOne(Changed):
    def change(self, volume: Any) -> Any:
        axes = tuple(replace(axis, spacing=1.0, unit=None) for axis in volume.grid.axes)
        return replace(volume, grid=replace(volume.grid, axes=axes))


@finds("test_volumes_keep_their_rules")
class ShortUnit(Changed):
    def change(self, volume: Any) -> Any:
        axes = tuple(replace(axis, spacing=4.0, unit="nm") for axis in volume.grid.axes)
        return replace(volume, grid=replace(volume.grid, axes=axes))


@finds("test_volumes_keep_their_rules")
class TreeWithNaN(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, header=replace(volume.header, tree={"gain": [float("nan")]}))


@finds("test_volumes_keep_their_rules")
class TreeWithArray(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, header=replace(volume.header, tree={"gain": {"table": np.arange(3)}}))


@finds("test_volumes_keep_their_rules")
class SameNames(SlabAdapter):
    def open(self, source: Any) -> Any:
        return [volume for volume in super().open(source) for _ in range(2)]


@finds("test_volumes_keep_their_rules")
class NoFiles(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, files=())


@finds("test_no_file_goes_unnoticed")
class ReadsCompanion(Changed):
    def change(self, volume: Any) -> Any:
        [path] = volume.files
        companion = path.parent / "small.slab"
        if companion.exists():
            companion.read_bytes()
        return volume


@finds("test_raw_headers_are_exact")
class RewrittenHeader(Changed):
    def change(self, volume: Any) -> Any:
        raw = RawHeader("header.txt", lambda: repr(volume.header.tree).encode())
        return replace(volume, header=Header("SLAB", volume.header.tree, raw=(raw,)))


@finds("test_open_reads_headers_only")
class ReadsAll(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, data=MemoryArray(volume.data[tuple(slice(0, n) for n in volume.shape)]))


@dataclass(frozen=True)
class WholeThenPart(SlabArray):
    def __getitem__(self, region: Any) -> Any:
        return np.fromfile(self.path, self.dtype, offset=self.start).reshape(self.shape)[region].copy()


@finds("test_slices_hold_little")
class HoldsAll(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, data=WholeThenPart(**vars(volume.data)))


@finds("test_slices_read_what_they_need")
class ReadsAllEachTime(HoldsAll):
    pass


@dataclass(frozen=True)
class OffByOne(SlabArray):
    def __getitem__(self, region: Any) -> Any:
        values = super().__getitem__(region)
        return values if region[0].start == 0 else values[::-1]


@finds("test_slices_equal_the_whole")
class Reversed(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, data=OffByOne(**vars(volume.data)))


@dataclass(frozen=True)
class Widened(SlabArray):
    def __getitem__(self, region: Any) -> Any:
        return super().__getitem__(region).astype(np.float64)


@finds("test_slices_equal_the_whole")
class OtherType(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, data=Widened(**vars(volume.data)))


class OneHandle:
    """Shares a file position between threads."""

    def __init__(self, inner: SlabArray) -> None:
        self.shape, self.dtype, self.block, self._start = inner.shape, inner.dtype, inner.block, inner.start
        self._path, self._file = inner.path, None

    def __getitem__(self, region: Any) -> Any:
        if self._file is None:
            self._file = Path(self._path).open("rb")
        z, y, x = region
        plane = self.shape[1] * self.shape[2] * self.dtype.itemsize
        rows = []
        for at in range(z.start, z.stop):
            self._file.seek(self._start + at * plane)
            rows.append(np.frombuffer(self._file.read(plane), self.dtype).reshape(self.shape[1:])[y, x])
        return np.stack(rows)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


@finds("test_threads_may_read_at_once")
class SharesHandle(Changed):
    def change(self, volume: Any) -> Any:
        return replace(volume, data=OneHandle(volume.data))


@dataclass(frozen=True)
class Filler(SlabArray):
    def __getitem__(self, region: Any) -> Any:
        values = np.zeros(self.shape, self.dtype)
        read = np.fromfile(self.path, self.dtype, values.size, offset=self.start)
        values.reshape(-1)[: read.size] = read
        return values[region]


class Lenient(SlabAdapter):
    """Believes the header whatever the size of the file."""

    def open(self, source: Any) -> Any:
        for item in source.items:
            item.__dict__["size"] = 1 << 40
        return super().open(source)


@finds("test_truncated_files_are_told")
class FillsZeros(Lenient):
    def open(self, source: Any) -> Any:
        return [replace(volume, data=Filler(**vars(volume.data))) for volume in super().open(source)]


@finds("test_truncated_files_are_told")
class Shortens(SlabAdapter):
    def open(self, source: Any) -> Any:
        try:
            return super().open(source)
        except SourceIncomplete:
            for item in source.items:
                item.__dict__["size"] = 1 << 40
            found = []
            for volume in super().open(source):
                axes = (replace(volume.grid.axes[0], size=1), *volume.grid.axes[1:])
                values = np.zeros((1, *volume.shape[1:]), volume.dtype)
                found.append(replace(volume, data=MemoryArray(values), grid=replace(volume.grid, axes=axes)))
            return found


@finds("test_truncated_files_are_told")
class OtherException(Lenient):
    pass


@finds("test_damaged_headers_end_in_clear_errors")
class Careless(SlabAdapter):
    def open(self, source: Any) -> Any:
        [int(item.head.split(b"slices ")[1].split(b"\n")[0]) for item in source.items]
        return super().open(source)
