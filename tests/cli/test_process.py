"""``process``, ``processors`` and ``reproduce`` as the user meets them: exit codes, words, JSON, progress, being stopped."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import emstore
from command_line import EMSTORE, call, lines, result
from command_line import emstore as command
from emstore.geometry import Axis
from sealed import seal, volume

RNG = np.random.default_rng(7)
VALUES = RNG.integers(0, 4000, (20, 30, 40)).astype(np.int16)


def axes(*shape: int) -> list[Axis]:
    return [
        Axis(name, size, spacing=step, unit="nanometer") for name, size, step in zip("zyx", shape, (4.0, 2.0, 2.0), strict=True)
    ]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a version ``em/scan``."""
    path = tmp_path_factory.mktemp("lab") / "lab.zarr"
    emstore.create_store(str(path))
    seal(volume("scan", VALUES, *axes(*VALUES.shape)), f"{path}/em/scan")
    return str(path)


def test_process_gives_what_the_reference_library_gives(lab: str) -> None:
    made = result(
        "process", "denoise.gaussian", f"{lab}/em/scan", f"{lab}/em/smooth", "-p", "sigma=[2, 1.5, 0.5]", "-p", "dtype=float64"
    )
    [version] = made["versions"]
    assert version["created"] is True
    assert version["dtype"] == "float64"
    stored = emstore.open(version["ref"]).xarray()["image"].values
    np.testing.assert_allclose(stored, ndimage.gaussian_filter(VALUES.astype(float), (2, 1.5, 0.5)), rtol=1e-12)
    again = result(
        "process", "denoise.gaussian", f"{lab}/em/scan", f"{lab}/em/smooth", "-p", "sigma=[2,1.5,0.5]", "-p", "dtype=float64"
    )
    assert (again["versions"][0]["created"], again["versions"][0]["id"]) == (False, version["id"])
    anew = result(
        "process",
        "denoise.gaussian",
        f"{lab}/em/scan",
        f"{lab}/em/smooth",
        "-p",
        "sigma=[2,1.5,0.5]",
        "-p",
        "dtype=float64",
        "--again",
    )
    assert anew["versions"][0]["ref"].endswith("/v2")


def test_progress_adds_up_and_the_record_cites_the_input(lab: str) -> None:
    done = call("process", "denoise.median", f"{lab}/em/scan", f"{lab}/em/median", "--threads", "1", "--no-pyramid", "--json")
    first, *middle, last, end = lines(done)
    assert first["event"] == "started"
    assert first["total"] == VALUES.nbytes
    assert sum(each["done"] for each in middle if each["event"] == "advanced") == VALUES.nbytes
    assert last["event"] == "finished"
    [version] = end["versions"]
    assert last["version_id"] == version["id"]
    record = emstore.open(version["ref"]).record
    assert [(i.role, i.ref, i.id) for i in record.inputs] == [("image", "em/scan/v1", emstore.open(f"{lab}/em/scan").id)]
    assert record.activity.type == "process"
    assert record.step is None


@pytest.mark.parametrize("where", [("--processes", "2")])
def test_other_processes_give_the_same_bytes(lab: str, where: tuple[str, str]) -> None:
    here = result("process", "segment.otsu", f"{lab}/em/scan", f"{lab}/em/here")["versions"][0]
    done = command("process", "segment.otsu", f"{lab}/em/scan", f"{lab}/em/{where[0].strip('-')}", *where, "--json")
    assert done.returncode == 0, done.stderr
    there = lines(done)[-1]["versions"][0]
    one, other = ({e.key: e.digest for e in emstore.open(v["ref"]).manifest.objects if "txn" not in e.key} for v in (here, there))
    assert one == other


