"""Every verb on good and bad input, as the user meets it: exit code, standard output, standard error."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from command_line import call, emstore, lines, result

SHAPE = (30, 40, 50)
"""Of the sample volume, z y x."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a NIfTI file of 2 x 3 x 4 mm voxels, and a store with one version of it."""
    folder = tmp_path_factory.mktemp("lab")
    values = np.random.default_rng(0).integers(0, 999, SHAPE[::-1]).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([4.0, 3.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "scan.nii")
    assert call("init", folder / "lab.zarr").returncode == 0
    assert result("ingest", folder / "scan.nii", folder / "lab.zarr/mr/scan")["versions"][0]["created"] is True
    return folder


def test_init_refuses_what_is_there(lab: Path) -> None:
    assert result("init", lab / "lab.zarr", code=4)["error"] == "Conflict"
    done = call("init", lab / "lab.zarr")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "\n  -> " in done.stderr


def test_init_names_the_store(tmp_path: Path) -> None:
    made = result("init", tmp_path / "new.zarr")
    assert made["store_id"].startswith("urn:uuid:")
    assert (tmp_path / "new.zarr/zarr.json").is_file()


def test_inspect_copies_nothing_and_says_what_ingest_would_take(lab: Path) -> None:
    before = sorted(lab.iterdir())
    found = result("inspect", lab / "scan.nii")
    assert sorted(lab.iterdir()) == before
    assert found["adapter"] == "nifti"
    assert found["default"] == "scan"
    [volume] = found["volumes"]
    assert volume["shape"] == list(SHAPE)
    assert volume["dims"] == ["z", "y", "x"]
    assert volume["dtype"] == "int16"
    assert volume["bytes"] == 2 * np.prod(SHAPE)
    assert volume["spacing"] == {"z": 2.0, "y": 3.0, "x": 4.0}
    assert set(volume["units"].values()) == {"millimeter"}
    done = call("inspect", lab / "scan.nii")
    assert done.returncode == 0
    assert "z:30 y:40 x:50" in done.stdout
    assert done.stderr == ""


def test_inspect_of_a_mixture_lists_every_kind(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes((lab / "scan.nii").read_bytes())
    tifffile.imwrite(tmp_path / "page.tif", np.zeros((4, 5), np.uint8))
    found = result("inspect", tmp_path)
    assert found["adapter"] is None
    assert found["default"] is None
    assert [(volume["adapter"], volume["default"]) for volume in found["volumes"]] == [("nifti", False), ("tiff", False)]
    said = call("inspect", tmp_path).stdout
    assert "read by nifti: 1 signal" in said
    assert "read by tiff: 1 signal" in said
    assert "one of these kinds at a time" in said
    assert "*" not in said


def test_inspect_of_bad_input(lab: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nii"
    cut.write_bytes((lab / "scan.nii").read_bytes()[:50000])
    error = result("inspect", cut, code=6)
    assert error["kind"] == "source_incomplete"
    assert error["where"] == "cut.nii"
    noise = tmp_path / "noise.bin"
    noise.write_bytes(b"nothing known " * 99)
    assert result("inspect", noise, code=5)["kind"] == "no_adapter"
    assert result("inspect", tmp_path / "gone.nii", code=3)["kind"] == "not_found"
    assert result("inspect", cut, "--adapter", "frobnicate", code=3)["kind"] == "not_found"


def test_ingest_tells_events_then_the_result(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 30, 40), np.uint8), photometric="minisblack", metadata=None)
    call("init", tmp_path / "s.zarr")
    target = tmp_path / "s.zarr/fib/raw"
    done = call("ingest", tmp_path / "stack.tif", target, "--spacing", "10,5,5", "--unit", "nm", "--no-pyramid", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    *events, last = lines(done)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert sum(event["done"] for event in events if event["event"] == "advanced") == events[0]["total"] == 4 * 30 * 40
    [version] = last["versions"]
    assert version["ref"] == f"{target}/v1"
    assert version["created"] is True
    assert version["levels"] == 1
    assert version["spacing"] == {"z": 10.0, "y": 5.0, "x": 5.0}
    assert set(version["units"].values()) == {"nanometer"}
    again = call("ingest", tmp_path / "stack.tif", target, "--spacing", "10,5,5", "--unit", "nm", "--no-pyramid")
    assert again.returncode == 0
    assert "was there already" in again.stdout
    assert version["id"] in again.stdout


@pytest.mark.parametrize(
    ("options", "code", "kind"),
    [
        (("--spacing", "10,5,5"), 2, "bad_unit"),
        (("--spacing", "ten", "--unit", "nm"), 2, "bad_spacing"),
        (("--spacing", "1,1,1", "--unit", "parsec"), 2, "bad_unit"),
        (("--memory", "lots"), 2, "invalid_input"),
        (("--memory", "0"), 2, "invalid_input"),
        (("--select", "nothing"), 3, "not_found"),
        (("--select", "1", "--all"), 2, "invalid_input"),
    ],
)
def test_ingest_refuses_bad_options(lab: Path, options: tuple[str, ...], code: int, kind: str) -> None:
    error = result("ingest", lab / "scan.nii", lab / "lab.zarr/mr/other", *options, code=code)
    assert error["kind"] == kind
    assert not (lab / "lab.zarr/mr/other/v1").exists()


def test_ingest_refuses_bad_targets(lab: Path, tmp_path: Path) -> None:
    scan = lab / "scan.nii"
    assert result("ingest", scan, tmp_path / "no.zarr/a/b", code=3)["kind"] == "not_found"
    assert result("ingest", scan, lab / "lab.zarr/mr", code=2)["kind"] == "bad_ref"
    assert result("ingest", scan, lab / "lab.zarr/mr/BAD NAME", code=2)["kind"] == "bad_name"


def test_ls_info_and_status(lab: Path) -> None:
    store = str(lab / "lab.zarr")
    [version] = result("ls", store)["versions"]
    assert version["ref"] == f"{store}/mr/scan/v1"
    assert version["shape"] == list(SHAPE)
    assert "mr/scan/v1" in call("ls", f"{store}/mr").stdout
    [state] = result("status", store)["versions"]
    assert state["state"] == "sealed"
    assert "sealed" in call("status", store).stdout
    found = result("info", f"{store}/mr/scan")
    assert found["id"] == version["id"]
    assert found["voxel"]["affine"]["space"] == "RAS"
    assert found["record"]["sources"][0]["name"] == "scan.nii"
    words = call("info", f"{store}/mr/scan/v1")
    assert words.returncode == 0
    assert version["id"] in words.stdout
    whole = result("info", store)
    assert whole["arrays"] == ["mr/scan"]
    assert whole["states"]["sealed"] == 1


@pytest.mark.parametrize("verb", ["ls", "info", "status", "verify", "gc"])
def test_verbs_on_references_to_nothing(lab: Path, tmp_path: Path, verb: str) -> None:
    assert result(verb, tmp_path / "none", code=3)["error"] == "NotFound"
    assert result(verb, lab / "lab.zarr/mr/nothing", code=3)["error"] == "NotFound"
    assert result(verb, lab / "lab.zarr/mr/scan/v9", code=3)["error"] == "NotFound"
    assert result(verb, lab / "lab.zarr/mr/scan/v1/s0", code=3)["error"] in ("NotFound", "InvalidInput")


def test_verify_of_a_whole_and_of_a_damaged_version(lab: Path, tmp_path: Path) -> None:
    import shutil

    store = tmp_path / "copy.zarr"
    shutil.copytree(lab / "lab.zarr", store)
    assert result("verify", store)["ok"] is True
    assert result("verify", store, "--data")["ok"] is True
    victim = max((p for p in store.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert result("verify", store)["ok"] is True, "names and sizes are still right"
    found = result("verify", store, "--data", code=10)
    assert found["ok"] is False
    assert [f["key"] for f in found["versions"][0]["findings"]] == [victim.relative_to(store).as_posix()]
    words = call("verify", store, "--data")
    assert words.returncode == 10
    assert victim.relative_to(store).as_posix() in words.stdout
    victim.unlink()
    assert result("verify", store, code=10)["versions"][0]["findings"][0]["problem"] == "missing"


def test_gc_clears_what_a_killed_writer_left(lab: Path, tmp_path: Path) -> None:
    import shutil

    store = tmp_path / "copy.zarr"
    shutil.copytree(lab / "lab.zarr", store)
    left = store / "mr/scan/v1/s0/image/c/0/0/9#1"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    planned = result("gc", store, "--dry-run")
    assert [one["key"] for one in planned["cleared"]] == [left.relative_to(store).as_posix()]
    assert left.exists()
    assert result("gc", store)["bytes"] == 4
    assert not left.exists()
    assert result("verify", store, "--data")["ok"] is True
    assert call("gc", store).stdout == "nothing to clear\n"


def test_export_reads_back_equal(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii"
    done = call("export", lab / "lab.zarr/mr/scan", out, "--json")
    assert done.returncode == 0
    assert lines(done)[-1]["file"] == str(out)
    ours, theirs = nibabel.load(out), nibabel.load(lab / "scan.nii")
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine, theirs.affine)
    assert result("export", lab / "lab.zarr/mr/scan", out, code=4)["kind"] == "conflict"
    assert call("export", lab / "lab.zarr/mr/scan", out, "--force").returncode == 0
    assert result("export", lab / "lab.zarr/mr/scan", tmp_path / "out.docx", code=2)["kind"] == "invalid_input"
    assert result("export", lab / "lab.zarr/mr/nothing", tmp_path / "new.nii", code=3)["kind"] == "not_found"


def test_adapters_lists_every_built_in() -> None:
    found = result("adapters")
    names = {adapter["name"]: adapter for adapter in found["adapters"]}
    assert set(names) >= {"dicom", "em", "frames", "hdf5", "mrc", "nifti", "nion", "tiff", "video", "zarr"}
    assert all(adapter["error"] is None for adapter in names.values())
    assert ".nii" in call("adapters").stdout
    assert {exporter["name"] for exporter in found["exporters"]} >= {"nifti", "tiff", "mrc", "hdf5", "movie"}


def test_names_that_would_drive_a_terminal_are_written_out(tmp_path: Path) -> None:
    evil = "a\x1b[2J\x07\u202egnp.bin"
    (tmp_path / evil).write_bytes(b"x" * 99)
    done = call("inspect", tmp_path / evil)
    assert done.returncode == 5
    assert "\\x1b[2J\\x07\\u202e" in done.stderr
    assert not {c for c in done.stdout + done.stderr if not c.isprintable()} - {"\n"}


def test_header_text_that_would_drive_a_terminal_is_written_out(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 5), np.uint8), description="\x1b]0;owned\x07", software="\x1b[31m", metadata=None
    )
    call("init", tmp_path / "s.zarr")
    said = [call("inspect", tmp_path / "a.tif"), call("ingest", tmp_path / "a.tif", tmp_path / "s.zarr/d/a")]
    said += [call("info", tmp_path / "s.zarr/d/a"), call("info", tmp_path / "s.zarr/d/a", "--json")]
    for done in said:
        assert done.returncode == 0, done.stderr
        assert not {c for c in done.stdout + done.stderr if not c.isprintable()} - {"\n"}


def test_every_verb_in_a_process_of_its_own(lab: Path, tmp_path: Path) -> None:
    store, array, scan = lab / "lab.zarr", lab / "lab.zarr/mr/scan", lab / "scan.nii"
    good = [
        ("init", tmp_path / "new.zarr"),
        ("inspect", scan),
        ("ingest", scan, array),
        ("ls", store),
        ("info", array),
        ("status", store),
        ("verify", store, "--data"),
        ("gc", store),
        ("export", array, tmp_path / "out.nii"),
        ("adapters",),
    ]
    for arguments in good:
        done = emstore(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert done.stdout
    bad = [
        (4, ("init", store)),
        (3, ("inspect", tmp_path / "none")),
        (3, ("ingest", scan, tmp_path / "none/d/a")),
        (3, ("ls", tmp_path / "none")),
        (2, ("export", array, tmp_path / "out.docx")),
        (2, ("adapters", "nothing")),
    ]
    for code, arguments in bad:
        done = emstore(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert "Traceback" not in done.stderr
        assert done.stderr
