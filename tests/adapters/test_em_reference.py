"""Every electron microscopy file of the test data against rosettasciio's own reader, value for value and axis for axis."""

import csv
import importlib
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emstore.errors import Kind, SourceUnreadable
from emstore.geometry import Axis, units
from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.em import EmAdapter

MODULES = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".ser": "tia",
    ".emi": "tia",
    ".hspy": "hspy",
    ".hdf5": "hspy",
    ".blo": "blockfile",
    ".tvips": "tvips",
}

Find = Callable[[str], Path]


def rows(data_dir: Path) -> list[dict[str, str]]:
    with (data_dir / "MANIFEST.csv").open(newline="") as file:
        return [r for r in csv.DictReader(file) if r["path"].startswith(("stem/", "hostile/")) and r["reader_result"] == "ok"]


def whole(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def reference(path: Path) -> Iterator[tuple[np.ndarray[Any, Any], list[dict[str, Any]]]]:
    """Values and axes as rosettasciio returns them, colours taken apart into a first axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = importlib.import_module(f"rsciio.{MODULES[path.suffix]}").file_reader(str(path))
    for signal in signals:
        values, axes = np.asarray(signal["data"]), list(signal["axes"])
        if values.dtype.names:
            values, axes = np.stack([values[name] for name in values.dtype.names]), [{}, *axes]
        yield values, axes


def axis_problem(axis: Axis, said: dict[str, Any], tolerance: float) -> str | None:
    word = str(said.get("units") or "").strip("[]<> ").replace("undefined", "")
    unit = units.canonical(word) or word or None
    step = said.get("scale")
    step = None if step is None else float(step)
    if step is None or not math.isfinite(step) or step <= 0 or (step == 1 and unit is None):
        return None if not axis.known else f"{axis.name} has spacing {axis.spacing}, but nothing is known"
    if axis.unit != unit:
        return f"{axis.name} has unit {axis.unit}, not {unit}"
    found = axis.median_step()
    return None if found is not None and math.isclose(found, step, rel_tol=tolerance) else f"{axis.name}: {found}, not {step}"


def problem(volume: Volume, values: np.ndarray[Any, Any], axes: list[dict[str, Any]], tolerance: float) -> str | None:
    if volume.shape != values.shape or volume.dtype.newbyteorder("=") != values.dtype.newbyteorder("="):
        return f"{volume.shape} {volume.dtype}, not {values.shape} {values.dtype}"
    if not np.array_equal(whole(volume), values, equal_nan=values.dtype.kind in "fc"):
        return "values differ"
    found = [axis_problem(axis, said, tolerance) for axis, said in zip(volume.grid.axes, axes, strict=True) if said]
    return next((text for text in found if text), None)


def test_every_signal_of_every_file_equals_the_reference(data_dir: Path) -> None:
    pytest.importorskip("rsciio")
    problems, files = [], 0
    for row in rows(data_dir):
        path = data_dir / row["path"]
        if path.suffix not in MODULES or row["dtype"] == "object":
            continue
        files += 1
        # Times since 1970 lose digits as floats, which is how rosettasciio subtracts them.
        tolerance = 1e-4 if path.suffix == ".tvips" else 1e-9
        with Source.of([path]) as source:
            volumes = list(EmAdapter().open(source))
            for number, (values, axes) in enumerate(reference(path)):
                reasons = [problem(volume, values, axes, tolerance) for volume in volumes]
                if None in reasons:
                    volumes.pop(reasons.index(None))
                else:
                    problems.append(f"{row['path']} signal {number}: {reasons}")
            problems += [f"{row['path']}: {volume.name} is in no reference" for volume in volumes]
    assert not problems
    assert files >= 45


def test_the_spectrum_image_of_a_velox_stream_equals_the_reference(instrument_file: Find) -> None:
    pytest.importorskip("sparse")
    with Source.of([instrument_file("stem/velox_emd_version11.zip")]) as source:
        [item] = [item for item in source.items if "Reduced" not in item.name]
        volumes = {volume.name: volume for volume in EmAdapter().open(source.subset([item]))}
        expected = list(reference(item.path))
        assert list(volumes) == ["HAADF", "C", "Ca", "O", "Cu", "EDS SI", "EDS-1", "EDS-2", "EDS-3", "EDS-4"]
        image = volumes["EDS SI"]
        assert problem(image, *expected[-1], 1e-9) is None
        assert image.grid.dims == ("y", "x", "energy")
        region = (slice(3, 9), slice(5, 16), slice(17, 900))
        np.testing.assert_array_equal(image.data[region], expected[-1][0][region])


@pytest.mark.parametrize("name", ["signal1d_10x10-ZipStore.zspy", "signal1d_10x10-NestedDirectoryStore.zspy"])
def test_zspy_values_are_those_of_its_chunks(instrument_file: Find, name: str) -> None:
    """Decoded chunk by chunk without zarr: both stores hold the same signal."""
    import numcodecs

    folder = instrument_file("stem/signal1d_10x10-NestedDirectoryStore.zspy") / "Experiments" / "__unnamed__" / "data"
    spec = json.loads((folder / ".zarray").read_text())
    codec = numcodecs.get_codec(spec["compressor"])
    expected = np.empty(spec["shape"], spec["dtype"])
    for y in range(2):
        for x in range(2):
            chunk = np.frombuffer(codec.decode((folder / str(y) / str(x)).read_bytes()), spec["dtype"]).reshape(5, 5)
            expected[5 * y : 5 * y + 5, 5 * x : 5 * x + 5] = chunk
    with Source.of([instrument_file(f"stem/{name}")]) as source:
        [volume] = EmAdapter().open(source)
        np.testing.assert_array_equal(whole(volume), expected)
        assert not any(axis.known for axis in volume.grid.axes)


def test_python_objects_are_refused(instrument_file: Find) -> None:
    with Source.of([instrument_file("stem/example_object_dtype_data.emd")]) as source:
        with pytest.raises(SourceUnreadable, match="not numbers") as caught:
            EmAdapter().open(source)
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


@pytest.mark.parametrize("name", ["nionswift_dmio/ref_F_0_1.dm5", "py4DSTEM_size2x3x4x5.h5", "mrc_de/HAADFscan.mrc"])
def test_other_formats_are_left_alone(instrument_file: Find, name: str) -> None:
    with Source.of([instrument_file(f"stem/{name}")]) as source:
        assert [EmAdapter().sniff(item) for item in source.items] == [0]


def test_an_eels_spectrum_image_of_a_velox_file_equals_the_reference(instrument_file: Find, tmp_path: Path) -> None:
    """No real file with one is at hand: one is added to a real file, as the reference reader expects it."""
    import h5py

    def document(content: dict[str, Any]) -> np.ndarray[Any, Any]:
        return np.frombuffer(json.dumps(content).encode(), np.uint8)[:, None]

    pytest.importorskip("sparse")
    with Source.of([instrument_file("stem/velox_emd_version11.zip")]) as source:
        [item] = [item for item in source.items if "Reduced" not in item.name]
        path = tmp_path / "eels.emd"
        path.write_bytes(item.path.read_bytes())
    values = np.random.default_rng(1).random((16, 50, 12), np.float32)
    with h5py.File(path, "a") as file:
        group = file["Data"].create_group("EelsSpectrumImage/low")
        group["Data"] = values
        group["Metadata"] = document({"Detectors": {}})
        group["AcquisitionMetadata"] = document({"Data": {"offset": -20.0, "dispersion": 0.25}})
    expected = [(v, a) for v, a in reference(path) if a[-1]["name"] == "Energy-loss"]
    [volume] = [volume for volume in EmAdapter().open(Source.of([path])) if volume.name == "EELS"]
    assert problem(volume, *expected[0], 1e-9) is None
    assert (volume.grid.dims, volume.modality) == (("y", "x", "energy"), "eels")
