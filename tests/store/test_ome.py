"""The OME block, coordinates and display windows, from analytic truths; validity is `test_readers_everywhere`'s part."""

import json
from typing import Any

import numpy as np
import pytest

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.store import metadata
from emstore.store.ome import ome_axes
from emstore.store.reader import StoredArray
from emstore.store.writer import plan_version, root_document, write_version_data
from emstore.volume import MemoryArray, Volume, VolumeKind
from memory_sink import MemorySink

NM = "nanometer"


def document(values: Any, *axes: Axis, **rest: Any) -> tuple[dict[str, Any], MemorySink]:
    each = Volume("v", MemoryArray(values), Grid(axes), Header("none"), **rest)
    plan = plan_version(each)
    sink = MemorySink()
    result = write_version_data(each, plan, sink)
    return root_document(each, plan, result, {"kind": "version"}), sink


def coordinate(sink: MemorySink, path: str) -> Any:
    """Decode a coordinate array by the codecs its document names."""
    import numcodecs.zstd

    meta = json.loads(sink.objects[f"{path}/zarr.json"])
    assert [codec["name"] for codec in meta["codecs"]] == ["bytes", "zstd", "crc32c"]
    return np.frombuffer(numcodecs.zstd.decompress(sink.objects[f"{path}/c/0"][:-4]), "<f8")


def test_a_point_has_the_same_place_on_every_level() -> None:
    """A linear ramp's value is its position: block means keep it so, if scale and half-voxel shift are right."""
    z, y, x = np.meshgrid(np.arange(80), np.arange(256), np.arange(300), indexing="ij")
    origin, step = (5.0, -30.0, 100.0), (40.0, 10.0, 10.0)
    for axis, ramp in enumerate((z, y, x)):
        values = (origin[axis] + step[axis] * ramp).astype("float32")
        axes = [Axis(n, s, spacing=d, unit=NM, origin=o) for n, s, d, o in zip("zyx", z.shape, step, origin, strict=True)]
        root, sink = document(values, *axes)
        datasets = root["attributes"]["ome"]["multiscales"][0]["datasets"]
        assert len(datasets) > 2
        for number, dataset in enumerate(datasets):
            scale, translation = (t[t["type"]] for t in dataset["coordinateTransformations"])
            meta = root["consolidated_metadata"]["metadata"][dataset["path"]]
            stored = StoredArray(sink, dataset["path"], meta)
            whole = stored[tuple(slice(0, n) for n in stored.shape)]
            index = [slice(None) if i == axis else 0 for i in range(3)]
            place = translation[axis] + scale[axis] * np.arange(stored.shape[axis])
            np.testing.assert_allclose(whole[tuple(index)], place, rtol=1e-6)
            np.testing.assert_allclose(coordinate(sink, f"s{number}/{'zyx'[axis]}"), place)
        assert [d["coordinateTransformations"][0]["scale"] for d in datasets[:3]] == [[40, 10, 10], [40, 20, 20], [40, 40, 40]]


