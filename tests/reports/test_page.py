"""Any report's page: one file, well formed, nothing from outside, whatever the data says; written whole or not at all."""

import json
import re
from pathlib import Path

import pytest

import emstore
from chromium import PROGRAM, browsing
from command_line import call
from emstore.errors import Conflict, InvalidInput, NotFound, ProcessingFailed
from emstore.reports.ancestry import labelled
from emstore.reports.colours import LIGHT_DARK
from html_page import Element, parsed
from planted_reports import HOSTILE

LOADING = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "style", "formaction"}
INERT = {"script", "iframe", "object", "embed", "link", "base", "form", "img", "video", "audio", "foreignobject"}


def assert_nothing_runs_or_loads(root: Element) -> None:
    for one in root.walk():
        assert one.tag not in INERT
        for name, value in one.attributes.items():
            assert not name.startswith("on")
            if name in LOADING:
                assert re.fullmatch(r"#[\w.-]+|data:image/png;base64,[\w+/=]+|[^:]*:(?!//).*", value or "", re.DOTALL)
                assert "http" not in (value or "")
                assert "javascript" not in (value or "")
    for sheet in root.all("style"):
        assert "url(" not in sheet.text
        assert "@import" not in sheet.text


def test_the_page_is_well_formed_and_alone(page: Path) -> None:
    root = parsed(page.read_text())
    assert_nothing_runs_or_loads(root)
    policy = [one.attributes.get("content") for one in root.all("meta") if "http-equiv" in one.attributes]
    assert policy[0] is not None
    assert "default-src 'none'" in policy[0]
    assert root.all("html")[0].attributes["lang"] == "en"
    assert len(root.all("h1")) == len(root.all("main")) == 1
    for svg in root.all("svg"):
        assert svg.attributes["aria-label"]
    anchors = {one.attributes.get("id") for one in root.walk()}
    for link in root.all("a"):
        assert (link.attributes["href"] or "").removeprefix("#") in anchors


def test_the_page_without_its_pictures_is_small(page: Path) -> None:
    bare = re.sub(r"data:image/png;base64,[\w+/=]+", "", page.read_text())
    assert len(bare.encode()) < 300_000


def test_the_page_names_no_folder_of_the_machine(page: Path, lab: str) -> None:
    said = page.read_text()
    assert str(Path(lab).parent) not in said
    assert str(page.parent) not in said


def test_hostile_words_are_shown_as_words(lab: str, tmp_path: Path, planted_page: None) -> None:
    out = tmp_path / "hostile.html"
    emstore.report("planted.hostile", [f"{HOSTILE[:20].replace('/', '')}={lab}/te/clean"], out)
    root = parsed(out.read_text())
    assert_nothing_runs_or_loads(root)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert root.all("h1")[0].text == shown
    assert root.all("h2")[0].text == shown
    assert root.all("td")[0].text == shown
    assert root.all("figcaption")[0].text.count(shown) == 1
    assert root.all("svg")[0].attributes["aria-label"] == HOSTILE
    assert [one.text for one in root.all("text")] == ["<script>kept</script>"] * 2
    assert [one.text for one in root.all("td")][-1] == "unknown"
    names = {one.attributes["id"] for one in root.all("rect")}
    assert {(one.attributes.get("href") or "").removeprefix("#") for one in root.all("use")} == names | {""}


def test_a_report_that_fails_leaves_nothing(lab: str, tmp_path: Path, planted_page: None) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(ProcessingFailed, match="ZeroDivisionError"):
        emstore.report("planted.broken", [f"{lab}/te/clean"], tmp_path / "a.html")
    assert set(tmp_path.iterdir()) == before


def test_what_is_there_is_not_replaced_unasked(lab: str, tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    out.write_text("mine")
    with pytest.raises(Conflict):
        emstore.report("stem", [f"{lab}/te"], out)
    assert out.read_text() == "mine"
    emstore.report("stem", [f"{lab}/te/clean-strain"], out, force=True)
    assert "Low-dose STEM" in out.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]


