"""What the Zarr adapter makes of stores written by other programs: ngff-zarr, ome-zarr-py, xarray, zarr-python, tensorstore."""

import gzip
import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from zarr import codecs

from emstore.errors import Capacity, EmstoreError, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import AxisKind, Grid
from emstore.source import Source
from emstore.volume import ValueScale, Volume, VolumeKind
from emstore_adapters.zarr import ZarrAdapter
from whole import everything

VALUES = np.random.default_rng(9).integers(0, 60000, (12, 20, 30), dtype=np.uint16)


def read(path: Path, **options: bool) -> list[Volume]:
    with Source.of([path], **options) as source:
        return list(ZarrAdapter().open(source))


def sniff(path: Path) -> int:
    with Source.of([path]) as source:
        return ZarrAdapter().sniff(source.items[0])


def tensorstore_reads(path: Path, driver: str) -> Any:
    return tensorstore.open({"driver": driver, "kvstore": f"file://{path}/"}, read=True).result().read().result()


def multiscale(path: str = "0", axes: str = "zyx", **more: Any) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    return {"version": "0.4", "axes": described, "datasets": [{"path": path}], **more}


def image(path: Path, said: dict[str, Any], *, values: Any = VALUES, array: str = "0", **extra: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array(array, data=values, chunks=values.shape)
    group.attrs.update({"multiscales": [said], **extra})
    return path


# --- other programs' OME-Zarr --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngff_zarr(tmp_path: Path, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the other program's own business
        import ngff_zarr

        made = ngff_zarr.to_ngff_image(
            VALUES,
            dims=["z", "y", "x"],
            scale={"z": 10.0, "y": 5.0, "x": 4.0},
            translation={"z": 1.0, "y": -2.0, "x": 3.5},
            axes_units=dict.fromkeys("zyx", "nanometer"),
        )
        ngff_zarr.to_ngff_zarr(str(tmp_path / "a.ome.zarr"), ngff_zarr.to_multiscales(made, [2]), version=version)
    [volume] = read(tmp_path / "a.ome.zarr")
    assert [(a.name, a.spacing, a.origin, a.unit) for a in volume.grid.axes] == [
        ("z", 10.0, 1.0, "nanometer"),
        ("y", 5.0, -2.0, "nanometer"),
        ("x", 4.0, 3.5, "nanometer"),
    ]
    assert np.array_equal(everything(volume), VALUES)
    array = tmp_path / "a.ome.zarr" / str(volume.attributes["path"])
    assert np.array_equal(everything(volume), tensorstore_reads(array, "zarr" if version == "0.4" else "zarr3"))
    assert sniff(tmp_path / "a.ome.zarr") > 90
    assert version in volume.header.format


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_py_with_labels(tmp_path: Path, version: str) -> None:
    labels = (VALUES > 30000).astype(np.int32)
    path = tmp_path / "b.ome.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image, write_labels

        fmt = format_from_version(version)
        steps = {"z": 2.0, "y": 0.5, "x": 0.5}
        units = dict.fromkeys("zyx", "micrometer")
        shared: dict[str, Any] = {"axes": "zyx", "fmt": fmt, "scale_factors": [2], "scale": steps, "axes_units": units}
        group = zarr.open_group(path, mode="w", zarr_format=fmt.zarr_format)
        write_image(VALUES, group, **shared)
        write_labels(labels, group, name="cells", **shared)
    found = {volume.name: volume for volume in read(path)}
    [main, cells] = found.values()
    assert (main.kind, cells.kind, cells.name) == (VolumeKind.IMAGE, VolumeKind.LABELS, "labels/cells")
    assert np.array_equal(everything(main), VALUES)
    assert np.array_equal(everything(cells), labels)
    for volume in found.values():
        assert [axis.spacing for axis in volume.grid.axes] == [2.0, 0.5, 0.5]
        assert {axis.unit for axis in volume.grid.axes} == {"micrometer"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_xarray(tmp_path: Path, zarr_format: Any) -> None:
    height = np.cumsum(np.linspace(1, 2, 12))
    data = xr.Dataset(
        {"image": (("z", "y", "x"), VALUES, {"units": "K"}), "trace": (("time",), np.arange(7.0))},
        coords={
            "z": ("z", height, {"units": "nm"}),
            "y": ("y", np.arange(20, dtype=np.float32) * np.float32(0.1) + 3, {"units": "um"}),
            "time": ("time", np.arange(7) * 0.5, {"units": "s"}),
        },
    )
    path = tmp_path / "x.zarr"
    data.to_zarr(path, zarr_format=zarr_format, consolidated=False)
    first, second = read(path)
    z, y, x = first.grid.axes
    assert (z.unit, z.positions) == ("nanometer", tuple(height))
    assert (y.unit, y.spacing, y.origin) == ("micrometer", pytest.approx(0.1), pytest.approx(3))
    assert not x.known
    assert first.scale == ValueScale(1.0, 0.0, "kelvin")
    assert np.array_equal(everything(first), VALUES)
    assert (second.name, second.grid.axes[0].name, second.grid.axes[0].spacing) == ("trace", "t", 0.5)


# --- the rules of OME-Zarr -----------------------------------------------------------------------------------------


def test_transformations_are_applied_in_order(tmp_path: Path) -> None:
    level = [{"type": "scale", "scale": [2.0, 3.0, 4.0]}, {"type": "translation", "translation": [1.0, 1.0, 1.0]}]
    whole = [{"type": "scale", "scale": [10.0, 1.0, 0.5]}, {"type": "translation", "translation": [0.0, 5.0, 0.0]}]
    said = multiscale(datasets=[{"path": "0", "coordinateTransformations": level}], coordinateTransformations=whole)
    [volume] = read(image(tmp_path / "a.zarr", said))
    assert [(axis.spacing, axis.origin) for axis in volume.grid.axes] == [(20.0, 10.0), (3.0, 6.0), (2.0, 0.5)]
    assert {axis.unit for axis in volume.grid.axes} == {None}


@pytest.mark.parametrize("scale", [[1.0, 1.0, 1.0], [0.0, -0.0, float("nan")], None])
def test_placeholders_are_unknown(tmp_path: Path, scale: list[float] | None) -> None:
    steps = {} if scale is None else {"coordinateTransformations": [{"type": "scale", "scale": scale}]}
    [volume] = read(image(tmp_path / "a.zarr", multiscale(datasets=[{"path": "0", **steps}])))
    assert not any(axis.known for axis in volume.grid.axes)


def test_channels_and_window(tmp_path: Path) -> None:
    values = VALUES[:4].reshape(2, 2, 20, 30)
    channels = [{"label": name, "window": {"start": 5, "end": 250, "min": 0, "max": 255}} for name in ("red", "green")]
    [volume] = read(image(tmp_path / "a.zarr", multiscale(axes="tcyx"), values=values, omero={"channels": channels}))
    assert [axis.kind for axis in volume.grid.axes[:2]] == [AxisKind.TIME, AxisKind.CHANNEL]
    assert volume.grid.axes[1].labels == ("red", "green")
    assert volume.window == (5.0, 250.0)


def test_plates_and_series(tmp_path: Path) -> None:
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    wells = ["A/1", "B/2"]
    plate.attrs["plate"] = {"wells": [{"path": well} for well in wells]}
    for number, well in enumerate(wells):
        plate.create_group(well).attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
        for field in "01":
            image(tmp_path / "plate.zarr" / well / field, multiscale(), values=VALUES + number)
    found = read(tmp_path / "plate.zarr")
    assert [volume.name for volume in found] == ["A/1/0", "A/1/1", "B/2/0", "B/2/1"]
    assert np.array_equal(everything(found[2]), VALUES + 1)

    series = zarr.open_group(tmp_path / "series.zarr", mode="w", zarr_format=2)
    series.attrs["bioformats2raw.layout"] = 3
    for name in ("0", "1", "10", "2"):
        image(tmp_path / "series.zarr" / name, multiscale())
    assert [volume.name for volume in read(tmp_path / "series.zarr")] == ["0", "1", "2", "10"]


def test_emstore_grid_wins_where_it_is_there(tmp_path: Path) -> None:
    path = image(tmp_path / "a.zarr", multiscale())
    [plain] = read(path)
    exact = Grid(plain.grid.axes).to_json() | {"positions": {"z": [float(i * i) for i in range(12)]}}
    group = zarr.open_group(path, mode="r+")
    group.attrs["emstore"] = {"voxel": exact}
    [volume] = read(path)
    assert volume.grid.axes[0].positions == tuple(float(i * i) for i in range(12))


# --- plain arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_arrays_equal_tensorstore(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES, chunks=(5, 7, 11), zarr_format=zarr_format)
    [volume] = read(path)
    assert volume.data.block == (5, 7, 11)
    assert np.array_equal(everything(volume), tensorstore_reads(path, "zarr" if zarr_format == 2 else "zarr3"))
    assert not any(axis.known for axis in volume.grid.axes)
    assert volume.grid.dims == ("z", "y", "x")


def test_sharded_arrays_read_inner_chunks(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(4, 5, 6), shards=(12, 10, 30))
    [volume] = read(tmp_path / "a.zarr")
    assert volume.data.block == (4, 5, 6)
    assert np.array_equal(volume.data[3:9, 4:16, 1:29], VALUES[3:9, 4:16, 1:29])


def test_missing_chunks_are_the_fill_value_and_told(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 4), chunks=(2, 4), dtype="i2", fill_value=-7)
    array[:4] = 1
    [volume] = read(tmp_path / "a.zarr")
    assert volume.notes == ("2 of 4 chunks are not stored; they read as the fill value -7",)
    assert np.unique(everything(volume)).tolist() == [-7, 1]


def test_hyperspy_is_left_to_its_own_adapter(tmp_path: Path, instrument_file: Any) -> None:
    zarr.open_group(tmp_path / "a.zspy", mode="w").attrs["file_format"] = "ZSpy"
    assert sniff(tmp_path / "a.zspy") == 0
    assert sniff(instrument_file("stem/signal1d_10x10-NestedDirectoryStore.zspy")) == 0


# --- hostile and broken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../secret", "/etc", "0/../../secret", "a\\..\\b", "", "x" * 5000, "nowhere", 7, None])
def test_paths_may_not_leave_the_store(tmp_path: Path, path: Any) -> None:
    zarr.create_array(tmp_path / "secret", data=VALUES)
    with pytest.raises(SourceUnreadable):
        read(image(tmp_path / "a.zarr", multiscale(path)))


def test_links_may_not_leave_the_store(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "secret", data=VALUES[0], chunks=(20, 30), compressors=None)
    store = tmp_path / "a.zarr"
    zarr.create_array(store, data=VALUES[0], chunks=(20, 30), compressors=None)
    (store / "c/0/0").unlink()
    (store / "c/0/0").symlink_to(tmp_path / "secret/c/0/0")
    [volume] = read(store)
    with pytest.raises(SourceUnreadable, match="leads out of the store"):
        everything(volume)
    shutil.rmtree(store)
    image(store, multiscale("inner"), array="0")
    (store / "inner").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceUnreadable, match="leads out of the store"):
        read(store)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_unknown_codecs_are_named(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES, zarr_format=zarr_format)  # type: ignore[call-overload]
    file = path / (".zarray" if zarr_format == 2 else "zarr.json")
    document = json.loads(file.read_text())
    if zarr_format == 2:
        document["compressor"] = {"id": "secretzip"}
    else:
        document["codecs"][-1] = {"name": "secretzip", "configuration": {}}
    file.write_text(json.dumps(document))
    with pytest.raises(SourceUnreadable, match="secretzip") as caught:
        read(path)
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