def test_unknown_spacing_is_one_without_a_unit_and_counts_voxels() -> None:
    root, sink = document(np.ones((300, 280), "uint8"), Axis("y", 300), Axis("x", 280))
    block = root["attributes"]["ome"]["multiscales"][0]
    assert block["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    found = [[t[t["type"]] for t in d["coordinateTransformations"]] for d in block["datasets"]]
    assert found == [[[1, 1], [0, 0]], [[2, 2], [0.5, 0.5]], [[4, 4], [1.5, 1.5]]]
    assert root["attributes"]["emstore"]["voxel"]["spacing"] is None
    np.testing.assert_array_equal(coordinate(sink, "s0/y"), np.arange(300))
    np.testing.assert_array_equal(coordinate(sink, "s2/x"), 4 * np.arange(70) + 1.5)


def test_irregular_slices_keep_their_places() -> None:
    at = (0.0, 1.0, 2.0, 3.5, 4.5, 5.5)
    z = Axis("z", 6, unit="millimeter", positions=at)
    root, sink = document(np.ones((6, 20, 20), "int16"), z, *(Axis(n, 20, spacing=0.5, unit="millimeter") for n in "yx"))
    scale = root["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 0.5, 0.5]
    np.testing.assert_array_equal(coordinate(sink, "s0/z"), at)
    assert root["attributes"]["emstore"]["voxel"]["uniform"]["z"] is False


def windows(root: dict[str, Any]) -> list[dict[str, Any]]:
    return [channel["window"] for channel in root["attributes"]["ome"]["omero"]["channels"]]


def test_the_window_runs_from_the_1st_to_the_998th_permille() -> None:
    values = np.random.default_rng(0).permutation(np.arange(100 * 100)).reshape(100, 100).astype("uint16")
    (window,) = windows(document(values, Axis("y", 100), Axis("x", 100))[0])
    assert (window["min"], window["max"]) == (0, 65535)
    assert window["start"] == pytest.approx(99.99, abs=1)
    assert window["end"] == pytest.approx(9979, abs=1)


def test_windows_of_floats_gaps_constants_and_stated_ones() -> None:
    y, x = Axis("y", 50), Axis("x", 40)
    values = np.linspace(-1, 1, 2000).reshape(50, 40)
    values[0, 0] = np.nan
    (window,) = windows(document(values, y, x)[0])
    assert window["max"] == 1
    assert -1 < window["min"] < window["start"] < window["end"] < 1
    (window,) = windows(document(np.full((50, 40), np.nan), y, x)[0])
    assert window["start"] < window["end"]
    (window,) = windows(document(np.full((50, 40), 7, "uint8"), y, x)[0])
    assert (window["start"], window["end"]) == (7, 8)
    (window,) = windows(document(np.zeros((50, 40), "int16"), y, x, window=(-160.0, 240.0))[0])
    assert window == {"min": -32768, "max": 32767, "start": -160, "end": 240}


def test_channels_have_their_own_windows_and_colours() -> None:
    values = np.stack([np.full((40, 50), 10 * (i + 1), "uint8") for i in range(3)])
    y, x = Axis("y", 40), Axis("x", 50)
    stains, _ = document(values, Axis("c", 3, AxisKind.CHANNEL, labels=("DAPI", "GFP", "RFP")), y, x)
    channels = stains["attributes"]["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["DAPI", "GFP", "RFP"]
    assert [channel["window"]["start"] for channel in channels] == [10, 20, 30]
    rgb, _ = document(values, Axis("c", 3, AxisKind.CHANNEL, labels=("R", "G", "B")), y, x)
    channels = rgb["attributes"]["ome"]["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]
    assert all((channel["window"]["start"], channel["window"]["end"]) == (0, 255) for channel in channels)


def test_labels_say_so_and_show_no_window() -> None:
    root, _ = document(np.ones((40, 50), "uint32"), Axis("y", 40), Axis("x", 50), kind=VolumeKind.LABELS)
    assert "image-label" in root["attributes"]["ome"]
    assert "omero" not in root["attributes"]["ome"]


S, T, C, R = AxisKind.SPACE, AxisKind.TIME, AxisKind.CHANNEL, AxisKind.RECIPROCAL


@pytest.mark.parametrize(
    ("axes", "fits"),
    [
        ([("y", S), ("x", S)], True),
        ([("t", T), ("c", C), ("z", S), ("y", S), ("x", S)], True),
        ([("c", C), ("t", T), ("y", S), ("x", S)], False),
        ([("y", S), ("x", S), ("c", C)], False),
        ([("x", S)], False),
        ([("x", S), ("y", S)], False),
        ([("y", S), ("x", S), ("ky", R), ("kx", R)], False),
        ([("ky", R), ("kx", R)], False),
        ([("t", T), ("u", T), ("y", S), ("x", S)], False),
    ],
)
def test_only_axes_the_specification_allows(axes: list[tuple[str, AxisKind]], fits: bool) -> None:
    assert (ome_axes(Grid(tuple(Axis(name, 4, kind) for name, kind in axes))) is not None) is fits


def test_units_outside_the_specification_stay_out_of_ome_but_on_the_coordinates() -> None:
    root, sink = document(np.ones((4, 5), "uint8"), Axis("y", 4, spacing=2.0, unit="furlong"), Axis("x", 5, spacing=2.0, unit=NM))
    assert root["attributes"]["ome"]["multiscales"][0]["axes"][0] == {"name": "y", "type": "space"}
    assert json.loads(sink.objects["s0/y/zarr.json"])["attributes"] == {"units": "furlong"}


@pytest.mark.parametrize("name", ["image", "zarr.json", "a/b", "..", "", "__x"])
def test_axis_names_that_cannot_be_keys_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        metadata.check_axes(Grid((Axis(name, 3),)))
    assert caught.value.kind is Kind.BAD_NAME


def test_the_root_repeats_every_document_below_it() -> None:
    root, sink = document(np.ones((5, 6, 8, 8), "uint16"), Axis("y", 5), Axis("x", 6), Axis("ky", 8, R), Axis("kx", 8, R))
    assert "ome" not in root["attributes"]
    below = {key.removesuffix("/zarr.json"): json.loads(data) for key, data in sink.objects.items() if key.endswith("zarr.json")}
    assert root["consolidated_metadata"]["metadata"] == below
    assert below["virtual"]["attributes"]["ome"]["omero"]["channels"][0]["window"]["start"] == 64
