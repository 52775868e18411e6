"""Up and down, across stores, and the forms a lineage is shown in."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import emstore
from descent import cite, make
from emstore.errors import InvalidInput, NotFound
from emstore.lineage import Lineage, find, lineage
from emstore.provenance.record import Model, SourceFile
from emstore.store import Store, Version, create_store
from range_server import serve

WEIGHTS = Model(name="unet", digest=f"sha256:{7:064x}")


@pytest.fixture
def study(lab: Store, other: Store) -> SimpleNamespace:
    """raw -> denoised -> labels (other store, by weights) -> table, which reads raw and denoised too."""
    file = SourceFile(name="brain.nii.gz", size=12345, digest=f"blake3:{1:064x}", format="NIfTI-1")
    raw = make(f"{lab.url}/mri/raw", sources=[file])
    denoised = make(f"{lab.url}/mri/denoised", [cite(raw)], params={"sigma": 1.5, "axes": ["y", "x"]})
    labels = make(f"{other.url}/mri/mask", [cite(denoised, store=lab.id)], name="segment.unet", models=[WEIGHTS])
    table = make(
        f"{lab.url}/mri/table",
        [cite(labels, "labels", store=other.id), cite(denoised), cite(raw, "reference")],
        name="measure.statistics",
    )
    return SimpleNamespace(raw=raw, denoised=denoised, labels=labels, table=table, lab=lab, other=other)


def ids(found: Lineage) -> set[str]:
    return set(found.nodes)


def links(found: Lineage) -> set[tuple[str, str, str]]:
    return {(edge.child, edge.parent, edge.role) for edge in found.edges}


def everything(study: SimpleNamespace) -> None:
    find("", study.lab.url, study.other.url)


def test_up_goes_back_to_the_raw_file_through_another_store(study: SimpleNamespace) -> None:
    everything(study)
    found = lineage(study.table.ref)
    assert ids(found) == {study.table.id, study.labels.id, study.denoised.id, study.raw.id, WEIGHTS.digest}
    assert links(found) == {
        (study.table.id, study.labels.id, "labels"),
        (study.table.id, study.denoised.id, "image"),
        (study.table.id, study.raw.id, "reference"),
        (study.labels.id, study.denoised.id, "image"),
        (study.labels.id, WEIGHTS.digest, "model"),
        (study.denoised.id, study.raw.id, "image"),
    }
    assert found.nodes[study.labels.id].store == study.other.id
    assert found.nodes[study.raw.id].record["sources"][0]["name"] == "brain.nii.gz"
    assert found.notes == ()


def test_down_finds_what_was_made_in_another_store(study: SimpleNamespace) -> None:
    everything(study)
    assert ids(lineage(study.raw.ref, up=False, down=True)) == {
        study.raw.id, study.denoised.id, study.labels.id, study.table.id,
    }  # fmt: skip
    assert ids(lineage(study.labels.ref, up=True, down=True)) == {
        study.raw.id, study.denoised.id, study.labels.id, study.table.id, WEIGHTS.digest,
    }  # fmt: skip
    assert study.raw.id not in ids(lineage(study.labels.ref, up=False, down=True))


def test_weights_lead_down_to_all_they_made(study: SimpleNamespace) -> None:
    everything(study)
    lineage(study.lab.url + "/mri/raw")
    found = lineage(WEIGHTS.digest, up=False, down=True)
    assert ids(found) == {WEIGHTS.digest, study.labels.id, study.table.id}
    assert found.nodes[WEIGHTS.digest].title == "unet"


def test_an_input_in_a_store_nobody_pointed_at_appears_by_its_id(study: SimpleNamespace) -> None:
    found = lineage(study.table.ref)
    node = found.nodes[study.labels.id]
    assert not node.known
    assert node.store == study.other.id
    assert study.labels.id in found.tree()
    assert WEIGHTS.digest not in found.nodes


def test_a_store_that_is_away_is_shown_as_last_seen(study: SimpleNamespace, tmp_path: Path) -> None:
    everything(study)
    shutil.move(study.other.url, tmp_path / "unplugged")
    found = lineage(study.table.ref)
    assert found.nodes[study.labels.id].known
    (note,) = found.notes
    assert "other.zarr" in note
    assert str(tmp_path) not in note


def test_a_step_made_since_is_seen(study: SimpleNamespace) -> None:
    everything(study)
    lineage(study.raw.ref)
    later = make(f"{study.other.url}/mri/more", [cite(study.raw, store=study.lab.id)])
    assert later.id in ids(lineage(study.raw.ref, down=True))


def test_the_start_of_an_id_is_enough_where_only_one_starts_so(study: SimpleNamespace) -> None:
    everything(study)
    lineage(study.raw.ref)
    assert lineage(study.table.id[:20]).root == study.table.id
    with pytest.raises(NotFound):
        lineage("blake3:" + "0" * 12)
    with pytest.raises(NotFound):
        lineage("blake3:")


def test_depth_limits_the_steps_and_says_where_it_cut(study: SimpleNamespace) -> None:
    everything(study)
    found = lineage(study.labels.ref, depth=1)
    assert ids(found) == {study.labels.id, study.denoised.id, WEIGHTS.digest}
    assert found.cut == {study.denoised.id}
    assert "more beyond" in found.tree()
    assert "more beyond" in found.svg()
    assert lineage(study.labels.ref, depth=2).cut == frozenset()
    with pytest.raises(InvalidInput):
        lineage(study.labels.ref, depth=0)


def test_the_tree_shows_every_version_once(study: SimpleNamespace) -> None:
    everything(study)
    text = lineage(study.table.ref).tree()
    for version in (study.raw, study.denoised, study.labels, study.table):
        assert len(re.findall(rf"{version.place}  ", text)) == 1
    assert text.count("mri/raw/v1 (see above)") == 1
    assert text.count("mri/denoised/v1 (see above)") == 1
    assert "denoise.gaussian sigma=1.5" in text
    assert "brain.nii.gz (NIfTI-1, 12,345 bytes" in text
    assert "other.zarr/mri/mask/v1" in text


def test_a_long_chain_is_no_trouble(lab: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeper than Python's recursion goes, put into the cache directly: sealing thousands would take long."""
    from emstore.lineage.graph import LINES, gather
    from emstore.lineage.index import Index

    count = 3000
    with Index() as index:
        with index.transaction():
            db = index.select("1").connection
            db.executemany("insert into node values (?, ?)", [(n, f"blake3:{n:064x}") for n in range(count)])
            db.executemany("insert into edge values (?, ?, 'image', ?, '')", [(n, n - 1, f"a/b/v{n}") for n in range(1, count)])
        found = gather(index, count - 2, up=True, down=False, depth=None, notes=[])
    assert len(found.nodes) == count - 1
    assert len(found.tree(most=None).splitlines()) == count - 1
    lines = found.tree().splitlines()
    assert len(lines) == LINES + 1
    assert f" {count - 1 - LINES:,} more" in lines[-1]
    with pytest.raises(InvalidInput, match="too many for a picture"):
        found.svg()
    with monkeypatch.context() as patched:
        patched.setattr("emstore.lineage.prov.MOST", count - 2)
        with pytest.raises(InvalidInput, match="too many for PROV"):
            found.prov()
        with pytest.raises(InvalidInput, match="too many for an RO-Crate"):
            found.crate(tmp_path / "crate")


