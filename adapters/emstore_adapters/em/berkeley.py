"""Berkeley (NCEM) EMD: HDF5 groups marked ``emd_group_type = 1`` that hold an array and one ``dim`` per axis.

rosettasciio finds the datasets and reads their axes; pixels come from the datasets by hyperslab. Before ``dim0`` was
introduced, arrays were written x first, and are transposed, lazily. Raw header: every attribute and small dataset as JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emstore.errors import Kind, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray
from emstore_adapters.em import hdf5, terms
from emstore_adapters.em.arrays import Stack, View
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format
from emstore_adapters.em.library import guarded, require
from emstore_adapters.em.signals import Signal


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return every dataset of a file; groups of one name and running numbers are stacked."""
    require(Format.BERKELEY, item.name)
    signals = []
    with hdf5.opened(item.path, item.name) as file, guarded(item.name) as notes:
        tree = hdf5.tree(file)
        raw = hdf5.dump(item.path, item.name, item.path.name, lambda _: False)
        for found in _described(file, item.name):
            signals.append(_signal(item, file, found, tree, raw))
    if not signals:
        raise SourceUnreadable("holds no dataset that can be read", where=item.name, kind=Kind.SOURCE_UNSUPPORTED)
    return [replace(signal, notes=tuple(notes)) for signal in signals]


@dataclass(frozen=True)
class _StandIn:
    """A shape without values."""

    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, _: object) -> Any:
        raise NotImplementedError("the stand-in has no values")

    def __dask_tokenize__(self) -> tuple[str, int]:
        return ("stand-in", id(self))


def _described(file: Any, where: str) -> list[dict[str, Any]]:
    """Return rosettasciio's description of every signal, the datasets it is made of in place of its values."""
    from rsciio.emd._emd_ncem import EMD_NCEM

    class Describing(EMD_NCEM):  # type: ignore[misc]  # untyped library
        """Never touches values: an array of the same shape that takes no memory stands for them."""

        made: tuple[str, ...] = ()

        def _read_data_from_groups(self, group_path: Any, dataset_name: Any, *rest: Any) -> Any:
            self.made = tuple(f"{path}/{dataset_name}" for path in group_path)
            return super()._read_data_from_groups(group_path, dataset_name, *rest)

        def _parse_metadata(self, group_basename: Any, title: str = "") -> Any:
            metadata = super()._parse_metadata(group_basename, title)
            metadata["datasets"] = self.made
            return metadata

        @staticmethod
        def _read_dataset(dataset: Any, lazy: bool = False) -> Any:
            if dataset.dtype.kind not in "biufc" and dataset.dtype.names is None:
                raise SourceUnreadable(
                    f"holds values of type {dataset.dtype}, which are not numbers",
                    where=f"{where}:{dataset.name}",
                    fix="only numbers and booleans can be stored",
                    kind=Kind.SOURCE_UNSUPPORTED,
                )
            return _StandIn(tuple(dataset.shape)), -1

    reader = Describing()
    # Lazily, so that stacking and turning the stand-ins costs nothing either.
    reader.read_file(file, lazy=True)
    return list(reader.dictionaries)


def _signal(item: SourceItem, file: Any, found: dict[str, Any], tree: dict[str, Any], raw: Any) -> Signal:
    keys: tuple[str, ...] = found["metadata"]["datasets"]
    axes = found["axes"]
    parts = [hdf5.array(item.path, item.name, file[key]) for key in keys]
    if len({(part.shape, part.dtype) for part in parts}) > 1:
        raise SourceUnreadable("numbered groups differ in shape or type", where=item.name, kind=Kind.SOURCE_INCONSISTENT)
    group = keys[0].rpartition("/")[0]
    turned = not keys[0].endswith("/datacube") and f"{group}/dim0" not in file
    data: LazyArray = parts[0]
    if turned and len(data.shape) > 1:
        parts_read: list[LazyArray] = [View(part, tuple(reversed(range(len(part.shape))))) for part in parts]
    else:
        parts_read = list(parts)
    data = parts_read[0] if len(parts_read) == 1 else Stack(tuple(parts_read))
    if len(parts_read) > 1 and 1 in data.shape:
        data = View(data, tuple(axis for axis, size in enumerate(data.shape) if size > 1))
    if len(axes) != len(data.shape):
        raise SourceUnreadable(f"has {len(axes)} axes for an array of shape {data.shape}", where=item.name)
    original = found["original_metadata"]
    microscope = original.get("microscope", {})
    facts: dict[str, Any] = {}
    terms.add(facts, terms.MODEL, microscope.get("name", microscope.get("microscope name", "")))
    voltage = microscope.get("voltage", original.get("simulation_parameters", {}).get("E0"))
    if voltage is not None:
        terms.add(facts, terms.VOLTAGE, voltage, "volt" if _large(voltage) else "kilovolt")
    return Signal(
        str(found["metadata"]["General"]["title"] or "").replace("__unnamed__", ""),
        data,
        tuple(RawAxis.of(_unflagged(axis), size) for axis, size in zip(axes, data.shape, strict=True)),
        Format.BERKELEY,
        {"original_metadata": original, "file": tree},
        facts,
        (raw,),
        (item.path,),
        "stem" if len(data.shape) >= 4 else None,
    )


def _large(voltage: Any) -> bool:
    try:
        return float(voltage) >= 5000
    except (TypeError, ValueError):
        return False


def _unflagged(axis: dict[str, Any]) -> dict[str, Any]:
    # Outside prismatic files the reader marks every axis as signal for want of knowledge.
    return axis if axis.get("navigate") else {**axis, "navigate": None}
