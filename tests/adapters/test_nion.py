"""What the Nion adapter makes of data items, on files built byte by byte after Nion Swift's published layout."""

import binascii
import io
import json
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from emstore.errors import EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.geometry import AxisKind
from emstore.source import Source
from emstore.volume import ValueScale, Volume
from emstore_adapters.nion import NionAdapter
from whole import everything


def swift_zip(path: Path, values: npt.NDArray[Any] | None, properties: dict[str, Any]) -> Path:
    """Write a .ndata file the way Swift does: two stored members, local headers with DOS fields, one directory."""
    members: list[tuple[bytes, bytes]] = []
    if values is not None:
        buffer = io.BytesIO()
        np.save(buffer, values)
        members.append((b"data.npy", buffer.getvalue()))
    members.append((b"metadata.json", json.dumps(properties).encode("latin-1")))
    body, directory = b"", b""
    for name, data in members:
        facts = struct.pack("<HHHHHLLLHH", 10, 0, 0, 0, 0x5821, binascii.crc32(data), len(data), len(data), len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 10) + facts + struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name
        body += b"PK\x03\x04" + facts + name + data
    end = struct.pack("<HHHHLLH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


def step(scale: float, units: str, offset: float = 0.0) -> dict[str, Any]:
    return {"scale": scale, "offset": offset, "units": units}


def about(sequence: bool, scan: int, datum: int, steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "is_sequence": sequence,
        "collection_dimension_count": scan,
        "datum_dimension_count": datum,
        "dimensional_calibrations": steps,
        **more,
    }


def read(path: Path, **options: bool) -> list[Volume]:
    with Source.of([path], **options) as source:
        return list(NionAdapter().open(source))


NM, RAD, EV = step(0.5, "nm", -3.0), step(0.002, "rad", -0.1), step(0.25, "eV", -20.0)


@pytest.mark.parametrize(
    ("shape", "properties", "dims", "kinds"),
    [
        ((4, 5), about(False, 0, 2, [NM, NM]), "y x", "space space"),
        ((3, 4, 5), about(True, 0, 2, [step(1, ""), NM, NM]), "t y x", "time space space"),
        ((3, 4, 5, 6), about(False, 2, 2, [NM, NM, RAD, RAD]), "y x ky kx", "space space reciprocal reciprocal"),
        (
            (2, 3, 4, 5, 6),
            about(True, 2, 2, [step(1, ""), NM, NM, RAD, RAD]),
            "t y x ky kx",
            "time space space reciprocal reciprocal",
        ),
        ((3, 4, 64), about(False, 2, 1, [NM, NM, EV]), "y x energy", "space space spectral"),
        ((64,), about(False, 0, 1, [EV]), "energy", "spectral"),
        ((8, 64), about(False, 0, 2, [RAD, EV]), "ky energy", "reciprocal spectral"),
        ((4, 5), about(False, 0, 2, [RAD, RAD]), "ky kx", "reciprocal reciprocal"),
    ],
)
def test_axes(tmp_path: Path, shape: tuple[int, ...], properties: dict[str, Any], dims: str, kinds: str) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    [volume] = read(swift_zip(tmp_path / "item.ndata", values, properties))
    assert volume.grid.dims == tuple(dims.split())
    assert [str(axis.kind) for axis in volume.grid.axes] == kinds.split()
    assert np.array_equal(everything(volume), values)
    names = {"nm": "nanometer", "rad": "radian", "eV": "electronvolt", "": None}
    for axis, said in zip(volume.grid.axes, properties["dimensional_calibrations"], strict=True):
        assert axis.unit == names[said["units"]]
        assert axis.spacing == (said["scale"] if said["units"] else None)
        assert axis.origin == (said["offset"] if said["units"] else 0.0)


def test_zip_h5_and_nhdf_hold_the_same(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    properties = about(True, 0, 2, [step(0.1, "s"), NM, NM], intensity_calibration=step(2.0, "counts", 5.0), title="HAADF")
    with h5py.File(tmp_path / "item.h5", "w") as file:
        file["data"] = values
        file["data"].attrs["properties"] = json.dumps(properties)
    with h5py.File(tmp_path / "item.nhdf", "w") as file:
        for key in "01":
            file[f"data/{key}"] = values
            file[f"data/{key}"].attrs["properties"] = json.dumps(properties)
        file.create_group("index").attrs["1"] = "{}"
    swift_zip(tmp_path / "item.ndata", values, properties)
    found = [volume for name in ("item.ndata", "item.h5", "item.nhdf") for volume in read(tmp_path / name)]
    assert [volume.name for volume in found] == ["item", "item", "item/0", "item/1"]
    for volume in found:
        assert np.array_equal(everything(volume), values)
        assert volume.grid == found[0].grid
        assert volume.scale == ValueScale(2.0, 5.0, "counts")
        assert volume.attributes["title"] == "HAADF"
        assert json.loads(volume.header.raw[0].read()) == properties
    for name in ("item.ndata", "item.h5", "item.nhdf"):
        with Source.of([tmp_path / name]) as source:
            assert NionAdapter().sniff(source.items[0]) > 90


def test_instrument_terms(tmp_path: Path) -> None:
    metadata = {
        "instrument": {"high_tension": 60000.0, "defocus": -2e-8, "ImageScanned": {"StageOutX": 1e-6, "StageOutA": 0.1}},
        "hardware_source": {"pixel_time_us": 16.0, "exposure": float("nan")},
        "scan": {"scan_id": "a"},
    }
    [volume] = read(swift_zip(tmp_path / "item.ndata", np.ones((4, 5)), about(False, 0, 2, [NM, NM], metadata=metadata)))
    assert volume.header.terms == {
        "instrument/ebeam_column/electron_source/voltage": {"value": 60000.0, "unit": "volt"},
        "instrument/optics/defocus": {"value": -2e-8, "unit": "meter"},
        "instrument/stage/position/x": {"value": 1e-6, "unit": "meter"},
        "instrument/stage/tilt1": {"value": 0.1, "unit": "radian"},
        "instrument/scan_controller/dwell_time": {"value": 16.0, "unit": "microsecond"},
    }
    assert volume.modality == "stem"


def test_colours_and_older_libraries(tmp_path: Path) -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    old = {"version": 11, "data_source": about(False, 0, 2, [NM, NM])}
    [volume] = read(swift_zip(tmp_path / "colour.ndata", picture, old))
    assert volume.grid.dims == ("c", "y", "x")
    assert volume.grid.axes[0].kind is AxisKind.CHANNEL
    assert volume.grid.axes[2].spacing == 0.5
    assert np.array_equal(everything(volume), np.moveaxis(picture, -1, 0))
    exported = {"spatial_calibrations": [NM, NM], "collection_dimension_count": 0, "datum_dimension_count": 2}
    [volume] = read(swift_zip(tmp_path / "export.ndata1", picture[..., 0].astype(np.int64), exported))
    assert [axis.spacing for axis in volume.grid.axes] == [0.5, 0.5]


def test_packed_members_are_read_without_unpacking_the_file(tmp_path: Path) -> None:
    values = np.asfortranarray(np.random.default_rng(1).integers(0, 9, (7, 6, 5), dtype=np.int32))
    buffer = io.BytesIO()
    np.save(buffer, values)
    with zipfile.ZipFile(tmp_path / "packed.ndata1", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps(about(True, 0, 2, [NM, NM, NM])))
        archive.writestr("data.npy", buffer.getvalue())
    [volume] = read(tmp_path / "packed.ndata1")
    assert np.array_equal(volume.data[2:5, 1:6, 0:3], values[2:5, 1:6, 0:3])
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed.ndata1"]


def test_library_folder(tmp_path: Path) -> None:
    folder = tmp_path / "Lab Data" / "2026" / "01"
    folder.mkdir(parents=True)
    (tmp_path / "Lab.nsproj").write_text('{"version": 3}')
    swift_zip(folder / "data_1.ndata", np.ones((4, 5)), about(False, 0, 2, [NM, NM]))
    with h5py.File(folder / "data_2.h5", "w") as file:
        file["data"] = np.zeros((0,))
        file["data"].attrs["properties"] = "{}"
    with Source.of([tmp_path]) as source:
        known = [item for item in source.items if NionAdapter().sniff(item) > 0]
        assert [item.path.name for item in known] == ["data_1.ndata", "data_2.h5"]
        part = source.subset(known)
        assert [volume.name for volume in NionAdapter().open(part)] == ["data_1"]
        assert any(entry.name.endswith("data_2.h5") for entry in part.ignored)


def test_cut_off_item_says_which_frames_are_good(tmp_path: Path) -> None:
    values = np.random.default_rng(2).random((10, 32, 32))
    path = swift_zip(tmp_path / "item.ndata", values, about(True, 0, 2, [step(1, "s"), NM, NM]))
    os.truncate(path, 128 + 38 + 32 * 32 * 8 * 6 + 5000)
    with pytest.raises(SourceIncomplete, match=r"6 of 10"):
        read(path)
    [part] = read(path, allow_partial=True)
    assert np.array_equal(everything(part), values[:6])
    assert "calibrations are lost" in part.notes[0]


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("a pickle was loaded",))

    path = swift_zip(tmp_path / "item.ndata", np.array([Bomb(), Bomb()], dtype=object), about(False, 0, 1, [NM]))
    with pytest.raises(SourceUnreadable, match="not an array of numbers"):
        read(path)


def test_damaged_items_end_in_values_or_one_error(tmp_path: Path) -> None:
    whole = swift_zip(tmp_path / "a.ndata", np.ones((3, 8, 8)), about(True, 0, 2, [NM, NM, NM])).read_bytes()
    chance = random.Random(5)
    outcomes = set()
    for turn in range(200):
        damaged = bytearray(whole)
        for _ in range(1 + turn % 3):
            damaged[chance.choice([chance.randrange(170), chance.randrange(len(damaged))])] ^= 1 << chance.randrange(8)
        path = tmp_path / "b.ndata"
        path.write_bytes(damaged[: chance.randrange(30, len(damaged))] if turn % 4 == 0 else damaged)
        try:
            for volume in read(path):
                if volume.nbytes < 1 << 20:
                    everything(volume)
            outcomes.add("read")
        except EmstoreError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