def test_requests_that_make_no_sense_are_refused(lab: str, tmp_path: Path) -> None:
    for wrong, refs, out, error in (
        ("stem", [f"{lab}/te"], "a.pdf", InvalidInput),
        ("nothing", [f"{lab}/te"], "a.html", NotFound),
        ("stem", [], "a.html", InvalidInput),
        ("stem", [f"{lab}/te/nothing"], "a.html", NotFound),
        ("stem", [f"{lab}/nothing"], "a.html", NotFound),
        ("stem", [f"={lab}/te"], "a.html", InvalidInput),
        ("stem", [f"a={lab}/te/clean", f"b={lab}/te/clean"], "a.html", InvalidInput),
        ("stem", [f"{lab}/te"], "no/a.html", NotFound),
    ):
        with pytest.raises(error):
            emstore.report(wrong, refs, tmp_path / out)
    with pytest.raises(InvalidInput, match="dose"):
        emstore.report("stem", [f"{lab}/te"], tmp_path / "a.html", params={"dose": -1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("lab.zarr/a/b", (None, "lab.zarr/a/b")),
        ("our way=lab.zarr/a/b", ("our way", "lab.zarr/a/b")),
        ("./a=b/c", (None, "./a=b/c")),
        ("s3://bucket/a=b", (None, "s3://bucket/a=b")),
    ],
)
def test_labels_are_told_from_paths(argument: str, found: tuple[str | None, str]) -> None:
    assert labelled(argument) == found


def test_a_label_in_any_script_fits(lab: str, tmp_path: Path) -> None:
    label = ("我们的方法 مثال " * 9)[:60].strip()
    out = tmp_path / "a.html"
    emstore.report("stem", [f"{label}={lab}/te/noisy-1000-strain", f"{lab}/te/ml-1000-strain", f"{lab}/te/ml-5000-strain"], out)
    root = parsed(out.read_text())
    assert label in root.all("tbody")[0].text
    drawn = " ".join(" ".join(one.text for one in root.all("text")).split())
    assert label[:20] in drawn
    for wrong in ("_hidden", "x" * 61):
        with pytest.raises(InvalidInput, match="label"):
            emstore.report("stem", [f"{wrong}={lab}/te/noisy-1000-strain"], tmp_path / "b.html")


def test_the_command_line_writes_and_lists(lab: str, tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    done = call("report", "stem", f"fit={lab}/te/clean-strain", f"{lab}/te/noisy-1000-strain", out, "-p", "dose=500", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size"] == out.stat().st_size
    assert "dose 500" in out.read_text()
    assert "stem" in call("reports").stdout
    assert "dose" in call("reports", "stem").stdout
    assert call("report", "stem", f"{lab}/te", out).returncode == 4


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_stand_out_from_the_ground(theme: int) -> None:
    ground = luminance(LIGHT_DARK["--ground"][theme])
    for name, pair in LIGHT_DARK.items():
        least = 4.5 if name in ("--ink", "--quiet", "--link") else 3.0 if name.startswith("--series") else 1.0
        bright, dim = sorted((ground, luminance(pair[theme])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= least, name


@pytest.mark.skipif(PROGRAM is None, reason="no chromium is installed")
def test_a_browser_shows_it_at_any_width(page: Path, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile") as browser:
        for width, height, dark in ((1280, 900, False), (360, 740, False), (360, 740, True)):
            browser.open(page, width=width, height=height, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("document.documentElement.scrollHeight") > height
            # Nothing that draws is cut off or empty.
            smallest = browser.value(
                "Math.min(...[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height))"
            )
            assert smallest > 40
            ground = browser.value("getComputedStyle(document.documentElement).backgroundColor")
            assert (ground == "rgb(20, 23, 26)") == dark
        colours = "[...new Set([...document.querySelectorAll('figure svg path')].map(p => getComputedStyle(p).stroke))].length"
        assert browser.value(colours) >= 6  # the stand-ins became colours of the page
        assert browser.paper().startswith(b"%PDF")
        assert browser.complaints == []
        assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}
