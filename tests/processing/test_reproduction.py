"""Making versions again: the same where nothing changed, and every planted difference by name and size."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

import emstore
from emstore.comparison import different
from emstore.errors import InvalidInput, Kind, NotFound
from emstore.events import Started
from emstore.geometry import Axis
from emstore.provenance.record import Record
from emstore.store import Transaction, Version, begin, digest, load, plan_version, resolve, seal_table, seal_volume
from emstore.store.plan import same_plan
from emstore.table import Table
from emstore.volume import MemoryArray
from sealed import seal, volume

VALUES = np.random.default_rng(5).integers(0, 1000, (20, 40, 40)).astype(np.int16)


@pytest.fixture
def scan(lab: str) -> str:
    axes = [Axis(name, size, spacing=2.0, unit="nanometer") for name, size in zip("zyx", VALUES.shape, strict=True)]
    return seal(volume("scan", VALUES, *axes), f"{lab}/em/scan").ref


def forged(version: Version, values: npt.NDArray[Any] | None = None, table: Table | None = None, **changes: Any) -> str:
    """Seal other content with a version's Record, as its next one, and return its reference."""
    store, place = resolve(version.ref.rpartition("/")[0])
    held = begin(store.backend, place, settings=digest(uuid.uuid4().bytes), task="forge", store_id=store.id)
    assert isinstance(held, Transaction)
    record = Record.model_validate({**version.record.model_dump(), **changes})
    if table is not None:
        seal_table(held, table, lambda: record)
    else:
        assert values is not None
        content = replace(version.volume(), data=MemoryArray(values))
        plan = same_plan(content, version.record.params["plan"])
        assert plan is not None
        seal_volume(held, content, plan, lambda: record)
    return load(store, held.place).ref


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("denoise.gaussian", {"sigma": [0.5, 1.0, 2.0]}),
        ("interpolate.cubic", {"factor": 3}),
        ("segment.otsu", {}),
        ("measure.statistics", {}),
        ("transform.crop", {"index": {"z": [2, 9]}}),
    ],
)
def test_what_was_processed_comes_out_the_same(lab: str, scan: str, name: str, params: dict[str, Any]) -> None:
    made = emstore.process(name, [scan], f"{lab}/em/made", params=params).version
    found = emstore.reproduce(made.ref)
    assert found.identical, found.differences
    assert found.changes == ()
    assert found.version.id == made.id


@pytest.mark.parametrize("pyramid", [True, False])
def test_the_layout_is_that_of_the_record_whatever_the_memory(lab: str, scan: str, pyramid: bool) -> None:
    made = emstore.process("denoise.median", [scan], f"{lab}/em/flat", pyramid=pyramid).version
    assert emstore.reproduce(made.ref, memory=2 << 30).identical
    # Of a large volume the layout depends on the memory; the Record does not hold that, but tells the layout.
    shape = (2000, 2000, 2000)
    large = volume("large", np.broadcast_to(np.zeros((), "u2"), shape), *[Axis(n, 2000) for n in "zyx"])
    plans = [plan_version(large, memory=memory << 20, pyramid=pyramid) for memory in (400, 4000)]
    assert plans[0].to_json() != plans[1].to_json()
    for plan in plans:
        again = same_plan(large, json.loads(json.dumps(plan.to_json())))
        assert again is not None
        assert again.to_json() == plan.to_json()


def test_a_changed_voxel_is_found_in_its_shard_with_its_size(lab: str, scan: str, small_shards: None) -> None:
    made = emstore.process("denoise.gaussian", [scan], f"{lab}/em/made", params={"dtype": "float64"}, pyramid=False).version
    values = made.xarray()["image"].values.copy()
    values[17, 33, 2] += 0.25
    values[17, 33, 3] -= 0.5
    found = emstore.reproduce(forged(made, values))
    assert not found.identical
    [difference] = found.differences
    assert difference.what == "s0"
    assert difference.objects == ("s0/image/c/1/2/0",)
    assert difference.values == 2
    assert difference.largest == pytest.approx(0.5)


def test_a_changed_cell_of_a_table_is_found_in_its_column(lab: str, scan: str) -> None:
    made = emstore.process("measure.statistics", [scan], f"{lab}/em/figures").version
    table = made.table()
    values = table.columns["mean"].values.copy()
    values[3] += 2.0
    columns = {**table.columns, "mean": replace(table.columns["mean"], values=values)}
    [difference] = emstore.reproduce(forged(made, table=replace(table, columns=columns))).differences
    assert (difference.what, difference.values) == ("column mean", 1)
    assert difference.largest == pytest.approx(2.0)
    summary = {**table.summary, "count": 7}
    [said] = emstore.reproduce(forged(made, table=replace(table, summary=summary))).differences
    assert said.what == "attributes"


def test_changes_of_the_environment_are_named(lab: str, scan: str) -> None:
    made = emstore.process("denoise.median", [scan], f"{lab}/em/made").version
    environment = {**made.record.environment.model_dump(), "python": "3.9.1", "lock": f"blake3:{'0' * 64}"}
    params = {**made.record.params, "processor_version": "0"}
    found = emstore.reproduce(forged(made, made.xarray()["image"].values, environment=environment, params=params))
    assert found.identical
    changed = {change.what: change.then for change in found.changes}
    assert changed == {"python": "3.9.1", "installed packages": f"blake3:{'0' * 64}", "processor denoise.median": "version 0"}


