"""The verbs `lineage` and `find`."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from command_line import call, emstore, lines, result
from descent import cite, make
from emstore.provenance.record import SourceFile
from emstore.store import Store


@pytest.fixture
def study(lab: Store) -> SimpleNamespace:
    raw = make(f"{lab.url}/mri/raw", sources=[SourceFile(name="a.nii", size=1, digest=f"blake3:{1:064x}", format="NIfTI-1")])
    smooth = make(f"{lab.url}/mri/smooth", [cite(raw)], params={"sigma": 2.0})
    mask = make(f"{lab.url}/mri/mask", [cite(smooth)], name="segment.otsu")
    return SimpleNamespace(raw=raw, smooth=smooth, mask=mask, lab=lab)


def test_up_is_the_way_when_none_is_named(study: SimpleNamespace) -> None:
    plain, up = call("lineage", study.smooth.ref), call("lineage", study.smooth.ref, "--up")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout == up.stdout
    assert [line.split("  ")[0] for line in plain.stdout.splitlines()] == ["mri/smooth/v1", "└─ image: mri/raw/v1", ""]
    assert "mri/mask" in call("lineage", study.smooth.ref, "--down").stdout
    assert "mri/raw" not in call("lineage", study.smooth.ref, "--down").stdout
    both = call("lineage", study.smooth.ref, "--down", "--up").stdout
    assert "mri/raw" in both
    assert "mri/mask" in both


def test_the_latest_version_is_meant_without_a_number(study: SimpleNamespace) -> None:
    again = make(f"{study.lab.url}/mri/smooth", [cite(study.raw)])
    assert result("lineage", f"{study.lab.url}/mri/smooth")["root"] == again.id


def test_json_is_the_graph(study: SimpleNamespace) -> None:
    document = result("lineage", study.mask.ref)
    assert [node["ref"] for node in document["nodes"]] == ["mri/mask/v1", "mri/smooth/v1", "mri/raw/v1"]
    assert document == json.loads(call("lineage", study.mask.ref, "--format", "json").stdout)
    assert len(result("lineage", study.mask.ref, "--depth", "1")["nodes"]) == 2


def test_every_form_can_be_printed_and_written(study: SimpleNamespace, tmp_path: Path) -> None:
    for how, check in (("svg", ElementTree.fromstring), ("prov", json.loads), ("json", json.loads), ("tree", str)):
        printed = call("lineage", study.mask.ref, "--format", how)
        assert printed.returncode == 0
        check(printed.stdout)
        file = tmp_path / f"out.{how}"
        done = call("lineage", study.mask.ref, "--format", how, "--output", str(file))
        assert (done.returncode, done.stderr) == (0, "")
        assert file.read_text() == printed.stdout
        again = call("lineage", study.mask.ref, "--format", how, "-o", str(file))
        assert again.returncode == 4
        assert "Traceback" not in again.stderr
    done = call("lineage", study.mask.ref, "--format", "crate", "-o", str(tmp_path / "crate"))
    assert done.returncode == 0
    assert (tmp_path / "crate" / "ro-crate-metadata.json").exists()
    assert result("lineage", study.mask.ref, "--format", "svg")["content"].startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--format", "crate"), 2),
        (("--format", "pdf"), 2),
        (("--depth", "0"), 2),
        (("--depth", "x"), 2),
        (("-o", "none/such/file"), 3),
    ],
)
def test_what_makes_no_sense_is_told_of(study: SimpleNamespace, arguments: tuple[str, ...], code: int) -> None:
    done = call("lineage", study.mask.ref, *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert result("lineage", study.mask.ref, *arguments, code=code)["what"]


def test_find_prints_references_that_other_verbs_take(study: SimpleNamespace) -> None:
    done = call("find", 'processor == "denoise.gaussian"', study.lab.url)
    assert (done.returncode, done.stderr) == (0, "")
    head, row = done.stdout.splitlines()
    assert head.split()[0] == "version"
    ref = row.split()[0]
    assert result("info", ref)["id"] == study.smooth.id
    assert "y:2 x:4" in row
    assert "process denoise.gaussian" in row


def test_find_in_json(study: SimpleNamespace) -> None:
    document = result("find", "derived", study.lab.url)
    assert [each["ref"] for each in document["found"]] == [study.mask.ref, study.smooth.ref]
    assert document["found"][0]["id"] == study.mask.id
    assert result("find", "shape.z > 3", study.lab.url)["found"] == []
    assert "no version is like that" in call("find", "shape.z > 3", study.lab.url).stderr


def test_a_wrong_expression_ends_with_2_and_its_place(study: SimpleNamespace) -> None:
    done = call("find", "spcing.z > 2 mm", study.lab.url)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: spcing.z > 2 mm: there is no field 'spcing', at character 1",
        "  -> did you mean spacing?",
    ]
    assert result("find", "spcing.z > 2 mm", study.lab.url, code=2)["kind"] == "invalid_input"


def test_the_help_names_every_field() -> None:
    from emstore.lineage.facts import CALLS, FIELDS

    words = set(re.findall(r"\w+", call("find", "--help").stdout))
    assert set(FIELDS) | set(CALLS) <= words


def test_in_a_process_of_its_own(study: SimpleNamespace, cache: Path) -> None:
    done = emstore("find", "stale or not stale", study.lab.url, "--json", EMSTORE_HOME=str(cache))
    assert len(lines(done)[-1]["found"]) == 3
    assert emstore("lineage", study.mask.id[:30], EMSTORE_HOME=str(cache)).stdout.startswith("mri/mask/v1")