def test_chunks_of_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES)
    document = json.loads((path / "zarr.json").read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = [0] * VALUES.ndim
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(SourceUnreadable):
        read(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES, zarr_format=2)
    document = json.loads((path / ".zarray").read_text())
    for change in ({"filters": [{"id": "pickle"}]}, {"dtype": "|O", "filters": [{"id": "pickle"}]}):
        (path / ".zarray").write_text(json.dumps({**document, **change}))
        with pytest.raises(SourceUnreadable, match="not safe"):
            read(path)


def test_oversized_chunks_and_bombs_are_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "big", shape=(1 << 20, 1 << 14), chunks=(1 << 20, 1 << 14), dtype="u1")
    with pytest.raises(Capacity, match="too large"):
        read(tmp_path / "big")
    bombs = {
        "gzip": lambda data: gzip.compress(data, 9),
        "zstd": numcodecs.Zstd(9).encode,
        "blosc": numcodecs.Blosc("zstd", 9).encode,
    }
    for name, pack in bombs.items():
        path = tmp_path / name
        compressor = {"name": name, "configuration": {} if name == "blosc" else {"level": 1}}
        zarr.create_array(path, data=VALUES[0], chunks=(20, 30), compressors=[compressor])
        (path / "c/0/0").write_bytes(bytes(pack(bytes(300 << 20))))
        [volume] = read(path)
        with pytest.raises(Capacity, match="unpacks to more"):
            everything(volume)


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "none"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_cut_chunks_are_an_error(tmp_path: Path, codec: str, zarr_format: Any) -> None:
    v2 = {"zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc(), "gzip": numcodecs.GZip(), "none": None}
    v3 = {"zstd": codecs.ZstdCodec(), "blosc": codecs.BloscCodec(), "gzip": codecs.GzipCodec(), "none": None}
    path = tmp_path / "a.zarr"
    zarr.create_array(
        path, data=VALUES[0], chunks=(20, 30), zarr_format=zarr_format, compressors=(v2 if zarr_format == 2 else v3)[codec]
    )
    chunk = path / ("0.0" if zarr_format == 2 else "c/0/0")
    whole = chunk.read_bytes()
    [volume] = read(path)
    assert np.array_equal(everything(volume), VALUES[0])
    for kept in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        chunk.write_bytes(whole[:kept])
        with pytest.raises(SourceUnreadable):
            everything(volume)
    chunk.write_bytes(b"")
    with pytest.raises(SourceIncomplete):
        everything(volume)


def test_damaged_documents_end_in_values_or_one_error(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=VALUES, chunks=(6, 10, 30))
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale()]}
    files = [path / "zarr.json", path / "0/zarr.json"]
    whole = {file: file.read_bytes() for file in files}
    chance = random.Random(3)
    junk: list[Any] = [None, -1, 0, 1 << 62, 1e308, "", "../..", [], {}, [[]], [{}], True, "x" * 9000, [1] * 40]
    outcomes = set()
    for turn in range(200):
        file = files[turn % 2]
        for other in files:
            other.write_bytes(whole[other])
        if turn % 4 < 2:
            damaged = bytearray(whole[file])
            for _ in range(1 + turn % 3):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            file.write_bytes(damaged)
        else:
            document = json.loads(whole[file])
            at: Any = document
            while True:  # walk to some place in the document and put junk there
                key = chance.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
                if isinstance(at[key], dict | list) and at[key] and chance.random() < 0.7:
                    at = at[key]
                    continue
                at[key] = chance.choice(junk)
                break
            file.write_text(json.dumps(document))
        try:
            for volume in read(path):
                volume.data[tuple(slice(0, min(n, 4)) for n in volume.shape)]
            outcomes.add("read")
        except EmstoreError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