def test_json_holds_the_graph(study: SimpleNamespace) -> None:
    everything(study)
    found = lineage(study.table.ref)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {node["id"] for node in document["nodes"]} == ids(found)
    assert {(e["child"], e["parent"], e["role"]) for e in document["edges"]} == links(found)
    assert {store["id"]: store["name"] for store in document["stores"]} == {
        study.lab.id: "lab.zarr",
        study.other.id: "other.zarr",
    }
    assert document["root"] == study.table.id


SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> dict[str, tuple[float, float, float, float]]:
    """Return x, y, width and height of every box by the first line of its text."""
    found = {}
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        assert text is not None
        found[str(text.text)] = tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return found  # type: ignore[return-value]


def test_the_picture_has_a_box_for_everything_and_none_over_another(study: SimpleNamespace) -> None:
    everything(study)
    found = boxes(lineage(study.table.ref).svg())
    assert set(found) == {"mri/table/v1", "mri/mask/v1", "mri/denoised/v1", "mri/raw/v1", "unet", "brain.nii.gz"}
    for one, (x, y, w, h) in found.items():
        for two, (a, b, c, d) in found.items():
            assert one == two or x + w <= a or a + c <= x or y + h <= b or b + d <= y
    for child, parent in (
        ("mri/table/v1", "mri/mask/v1"), ("mri/mask/v1", "mri/denoised/v1"), ("mri/mask/v1", "unet"),
        ("mri/denoised/v1", "mri/raw/v1"), ("mri/raw/v1", "brain.nii.gz"),
    ):  # fmt: skip
        assert found[parent][0] + found[parent][2] < found[child][0]


def test_every_line_of_the_picture_ends_at_two_boxes(study: SimpleNamespace) -> None:
    everything(study)
    picture = lineage(study.table.ref).svg()
    edges = {box[:2]: (box, name) for name, box in boxes(picture).items()}
    ends = set()
    for path in ElementTree.fromstring(picture).iter(f"{SVG}path"):
        if path.attrib["fill"] != "none":
            continue
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.attrib["d"])]
        (x0, y0), (x1, y1) = numbers[:2], numbers[-2:]
        start = next(name for (x, y), ((*_, w, h), name) in edges.items() if abs(x + w - x0) < 1 and y <= y0 <= y + h)
        end = next(name for (x, y), ((*_, h), name) in edges.items() if abs(x - x1) < 1 and y <= y1 <= y + h)
        ends.add((start, end))
    assert len(ends) == 7
    assert ("mri/raw/v1", "mri/table/v1") in ends


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "\x1b[31mred", "☃" * 200, '"]]>'])
def test_the_picture_is_xml_whatever_names_hold(lab: Store, name: str) -> None:
    file = SourceFile(name=name.replace("/", "|"), size=1, digest=f"blake3:{1:064x}", format="x")
    raw = make(f"{lab.url}/a/raw", sources=[file])
    root = ElementTree.fromstring(lineage(raw.ref).svg())
    assert [child.tag for child in root.iter() if child.tag.endswith("script")] == []
    assert "\x1b" not in lineage(raw.ref).svg()


