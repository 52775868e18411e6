"""Measure volumes made in memory, for tests of the measure processors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.blocks.compute import evaluate
from emstore.geometry import Axis, AxisKind
from emstore.processor import Processor
from emstore.table import Table
from emstore.volume import Volume
from sealed import volume

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}


def on_grid(values: npt.NDArray[Any], dims: str = "zyx", name: str = "image", **rest: Any) -> Volume:
    """Return a volume with voxels of 2 nm."""
    names = dims[-values.ndim :]
    axes = [
        Axis(axis, n, KINDS.get(axis, AxisKind.SPACE), spacing=2.0, unit="nanometer")
        if axis not in KINDS
        else Axis(axis, n, KINDS[axis])
        for axis, n in zip(names, values.shape, strict=True)
    ]
    return volume(name, values, *axes, **rest)


def measure(
    processor: Processor, *inputs: Volume | npt.NDArray[Any], block: tuple[int, ...] | None = None, **params: Any
) -> Table:
    """Return the table of a processor, cut into blocks of a shape; arrays are put on a grid first."""
    volumes = [
        one if isinstance(one, Volume) else on_grid(one, name=role) for one, role in zip(inputs, processor.inputs, strict=True)
    ]
    found = evaluate(processor.plan(volumes, processor.params(**params)), volumes, block=block)
    assert isinstance(found, Table)
    return found


def column(table: Table, name: str) -> npt.NDArray[Any]:
    """Return a column's values."""
    return table.columns[name].values


def assert_same(one: Table, other: Table, *, exact: bool = False) -> None:
    """Assert that two tables say the same, to parts in 1e9."""
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        a, b = column(one, name), column(other, name)
        if exact or a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * _reach(a), err_msg=name)
    assert list(one.summary) == list(other.summary)
    for name, value in one.summary.items():
        again = other.summary[name]
        if exact or not isinstance(value, float):
            assert value == again, name
        else:
            np.testing.assert_allclose(again, value, rtol=1e-9, atol=1e-12, err_msg=name)


def _reach(values: Sequence[float] | npt.NDArray[Any]) -> float:
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.abs(finite).max(initial=0))