def test_words(lab: str) -> None:
    done = call("process", "measure.statistics", f"{lab}/em/scan", f"{lab}/em/figures")
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"{lab}/em/figures/v1  sealed  row:20 table  blake3:" in done.stdout
    assert "was there already" in call("process", "measure.statistics", f"{lab}/em/scan", f"{lab}/em/figures").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("denoise.gausian",), 3, "denoise.gaussian"),
        (("denoise.gaussian", "-p", "sgma=1"), 2, "sgma: there is no such parameter"),
        (("denoise.gaussian", "-p", "sgma=1"), 2, "its parameters are axes, dtype, sigma"),
        (("denoise.gaussian", "-p", "sigma=wide"), 2, "sigma"),
        (("denoise.gaussian", "-p", "sigma=NaN"), 2, "sigma"),
        (("denoise.gaussian", "-p", "sigma"), 2, "KEY=VALUE"),
        (("denoise.gaussian", "-p", "=1"), 2, "KEY=VALUE"),
        (("denoise.gaussian", "-p", "sigma=1", "-p", "sigma=2"), 2, "given twice"),
        (("denoise.gaussian", "-p", f"sigma={'[' * 5000}"), 2, "sigma"),
        (("denoise.gaussian", "--processes", "2", "--threads", "2"), 2, "exclude each other"),
        (("denoise.gaussian", "--cluster", "elsewhere"), 2, "tcp://HOST:PORT"),
        (("denoise.gaussian", "--cluster", "local:none"), 2, "local:4"),
        (("denoise.gaussian", "--device", "cuda"), 2, "CPU only"),
        (("denoise.gaussian", "--memory", "1MiB"), 7, "--memory"),
        (("measure.psnr",), 2, "it takes 2 inputs (image, reference), not 1"),
        (("interpolate.linear", "-p", "axis=q", "-p", "factor=2"), 2, "there is no axis 'q'"),
    ],
)
def test_bad_input_ends_with_one_clear_error(lab: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    name, *options = arguments
    done = call("process", name, f"{lab}/em/scan", f"{lab}/em/never", *options)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    error = result("process", name, f"{lab}/em/scan", f"{lab}/em/never", *options, code=code)
    assert error["exit_code"] == code


def test_refs_that_do_not_fit(lab: str) -> None:
    assert result("process", "denoise.gaussian", f"{lab}/em/nothing", f"{lab}/em/a", code=3)["error"] == "NotFound"
    assert "STORE/DATASET/ARRAY" in result("process", "denoise.gaussian", f"{lab}/em/scan", f"{lab}/em", code=2)["what"]
    assert "not 0" in result("process", "denoise.gaussian", f"{lab}/em/scan", code=2)["what"]


def test_processors_lists_all_and_shows_the_parameters_of_one() -> None:
    found = result("processors")["processors"]
    names = [each["name"] for each in found]
    assert names == sorted(names)
    assert {"denoise.gaussian", "interpolate.linear", "segment.otsu", "measure.statistics"} <= set(names)
    assert all(each["summary"] for each in found if each["error"] is None)
    words = call("processors").stdout
    assert all(name in words for name in names)
    one = result("processors", "interpolate.linear")
    assert one["inputs"] == ["image"]
    told = {p["name"]: p for p in one["parameters"]}
    assert told["axis"] == {
        "name": "axis", "type": "text", "required": False, "default": "z", "description": "axis to interpolate along",
    }  # fmt: skip
    assert told["factor"]["type"] == "whole number, at least 2, at most 1024"
    assert set(one["schema"]["properties"]) == set(told)
    assert "at least 2" in call("processors", "interpolate.linear").stdout
    assert result("processors", "no.such", code=3)["error"] == "NotFound"


def test_every_processor_s_parameters_can_be_shown() -> None:
    for each in result("processors")["processors"]:
        if each["error"] is None:
            for parameter in result("processors", each["name"])["parameters"]:
                assert parameter["description"], f"{each['name']}: {parameter['name']} says nothing of itself"
                json.dumps(parameter, allow_nan=False)


def test_reproduce_tells_the_same_from_another(lab: str, tmp_path: Path) -> None:
    result("process", "interpolate.linear", f"{lab}/em/scan", f"{lab}/em/twice", "-p", "factor=2")
    found = result("reproduce", f"{lab}/em/twice")
    assert (found["identical"], found["differences"]) == (True, [])
    done = call("reproduce", f"{lab}/em/twice")
    assert done.returncode == 0
    assert "identical, bit for bit" in done.stdout
    assert result("reproduce", f"{lab}/em/scan", code=2)["error"] == "InvalidInput"


def heed() -> None:
    """Let a child hear Ctrl-C even where this run was started in the background, where shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a version whose processing takes a while: sixteen shards of noise."""
    path = tmp_path_factory.mktemp("large") / "s.zarr"
    emstore.create_store(str(path))
    values = RNG.integers(0, 1 << 15, (6, 1024, 1024)).astype(np.int16)
    seal(volume("noise", values, *axes(*values.shape)), f"{path}/d/a", pyramid=False)
    return str(path)


@pytest.mark.parametrize(
    ("where", "number"),
    [(("--threads", "1"), signal.SIGTERM), (("--processes", "2"), signal.SIGINT), (("--cluster", "local:2"), signal.SIGINT)],
)
def test_a_stopped_process_resumes(large: str, where: tuple[str, str], number: signal.Signals) -> None:
    target = f"{large}/stopped/{where[0].strip('-')}"
    arguments = ["process", "denoise.median", f"{large}/d/a", target, *where, "--no-pyramid", "-p", "size=3", "--json"]
    process = subprocess.Popen(
        [EMSTORE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "advanced":
            break
    process.send_signal(number)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said == ""
    error = json.loads(rest.splitlines()[-1])
    assert error["kind"] == "interrupted"
    assert "same command" in error["fix"]
    [state] = result("status", target)["versions"]
    assert state["state"] == "unfinished"
    shards = {path: path.stat().st_mtime_ns for path in Path(target).glob("v1/s0/image/c/**/*") if path.is_file()}
    assert shards, "it was stopped before anything was written"
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert lines(done)[-1]["versions"][0]["ref"].endswith("/v1")
    assert {path: path.stat().st_mtime_ns for path in shards} == shards  # what was there is kept
    assert result("verify", target, "--data")["ok"] is True