def test_the_room_is_called_by_its_name(study: SimpleNamespace) -> None:
    assert emstore.lineage(study.denoised.ref).root == study.denoised.id
    assert emstore.lineage(study.denoised.ref, down=True, depth=1).down
    found = emstore.lineage(study.denoised.ref)
    assert repr(found) == "<emstore.Lineage of mri/denoised/v1: 2 versions, 1 uses>"
    assert found._repr_svg_() == found.svg()
    assert str(found) == found.tree()


def test_no_version_or_no_store_is_told_of(lab: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        lineage(f"{lab.url}/mri/raw")
    with pytest.raises(NotFound):
        lineage(str(tmp_path / "none" / "a" / "b"))
    with pytest.raises(InvalidInput):
        lineage(lab.url)


def test_a_raw_version_alone_has_no_uses(lab: Store) -> None:
    raw: Version = make(f"{lab.url}/mri/raw", when=datetime(2026, 1, 2, tzinfo=UTC))
    found = lineage(raw.ref, down=True)
    assert found.edges == ()
    assert "2026-01-02" in found.tree()
    assert len(boxes(found.svg())) == 1


def test_stores_by_relative_paths_are_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    create_store("here.zarr")
    raw = make("here.zarr/a/raw")
    assert [each.ref for each in find("", "here.zarr").found] == ["here.zarr/a/raw/v1"]
    monkeypatch.chdir(tmp_path)
    assert [each.id for each in find("").found] == [raw.id]
    assert lineage(find("").found[0].ref).root == raw.id


def test_a_store_on_a_plain_web_server_is_followed_by_its_citations(study: SimpleNamespace) -> None:
    with serve(Path(study.lab.url).parent) as served:
        found = lineage(f"{served.url}/lab.zarr/mri/denoised/v1")
        assert {node.id for node in found.nodes.values() if node.known} == {study.denoised.id, study.raw.id}
        assert found.nodes[study.raw.id].record["sources"][0]["name"] == "brain.nii.gz"


# -- more than is read at once ---------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 2], ids=["one at a time", "two at a time"])
def many(study: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Lineage, Lineage]:
    """The same lineage, read at once and read when it is looked at."""
    from emstore.lineage import graph, web

    everything(study)
    few = lineage(study.labels.ref, down=True)
    monkeypatch.setattr(graph, "FEW", request.param)
    monkeypatch.setattr(web, "FEW", request.param or 1)
    return few, lineage(study.labels.ref, down=True)


def test_a_lineage_read_when_it_is_looked_at_is_the_same(many: tuple[Lineage, Lineage]) -> None:
    few, later = many
    assert later.nodes.few is None
    assert list(later.nodes) == list(few.nodes)
    assert list(later.nodes.values()) == list(few.nodes.values())
    assert dict(later.nodes.items()) == dict(few.nodes.items())
    assert {id_: later.nodes[id_] for id_ in few.nodes} == dict(few.nodes)
    assert "blake3:" + "0" * 64 not in later.nodes
    assert set(later.edges) == set(few.edges)
    assert len(later.edges) == len(few.edges)
    assert later.edges[0] in few.edges
    assert dict(later.inputs) == dict(few.inputs)
    assert dict(later.uses) == dict(few.uses)
    assert dict(later.stores) == dict(few.stores)
    assert (later.root, later.cut, later.notes) == (few.root, few.cut, few.notes)


def test_every_form_is_the_same_whenever_it_is_read(many: tuple[Lineage, Lineage]) -> None:
    few, later = many
    assert later.tree() == few.tree()
    assert later.svg() == few.svg()
    one, two = few.to_json(), later.to_json()
    for document in (one, two):
        document["edges"].sort(key=str)
        document["stores"].sort(key=str)
    assert one == two


def test_what_was_purged_meanwhile_was_never_seen(many: tuple[Lineage, Lineage], study: SimpleNamespace) -> None:
    _, later = many
    shutil.rmtree(Path(study.raw.store.url) / str(study.raw.place))
    find("", study.lab.url)
    assert not later.nodes[study.raw.id].known
    assert later.nodes[study.denoised.id].known


def test_nothing_leads_out_of_a_lineage(study: SimpleNamespace, many: tuple[Lineage, Lineage]) -> None:
    """The table reads the raw version too, which is above the labels, while the table is below them: no part of either side."""
    _, later = many
    assert (study.table.id, study.raw.id, "reference") not in links(later)


def test_a_cut_tree_says_how_much_is_left_out(study: SimpleNamespace) -> None:
    everything(study)
    found = lineage(study.table.ref)
    assert found.tree(most=2).splitlines()[2:] == ["... and 3 more versions; give a depth, or write it all as JSON"]
    assert found.tree(most=10**6) == found.tree() == found.tree(most=None)