def test_inputs_are_found_by_id_in_stores_that_are_named(lab: str, scan: str, tmp_path: Path) -> None:
    other = emstore.create_store(str(tmp_path / "other.zarr")).url
    made = emstore.process("denoise.median", [scan], f"{other}/em/made").version
    shutil.move(lab, tmp_path / "moved.zarr")
    with pytest.raises(NotFound, match="em/scan/v1") as caught:
        emstore.reproduce(made.ref)
    assert "--store" in str(caught.value)
    assert emstore.reproduce(made.ref, stores=[str(tmp_path / "moved.zarr")]).identical
    # Another version at the cited place is not taken for it.
    elsewhere = emstore.create_store(str(tmp_path / "decoy.zarr")).url
    seal(volume("scan", VALUES + 1, *[Axis(n, s) for n, s in zip("zyx", VALUES.shape, strict=True)]), f"{elsewhere}/em/scan")
    with pytest.raises(NotFound):
        emstore.reproduce(made.ref, stores=[elsewhere])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    image = nibabel.Nifti1Image(VALUES.T, np.diag([0.5, 0.5, 0.75, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


def test_what_was_ingested_comes_out_the_same(lab: str, file: Path) -> None:
    [done] = emstore.ingest([file], f"{lab}/mr/scan", memory=400 << 20)
    found = emstore.reproduce(done.version.ref, [file])
    assert found.identical, found.differences
    with pytest.raises(InvalidInput, match=r"scan\.nii"):
        emstore.reproduce(done.version.ref)


def test_another_file_is_refused_before_it_is_read(lab: str, file: Path, tmp_path: Path) -> None:
    [done] = emstore.ingest([file], f"{lab}/mr/scan")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="content differs") as caught:
        emstore.reproduce(done.version.ref, [file])
    assert caught.value.kind is Kind.SOURCE_CHANGED


def test_a_spacing_given_by_hand_is_given_again(lab: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made["image"] = VALUES
    [done] = emstore.ingest([tmp_path / "a.h5"], f"{lab}/em/h5", spacing=[10.123456789, 5, 5], unit="nm")
    found = emstore.reproduce(done.version.ref, [tmp_path / "a.h5"])
    assert found.identical, found.differences


def test_what_cannot_be_made_again(lab: str, scan: str, file: Path) -> None:
    with pytest.raises(InvalidInput, match="'import'"):
        emstore.reproduce(scan)
    made = emstore.process("denoise.median", [scan], f"{lab}/em/made").version
    with pytest.raises(InvalidInput, match="not from files"):
        emstore.reproduce(made.ref, [file])


def test_nothing_is_left_in_the_temporary_folder(lab: str, scan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    made = emstore.process("denoise.median", [scan], f"{lab}/em/made").version
    assert emstore.reproduce(made.ref).identical
    assert list(room.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_by_the_next(
    lab: str, scan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = emstore.process("denoise.median", [scan], f"{lab}/em/made").version
    room = tmp_path / "room"
    room.mkdir()
    code = f"import emstore, os; emstore.reproduce({made.ref!r}, listener=lambda event: os.kill(os.getpid(), 9))"
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(room)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = room.iterdir()
    assert (left / "again.zarr/zarr.json").is_file()
    somebodys = room / f"{left.name}-notes"
    somebodys.mkdir()
    (somebodys / "notes.txt").write_text("mine")

    monkeypatch.setattr("tempfile.tempdir", str(room))
    seen = []

    def meanwhile(event: Any) -> None:
        if isinstance(event, Started) and not seen:
            seen.append(True)
            before = set(room.iterdir())
            assert left not in before
            assert emstore.reproduce(made.ref).identical
            assert set(room.iterdir()) == before, "the folder of a run that is at work was cleared"

    assert emstore.reproduce(made.ref, listener=meanwhile).identical
    assert seen
    assert list(room.iterdir()) == [somebodys]


@pytest.mark.parametrize(
    ("one", "other", "count", "largest"),
    [
        (np.array([1, -128, 127], "i1"), np.array([1, 127, -128], "i1"), 2, 255.0),
        (np.array([0, 2**64 - 1], "u8"), np.array([0, 0], "u8"), 1, float(2**64 - 1)),
        (np.array([0.0, np.nan, np.nan]), np.array([-0.0, np.nan, 1.0]), 2, 0.0),
        (np.array([np.inf, 1.0]), np.array([-np.inf, 1.5]), 2, 0.5),
        (np.array([1 + 1j, 2]), np.array([1 - 1j, 2]), 1, 2.0),
        (np.array([True, False]), np.array([True, True]), 1, None),
        (np.array(["a", "b"]), np.array(["a", "c"]), 1, None),
        (np.array([1.5], "f2"), np.array([1.5], "f2"), 0, None),
    ],
)
def test_differences_are_counted_and_measured(
    one: npt.NDArray[Any], other: npt.NDArray[Any], count: int, largest: float | None
) -> None:
    assert different(one, other) == (count, largest)
    assert different(one, one) == (0, None)
