"""The rules of ingest: what is taken, what is refused, what the Record says."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile

import emstore
from emstore.errors import Interrupted, InvalidInput, Kind, NotFound, SourceUnreadable
from emstore.events import Advanced, Event, Finished, Noted, Started
from emstore.inspection import inspect_each
from emstore.store import Place, State, open_store, verify, versions


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = str(tmp_path / "lab.zarr")
    emstore.create_store(url)
    return url


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    folder = tmp_path / "slices"
    folder.mkdir()
    for k in range(12):
        tifffile.imwrite(folder / f"slice{k}.tif", np.full((40, 50), k, "u1"))
    return folder


def states(store: str) -> list[State]:
    return [v.state for v in versions(open_store(store), Place())]


def test_slices_come_in_natural_order_with_the_spacing_given(store: str, slices: Path) -> None:
    [made] = emstore.ingest([slices], f"{store}/lab/raw", spacing=[10, 5, 5], unit="nm")
    data = made.version.xarray()["image"]
    assert data[:, 0, 0].values.tolist() == list(range(12))
    assert data.z.values.tolist() == [10.0 * k for k in range(12)]
    assert data.z.attrs["units"] == "nanometer"
    assert any("by hand" in note for note in made.version.record.notes)
    assert [s.name for s in made.version.record.sources] == [f"slice{k}.tif" for k in range(12)]


@pytest.mark.parametrize("packing", [None, "zlib"])
@pytest.mark.parametrize("written", ["scan.tif", "../slices/scan.tif", "linked.tif", "../linked/scan.tif"])
def test_a_path_may_be_written_in_any_way(
    store: str, tmp_path: Path, slices: Path, monkeypatch: pytest.MonkeyPatch, packing: str | None, written: str
) -> None:
    """The library that reads the file may name it in another way."""
    tifffile.imwrite(slices / "scan.tif", np.full((40, 50), 7, "u1"), compression=packing)
    (slices / "linked.tif").symlink_to(slices / "scan.tif")
    (tmp_path / "linked").symlink_to(slices)
    monkeypatch.chdir(slices)
    [made] = emstore.ingest([written], f"{store}/lab/raw")
    assert (made.version.array()[:, :] == 7).all()
    assert len(made.version.record.sources) == 1
    assert made.version.record.skipped == ()


def test_unknown_spacing_stays_unknown(store: str, slices: Path) -> None:
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    assert made.version.info.voxel["spacing"] is None
    axes = made.version.document["attributes"]["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"spacing": [1, 1, 1]}, Kind.BAD_UNIT),
        ({"unit": "nm"}, Kind.BAD_UNIT),
        ({"spacing": [1, 1], "unit": "nm"}, Kind.BAD_SPACING),
        ({"spacing": [1, 0, 1], "unit": "nm"}, Kind.BAD_SPACING),
        ({"spacing": [1, -1, 1], "unit": "nm"}, Kind.BAD_SPACING),
        ({"spacing": [1, 1, float("nan")], "unit": "nm"}, Kind.BAD_SPACING),
        ({"spacing": [1, 1, 1], "unit": "s"}, Kind.BAD_UNIT),
        ({"spacing": [1, 1, 1], "unit": "parsec"}, Kind.BAD_UNIT),
        ({"select": "raw", "take_all": True}, Kind.INVALID_INPUT),
        ({"select": "nothing"}, Kind.NOT_FOUND),
        ({"adapter": "nothing"}, Kind.NOT_FOUND),
    ],
)
def test_a_wrong_request_writes_nothing(store: str, slices: Path, options: dict[str, object], kind: Kind) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        emstore.ingest([slices], f"{store}/lab/raw", **options)  # type: ignore[arg-type]
    assert caught.value.kind is kind
    assert states(store) == []


@pytest.mark.parametrize("target", ["", "lab", "lab/raw/v1", "lab/raw/deeper", "Lab/raw", "lab/../raw", "lab/zarr.json", "c/raw"])
def test_a_wrong_target_is_refused(store: str, slices: Path, target: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        emstore.ingest([slices], f"{store}/{target}")
    assert states(store) == []


def test_what_is_not_a_store_is_said_so(tmp_path: Path, slices: Path) -> None:
    with pytest.raises(NotFound, match="store"):
        emstore.ingest([slices], f"{tmp_path}/nowhere/lab/raw")


def test_the_same_again_returns_the_version_that_is_there(store: str, slices: Path) -> None:
    [first] = emstore.ingest([slices], f"{store}/lab/raw")
    [again] = emstore.ingest([slices], f"{store}/lab/raw")
    assert first.created
    assert not again.created
    assert again.version.id == first.version.id
    tifffile.imwrite(slices / "slice3.tif", np.full((40, 50), 99, "u1"))
    [changed] = emstore.ingest([slices], f"{store}/lab/raw")
    assert changed.created
    assert changed.version.place.version == 2


def test_a_slice_that_cannot_be_read_fails_unless_allowed_and_then_is_on_record(store: str, slices: Path) -> None:
    (slices / "slice4.tif").write_bytes(b"not a TIFF at all")
    with pytest.raises(SourceUnreadable) as caught:
        emstore.ingest([slices], f"{store}/lab/raw")
    assert "slice4.tif" in str(caught.value)
    assert states(store) == []
    [made] = emstore.ingest([slices], f"{store}/lab/raw", allow_partial=True)
    assert made.version.info.volume.shape == (11, 40, 50)
    assert [left.name for left in made.version.record.skipped] == ["slice4.tif"]
    assert "slice4.tif" not in [s.name for s in made.version.record.sources]


def test_notes_beside_the_data_are_ignored_by_name(store: str, slices: Path) -> None:
    (slices / "notes.txt").write_text("beam was nice today")
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    assert [left.name for left in made.version.record.ignored] == ["notes.txt"]


def test_several_data_sets_must_be_chosen_from(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, value in [("one", 1), ("two", 2)]:
        nib.save(nib.Nifti1Image(np.full((4, 5, 6), value, "i2"), np.eye(4)), folder / f"{name}.nii")
    with pytest.raises(InvalidInput) as caught:
        emstore.ingest([folder], f"{store}/lab/raw")
    assert caught.value.kind is Kind.AMBIGUOUS_SOURCE
    assert states(store) == []
    [second] = emstore.ingest([folder], f"{store}/lab/second", select="2")
    assert (second.version.xarray()["image"] == 2).all()
    both = emstore.ingest([folder], f"{store}/lab/raw", take_all=True)
    assert len({made.version.place.array for made in both}) == 2
    assert [int(made.version.xarray()["image"][0, 0, 0]) for made in both] == [1, 2]


@pytest.mark.parametrize("array", ["a", "fibsem-lamella-2024-03-01-grid4-square7-autotem-session-b-run3", "n" * 64])
@pytest.mark.parametrize(
    "signals",
    [
        ["HAADF", "BF", "DF4"],
        ["EDS spectrum image Fe K alpha, background removed, run 12", "EDS spectrum image O K alpha, background removed, run 12"],
        [f"a signal with a quite long name that differs in its number alone {k}" for k in range(4)],
        [f"{k} a signal with a quite long name that differs in its first character alone" for k in range(3)],
    ],
)
def test_names_of_many_signals_stay_telling(store: str, tmp_path: Path, array: str, signals: list[str]) -> None:
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for k, signal in enumerate(signals):
            file[signal] = np.full((4, 5, 6), k, "u1")
    made = emstore.ingest([tmp_path / "many.h5"], f"{store}/lab/{array}", take_all=True)
    names = [str(one.version.place.array) for one in made]
    assert len(set(names)) == len(signals)
    assert max(map(len, names)) <= 64
    for one, name in zip(made, names, strict=True):
        signal = signals[int(one.version.array()[:1, :1, :1][0, 0, 0])]
        own, *others = (re.findall("[a-z0-9]+", x.lower()) for x in (signal, *(x for x in signals if x != signal)))
        apart = set(own).difference(*others)
        assert apart
        assert name.startswith(array[:12])
        assert apart <= set(name.split("-"))
        assert len(set(own) & set(name.split("-"))) >= min(3, len(own))


def test_files_of_different_formats_are_not_mixed(store: str, slices: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), "i2"), np.eye(4)), slices / "scan.nii")
    with pytest.raises(InvalidInput) as caught:
        emstore.ingest([slices], f"{store}/lab/raw")
    assert caught.value.kind is Kind.AMBIGUOUS_SOURCE
    assert "scan.nii" in str(caught.value)


def test_a_source_that_changes_while_it_is_read_is_given_up(store: str, slices: Path) -> None:
    def touch(event: Event) -> None:
        if isinstance(event, Advanced):
            os.utime(slices / "slice1.tif", ns=(1, 1))

    with pytest.raises(SourceUnreadable) as caught:
        emstore.ingest([slices], f"{store}/lab/raw", listener=touch)
    assert caught.value.kind is Kind.SOURCE_CHANGED
    assert states(store) == [State.ABORTED]
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    assert made.version.place.version == 2


def test_ctrl_c_is_clean_and_the_same_call_resumes(store: str, slices: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        emstore.ingest([slices], f"{store}/lab/raw", listener=stop)
    assert states(store) == [State.UNFINISHED]
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    assert made.created
    assert made.version.place.version == 1
    assert all(v.ok for v in verify(open_store(store), Place(), data=True))


def test_listeners_hear_of_all_bytes(store: str, slices: Path) -> None:
    heard: list[Event] = []
    [made] = emstore.ingest([slices], f"{store}/lab/raw", listener=heard.append)
    assert isinstance(heard[0], Started)
    assert sum(e.done for e in heard if isinstance(e, Advanced)) == heard[0].total == 12 * 40 * 50
    assert heard[-1] == Finished(made.version.ref, made.version.id)


def test_inspect_copies_nothing(store: str, slices: Path) -> None:
    with emstore.inspect([slices]) as found:
        assert found.adapter == "tiff"
        assert [v.shape for v in found.volumes] == [(12, 40, 50)]
        assert found.default == 0
    assert states(store) == []


def test_the_record_names_no_place_and_no_person(store: str, slices: Path, tmp_path: Path) -> None:
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    folder = tmp_path / "lab.zarr" / "lab" / "raw" / "v1"
    written = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name.endswith(".json"))
    import getpass
    import socket

    for secret in {str(tmp_path), socket.gethostname(), getpass.getuser(), str(Path.home())} - {"", "/"}:
        assert f'"{secret}'.encode() not in written
        assert f"{secret}/".encode() not in written
    assert made.version.record.agent.name == "emstore"


def test_a_store_may_move(store: str, slices: Path, tmp_path: Path) -> None:
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    moved = shutil.move(store, tmp_path / "moved elsewhere.zarr")
    version = emstore.open(f"{moved}/lab/raw")
    assert version.id == made.version.id
    assert all(v.ok for v in verify(open_store(str(moved)), Place(), data=True))


def test_original_headers_come_back_byte_for_byte(store: str, instrument_file: Callable[[str], Path]) -> None:
    file = instrument_file("mri_nifti/anatomical.nii")
    [made] = emstore.ingest([file], f"{store}/lab/raw")
    [(name, raw)] = made.version.source().items()
    assert raw == file.read_bytes()[: len(raw)]
    assert len(raw) == 352
    assert name.startswith("anatomical.nii")
    assert json.dumps(made.version.header_tree())


def test_what_was_left_out_is_told_at_once(store: str, slices: Path) -> None:
    (slices / "slice7.tif").write_bytes(b"no tiff")
    with pytest.raises(SourceUnreadable, match="content does not") as caught:
        emstore.ingest([slices], f"{store}/lab/raw")
    assert "--allow-partial" in str(caught.value.fix)
    heard: list[Event] = []
    [made] = emstore.ingest([slices], f"{store}/lab/raw", allow_partial=True, listener=heard.append)
    assert [left.name for left in made.version.record.skipped] == ["slice7.tif"]
    assert any(isinstance(e, Noted) and "left out slice7.tif" in e.message for e in heard)


def test_an_adapters_own_refusal_names_the_way_on(store: str, slices: Path) -> None:
    tifffile.imwrite(slices / "slice7.tif", np.zeros((40, 51), "u1"))
    with pytest.raises(SourceUnreadable) as caught:
        emstore.ingest([slices], f"{store}/lab/raw")
    assert "--allow-partial" in str(caught.value.fix)


def test_companions_that_were_read_are_not_called_ignored(store: str, instrument_file: Callable[[str], Path]) -> None:
    folder = instrument_file("stem/mrc_de/20241021_00405_movie.mrc").parent
    with emstore.inspect([folder / "20241021_00405_movie.mrc", folder / "20241021_00405_info.txt", folder / "info.txt"]) as found:
        assert [left.name for left in found.ignored] == ["info.txt"]
    assert folder / "20241021_00405_info.txt" in found.volumes[0].files


def test_a_mixture_is_inspected_kind_by_kind_and_ingested_one_at_a_time(store: str, slices: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), slices / "head.nii")
    with inspect_each([slices]) as found:
        assert [(one.adapter, len(one.volumes)) for one in found] == [("nifti", 1), ("tiff", 1)]
    with pytest.raises(InvalidInput, match=r"nifti: 1 file, e\.g\. head\.nii; tiff: 12 files") as caught:
        emstore.ingest([slices], f"{store}/lab/raw")
    assert caught.value.kind is Kind.AMBIGUOUS_SOURCE


def test_a_zipped_zarr_store_says_what_to_do(store: str, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "image.zarr"), "zip", store)
    with pytest.raises(SourceUnreadable, match="zipped Zarr") as caught:
        emstore.ingest([packed], f"{store}/lab/raw")
    assert "unzip it first" in str(caught.value.fix)
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


def test_signals_of_several_files_have_names_of_their_own(store: str, tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        for name in ("scan.h5", f"only{value}.h5"):
            with h5py.File(tmp_path / "scans" / folder / name, "w") as file:
                file["data"] = np.full((3, 4, 5), value, np.int16)
    with emstore.inspect([tmp_path / "scans"]) as found:
        assert [volume.name for volume in found.volumes] == ["only1 data", "scan data", "only2 data", "scan data 2"]
    [made] = emstore.ingest([tmp_path / "scans"], f"{store}/lab/raw", select="scan data 2")
    assert (made.version.xarray()["image"].values == 2).all()


def test_a_version_is_shown_in_one_line(store: str, slices: Path) -> None:
    [made] = emstore.ingest([slices], f"{store}/lab/raw")
    assert repr(made.version) == f"<emstore.Version {store}/lab/raw/v1 z:12 y:40 x:50 uint8>"


def test_an_array_that_never_was_is_not_called_unfinished(store: str, slices: Path) -> None:
    emstore.ingest([slices], f"{store}/lab/raw")
    with pytest.raises(NotFound, match="no array of that name") as caught:
        emstore.open(f"{store}/lab/raws")
    assert f"emstore ls {store}" in str(caught.value.fix)


def test_one_of_several_images_in_a_folder_is_never_taken_unasked(store: str, slices: Path, tmp_path: Path) -> None:
    """A store is itself a Zarr folder of many images."""
    for name in ("one", "two"):
        emstore.ingest([slices], f"{store}/lab/{name}")
    other = str(tmp_path / "other.zarr")
    emstore.create_store(other)
    with pytest.raises(InvalidInput, match="there are 2 data sets"):
        emstore.ingest([store], f"{other}/lab/raw")
    [made] = emstore.ingest([f"{store}/lab/one/v1"], f"{other}/lab/raw")
    assert made.version.info.volume.shape == (12, 40, 50)


def test_side_signals_that_stay_behind_are_told(store: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["side"] = np.zeros((20, 30), np.uint8), np.zeros((5, 6), np.uint8)
    heard: list[Event] = []
    emstore.ingest([tmp_path / "a.h5"], f"{store}/lab/raw", listener=heard.append)
    assert any(isinstance(e, Noted) and e.message.startswith("1 more signal not taken") for e in heard)
    heard.clear()
    emstore.ingest([tmp_path / "a.h5"], f"{store}/lab/side", select="side", listener=heard.append)
    assert not any(isinstance(e, Noted) and "not taken" in e.message for e in heard)


def test_an_empty_path_is_not_the_current_folder(store: str) -> None:
    with pytest.raises(InvalidInput, match="empty path"):
        emstore.ingest([""], f"{store}/lab/raw")


def test_a_touched_copy_is_not_a_new_version_but_a_changed_one_is(store: str, tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), file)
    [first] = emstore.ingest([file], f"{store}/lab/raw")
    os.utime(file, (1, 1))
    [again] = emstore.ingest([file], f"{store}/lab/raw")
    assert (again.created, again.version.id) == (False, first.version.id)
    assert states(store) == [State.SEALED]
    # The same name and size, one bit of one voxel changed.
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    [changed] = emstore.ingest([file], f"{store}/lab/raw")
    assert changed.created
    assert changed.version.place.version == 2
    # The same bytes, taken in another way.
    os.utime(file, (2, 2))
    [other] = emstore.ingest([file], f"{store}/lab/raw", allow_partial=True)
    assert other.created
