"""The part of the report on vacancies, drawn from tables whose figures are made up and known."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
from emstore.geometry import Axis, AxisKind
from emstore.provenance import environment
from emstore.provenance.record import Activity, Random, Record, Software
from emstore.reporter import Figure, Given, Listing
from emstore.reports.ancestry import everything
from emstore.reports.stem import StemReport, StemReportParams
from emstore.store import canonical, digest
from emstore.table import Column, Table
from emstore.volume import Volume, VolumeKind
from html_page import parsed
from monolayers import monolayer
from sealed import seal, volume

NOW = datetime.now(UTC)


def given(ref: str, type_: Any, name: str, content: Volume | Table, *inputs: tuple[str, Given], **params: Any) -> Given:
    record = Record(
        activity=Activity(id=f"urn:uuid:{uuid.uuid4()}", type=type_, name=name, started=NOW, ended=NOW),
        params={"params": params, "part": "columns" if ref.endswith("-columns") else ""},
        params_digest=digest(canonical({})),
        software=(Software(name="test", version="1"),),
        environment=environment.current(),
        random=Random(deterministic=True),
        agent=Software(name="test", version="1"),
    )
    kind = VolumeKind.TABLE if isinstance(content, Table) else VolumeKind.IMAGE
    read: Callable[[], Volume | Table] = lambda: content  # noqa: E731
    return Given(ref, digest(ref.encode()), "urn:uuid:0", record, kind, "some", read, inputs)


def image(**attributes: Any) -> Volume:
    axes = [Axis(name, 8, AxisKind.SPACE, 0.2, "angstrom") for name in "yx"]
    return volume("image", np.arange(64.0).reshape(8, 8), *axes, attributes=attributes, modality="stem")


def counted(percents: list[float], screened: list[dict[str, Any]]) -> Table:
    frames = [
        {"frame": n, "percent_missing": one, "percent_low": one - 1, "percent_high": one + 1} for n, one in enumerate(percents)
    ]
    mean = float(np.mean(percents))
    whole = {"percent_missing": mean, "percent_low": mean - 0.5, "percent_high": mean + 0.5, "sites": 300}
    summary = {**whole, "per_frame": frames, "frames_used": len(percents), "frames_screened": len(screened), "screened": screened}
    return Table("vacancies", {"frame": Column(np.arange(len(percents)))}, summary)


@pytest.fixture
def versions() -> list[Given]:
    facts = {"material": "MoS2", "vacancies": {"element": "S", "atom_fraction": 0.9}}
    clean = given("d/clean", "simulate", "stem", image(quantity="beam fraction", simulation=facts))
    species = np.array(["Mo", "S", "S", "S", "S"])
    truth = Table(
        "columns",
        {
            "species": Column(species),
            "atoms": Column(np.array([1, 2, 2, 2, 2])),
            "missing": Column(np.array([1, 1, 0, 0, 0])),
        },
    )
    columns = given("d/clean-columns", "simulate", "stem", truth, ("simulated", clean))
    dose = {"value": 3000, "unit": "electron/angstrom^2"}
    noisy = given("d/noisy", "process", "noise.digital", image(quantity="electrons", dose=dose), ("image", clean))
    smooth = given("d/smooth", "process", "denoise.gaussian", image(quantity="electrons", dose=dose), ("image", noisy), sigma=1.0)
    left = [{"frame": 6, "reason": "no <lattice>"}]
    return [
        columns,
        given(
            "d/a", "process", "measure.vacancies", counted([11, 12, 13, 12, 14, 12.5], left), ("image", noisy), method="template"
        ),
        given("d/b", "process", "measure.vacancies", counted([8, 9], []), ("image", smooth), method="two_sublattice"),
    ]


def test_percentages_stand_beside_the_truth_of_their_specimen(versions: list[Given]) -> None:
    page = StemReport().report(versions, StemReportParams())
    [section] = [one for one in page.sections if one.title.startswith("Vacancies")]
    figure, listing, words = section.content
    assert isinstance(figure, Figure)
    assert isinstance(listing, Listing)
    rows = {row[0]: row[1:] for row in listing.rows}
    # One of eight atoms of S; the molybdenum that is gone is no vacancy of it, nor is the share of the whole box the image's.
    assert rows["untouched"] == (
        3000,
        pytest.approx(12.4166666),
        pytest.approx(11.9166666),
        pytest.approx(12.9166666),
        12.5,
        300,
        6,
        1,
    )
    assert rows["Gaussian filter, two sublattices"] == (3000, 8.5, 8.0, 9.0, 12.5, 300, 2, 0)
    assert words == "Left out: untouched, frame 6: no <lattice>."
    assert "12.5 %" in figure.caption
    assert {one.ref for one in figure.sources} == {"d/a", "d/b", "d/clean-columns"}
    assert len(everything(versions)) == 6


def test_the_drawing_has_every_method_with_its_dose(versions: list[Given]) -> None:
    page = StemReport().report(versions, StemReportParams())
    [figure] = [
        one for section in page.sections for one in section.content if isinstance(one, Figure) and one.title == "Vacancies"
    ]
    said = parsed("<!DOCTYPE html>" + figure.panels[0].svg[figure.panels[0].svg.index("<svg") :]).text
    for words in ("untouched, 3000", "Gaussian filter, two", "sublattices, 3000", "chalcogen atoms missing (%)"):
        assert words in said


def test_what_the_processor_measures_is_what_the_page_shows(tmp_path: Path) -> None:
    store = f"{tmp_path}/lab.zarr"
    emstore.create_store(store)
    frames = np.stack([monolayer((150, 140), seed=1, dose=30_000.0).counted(n) for n in range(5)]).astype("u2")
    axes = [
        Axis("t", 5, AxisKind.TIME),
        *(Axis(name, size, AxisKind.SPACE, 0.2, "angstrom") for name, size in (("y", 150), ("x", 140))),
    ]
    dose = {"value": 30000, "unit": "electron/angstrom^2"}
    seal(volume("counted", frames, *axes, attributes={"quantity": "electrons", "dose": dose}), f"{store}/d/counted")
    summary = emstore.process("measure.vacancies", [f"{store}/d/counted"], f"{store}/d/count").version.table().summary
    emstore.report("stem", [store], tmp_path / "a.html")
    root = parsed((tmp_path / "a.html").read_text())
    cells = root.all("tbody")[0].all("td")
    shown = [cell.all("data")[0].attributes["value"] for cell in cells[2:5]]
    assert [float(one or "nan") for one in shown] == [summary[f"percent_{end}"] for end in ("missing", "low", "high")]
    assert cells[-2].text == "5"
