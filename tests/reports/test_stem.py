"""The report ``stem``: its numbers are those of the tables, its figures cite what they are drawn from."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

import emstore
from emstore.errors import InvalidInput, Kind
from emstore.reports.ancestry import everything, gather
from emstore.reports.stem.reading import Cases, pooled
from html_page import Element, parsed


def rows_of(page: Path, title: str) -> tuple[list[str], list[list[str]], Element]:
    """Return heads and rows of a table of the page; numbers as they are kept, not as they are shown."""
    root = parsed(page.read_text())
    [region] = [one for one in root.all("div", "wide") if one.attributes["aria-label"] == title]
    heads = [one.text for one in region.all("th")]
    rows = []
    for row in region.all("tbody")[0].all("tr"):
        cells = row.all("td")
        rows.append([(cell.all("data")[0].attributes["value"] or "") if cell.all("data") else cell.text for cell in cells])
    return heads, rows, region


@pytest.mark.parametrize(
    ("array", "method"), [("noisy-1000", "untouched"), ("smooth-5000", "Gaussian filter"), ("ml-1000", "Poisson ML")]
)
@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_strain_errors_are_those_of_the_tables(lab: str, page: Path, array: str, method: str, direction: str) -> None:
    table = emstore.open(f"{lab}/te/{array}-strain").table()
    chosen = table.columns["direction"].values == direction
    mean, low, high = (table.columns[f"strain_error{end}"].values[chosen].mean() for end in ("", "_low", "_high"))
    _, rows, _ = rows_of(page, "Strain error")
    dose = float(array.rpartition("-")[2])
    [row] = [row for row in rows if row[:2] == [method, direction] and float(row[2].replace("infinite", "nan")) == dose]
    assert [float(cell) for cell in row[3:6]] == pytest.approx([mean, low, high], rel=1e-12)
    assert [int(cell) for cell in row[7:]] == [int(chosen.sum()), int(table.columns["pairs"].values[chosen].sum())]
    untouched = emstore.open(f"{lab}/te/noisy-{dose:g}-strain").table().columns
    other = untouched["strain_error"].values[untouched["direction"].values == direction].mean()
    assert float(row[6]) == pytest.approx(mean / other)


def test_what_is_shown_is_what_is_kept_to_four_digits(page: Path) -> None:
    found = parsed(page.read_text()).all("data")
    assert len(found) > 100
    for one in found:
        assert float(one.text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(float(one.attributes["value"] or ""), rel=6e-4)


def test_noise_over_the_bound_is_that_of_the_tables(lab: str, page: Path) -> None:
    heads, rows, _ = rows_of(page, "Noise in distances")
    table = emstore.open(f"{lab}/te/smooth-1000-precision").table().columns
    chosen = table["direction"].values == "vertical"
    [row] = [row for row in rows if row[:2] == ["Gaussian filter", "vertical"] and float(row[2]) == 1000]
    wanted = {
        "over bound": "ratio",
        "RMS (angstrom)": "rms",
        "bound (angstrom)": "bound",
        "bias (angstrom)": "bias",
        "lost": "lost",
    }
    for head, name in wanted.items():
        assert float(row[heads.index(head)]) == pytest.approx(table[name].values[chosen].mean(), rel=1e-12)


def test_residuals_and_matches_are_those_of_the_tables(lab: str, page: Path) -> None:
    heads, rows, _ = rows_of(page, "What denoising took away")
    ratio = emstore.open(f"{lab}/te/smooth-5000-residual").table().columns["bragg_power_ratio"].values
    [row] = [row for row in rows if float(row[1]) == 5000]
    assert row[0] == "Gaussian filter"
    assert float(row[heads.index("Bragg-power ratio")]) == pytest.approx(np.nanmean(ratio))
    heads, rows, _ = rows_of(page, "Columns found")
    summary = emstore.open(f"{lab}/te/noisy-1000-found").table().summary
    [row] = [row for row in rows if row[0] == "untouched" and float(row[1]) == 1000]
    assert float(row[heads.index("recall")]) == pytest.approx(summary["recall"])


def test_the_label_names_the_method(page: Path) -> None:
    _, rows, _ = rows_of(page, "Strain error")
    named = {row[0] for row in rows}
    assert "<b onmouseover>our way<b> $x$" in named
    assert {"untouched", "Gaussian filter", "Poisson ML", "infinite dose"} <= named


def test_every_figure_cites_versions_that_the_page_lists(lab: str, page: Path) -> None:
    root = parsed(page.read_text())
    listed = {one.attributes["id"]: one.text for one in root.all("ul", "versions")[0].all("li")}
    figures = root.all("figure")
    assert len(figures) == 6
    for figure in figures:
        links = figure.all("a")
        assert links
        for link in links:
            reference, id_ = (code.text for code in link.all("code"))
            version = emstore.open(f"{lab}/{reference}")
            assert version.id.startswith(id_)
            assert version.id in listed[(link.attributes["href"] or "").removeprefix("#")]
    strain = figures[0].text
    assert "te/noisy-1000-strain/v1" in strain
    assert "te/noisy-1000-residual" not in strain


def test_the_list_has_what_the_records_say(lab: str, page: Path) -> None:
    listed = {one.all("h3")[0].text: one.text for one in parsed(page.read_text()).all("ul", "versions")[0].all("li")}
    assert len(listed) == len(list((Path(lab) / "te").iterdir())) - 1  # all arrays but the folder's own document
    noisy = listed["te/noisy-1000/v1"]
    record = emstore.open(f"{lab}/te/noisy-1000").record
    for said in (
        record.environment.platform,
        "noise.digital",
        f"{record.activity.ended:%Y-%m-%d %H:%M:%S}",
        "te/clean/v1",
        "frames 2",
    ):
        assert said in noisy
    assert "t 2, y 84, x 96" in noisy
    assert "1000.0 electron/angstrom^2" in noisy
    assert re.search(r"seed\s*1", noisy)


def test_figures_name_their_axes_with_units_and_draw_every_method(page: Path) -> None:
    strain, noise, histogram, images, profile, residual = parsed(page.read_text()).all("figure")
    for figure, words in (
        (strain, ("dose (e/Å²)", "strain error (no unit)", "bound", "infinite dose", "Poisson ML")),
        (noise, ("dose (e/Å²)", "RMS difference / bound (no unit)")),
        (histogram, ("distance (angstrom)", "probability per bin (no unit)")),
        (profile, ("distance along the line (angstrom)", "electrons per pixel")),
        (images, ("5 Å",)),
        (residual, ("5 Å",)),
    ):
        said = " ".join(one.text for one in figure.all("svg"))
        for word in words:
            assert word in said
    assert len(images.all("svg")) == 3  # untouched, Gaussian filter, infinite dose
    assert len(residual.all("svg")) == 2


def test_what_is_missing_is_said_by_name(page: Path) -> None:
    said = parsed(page.read_text()).text
    assert "Not in this comparison, since no table of theirs was given: BM3D, autoencoder, Poisson U-Net." in said
    assert "No version was given for: vacancies." in said


def test_methods_that_differ_are_not_called_the_same(lab: str, tmp_path: Path) -> None:
    refs = [
        emstore.process(
            "denoise.gaussian", [f"{lab}/te/noisy-1000"], f"{lab}/more/smooth-{n}", params={"sigma": s, "axes": "slice"}
        ).version.ref
        for n, s in enumerate((0.5, 2.0))
    ]
    given = gather(refs)
    cases = Cases(everything(given))
    assert [cases.of(one).method for one in given] == ["Gaussian filter (sigma 0.5)", "Gaussian filter (sigma 2.0)"]
    assert {cases.of(one).dose for one in given} == {1000.0}


def test_intervals_are_students_from_five_frames_on() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.0, 2.5])
    point = pooled([(value, math.nan, math.nan, 7) for value in values])
    low, high = student.interval(0.95, 4, values.mean(), values.std(ddof=1) / np.sqrt(5))
    assert (point.low, point.high, point.pairs) == (pytest.approx(low), pytest.approx(high), 35)
    few = pooled([(1.0, 0.5, 2.0, 1), (2.0, 1.5, 4.0, 1)])
    assert (few.value, few.low, few.high) == (1.5, 1.0, 3.0)


def test_what_is_no_measurement_is_refused(lab: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none of these versions"):
        emstore.report("stem", [f"{lab}/other/table"], tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_a_store_that_was_not_named_is_not_guessed(lab: str, tmp_path: Path) -> None:
    far = f"{tmp_path}/far.zarr"
    emstore.create_store(far)
    emstore.process("measure.strain", [f"{lab}/te/noisy-1000-fit"], f"{far}/d/strain")
    emstore.process("measure.precision", [f"{lab}/te/noisy-1000-fit", f"{lab}/te/bound-1000"], f"{far}/d/precision")
    out = tmp_path / "a.html"
    emstore.report("stem", [f"{far}/d"], out)
    _, rows, _ = rows_of(out, "Strain error")
    assert {(row[0], row[2]) for row in rows} == {("unknown", "unknown")}
    said = parsed(out.read_text()).text
    assert "was not found, so neither method nor dose is known" in said
    assert said.count("(not found)") == 3
    emstore.report("stem", [f"{far}/d", f"{lab}/te/clean-fit"], out, force=True)
    _, rows, _ = rows_of(out, "Strain error")
    assert {(row[0], float(row[2])) for row in rows} == {("untouched", 1000.0)}
    assert "(not found)" not in parsed(out.read_text()).text


def test_figures_need_matplotlib_and_say_so(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidInput) as caught:
        emstore.report("stem", [f"{lab}/te"], tmp_path / "a.html")
    assert caught.value.kind is Kind.MISSING_EXTRA
    assert "emstore[report]" in str(caught.value)
