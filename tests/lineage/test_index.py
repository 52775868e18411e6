"""The cache says what the seals say, reads each once, and can be made anew at any time."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from descent import cite, make
from emstore.errors import StorageFailed
from emstore.lineage import find
from emstore.lineage.closure import levels
from emstore.lineage.index import FEW, Index
from emstore.lineage.parts import KEPT, join
from emstore.store import Place, Store, create_store
from emstore.store.transaction import bury


def contents(index: Index) -> dict[str, Any]:
    """Return all the cache holds, but for its own numbers and times."""
    columns = f"id, created, kind, modality, activity, maker, {','.join(KEPT)}"
    versions = [
        (*row[:6], json.dumps(join(index.packed(row[6:])), sort_keys=True))
        for row in index.select(columns, where="from version join node using (n)")
    ]
    places = index.select(
        "s, dataset, array, number, id, stamp",
        where="from place join node using (n) join (select n as k, id as s from store) on k = place.store",
    )
    edges = index.select(
        "child.id, parent.id, role, ref, store",
        where="from edge join node child on child.n = edge.child join node parent on parent.n = edge.parent",
    )
    return {
        "versions": sorted(versions),
        "parts": sorted(index.select("digest, body", where="from part")),
        "places": sorted(places),
        "edges": sorted(edges),
    }


def rebuilt(path: Path, *stores: Store) -> dict[str, Any]:
    with Index(path) as fresh:
        for store in stores:
            assert fresh.refresh(store) == []
        return contents(fresh)


def test_it_says_what_the_seals_say(lab: Store) -> None:
    raw = make(f"{lab.url}/a/raw")
    made = make(f"{lab.url}/a/made", [cite(raw), cite(raw, "reference")], name="measure.ssim")
    with Index() as index:
        assert index.refresh(lab) == []
        found = contents(index)
        n = index.number(made.id)
        assert n is not None
        (kept,) = index.about(f"{','.join(KEPT)} from version where n in", [n])
        document = join(index.packed(kept))
    assert {row[0] for row in found["versions"]} == {raw.id, made.id}
    assert found["edges"] == [
        (made.id, raw.id, "image", "a/raw/v1", lab.id),
        (made.id, raw.id, "reference", "a/raw/v1", lab.id),
    ]
    sealed = json.loads((Path(lab.url) / "a/made/v1/zarr.json").read_text())["attributes"]["emstore"]
    assert document == {**sealed, "voxel": {**sealed["voxel"], "positions": {}}}


class Reads:
    """Counts what a store is asked for."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        real = store.backend.find

        def find(key: str) -> bytes | None:
            self.keys.append(key)
            return real(key)

        monkeypatch.setattr(store.backend, "find", find)

    def seals(self) -> list[str]:
        found, self.keys = [key for key in self.keys if "/v" in key], []
        return found


def test_a_seal_is_read_once(lab: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(f"{lab.url}/a/raw")
    make(f"{lab.url}/a/raw")
    reads = Reads(lab, monkeypatch)
    with Index() as index:
        index.refresh(lab)
        assert sorted(reads.seals()) == ["a/raw/v1/zarr.json", "a/raw/v2/zarr.json"]
    with Index() as index:
        index.refresh(lab)
        assert reads.seals() == []
        make(f"{lab.url}/a/raw")
        index.refresh(lab)
        assert reads.seals() == ["a/raw/v3/zarr.json"]


def test_what_is_gone_leaves_and_what_cites_it_stays(lab: Store, tmp_path: Path) -> None:
    raw = make(f"{lab.url}/a/raw")
    made = make(f"{lab.url}/a/made", [cite(raw)])
    make(f"{lab.url}/a/last", [cite(made)])
    with Index() as index:
        index.refresh(lab)
        shutil.rmtree(Path(lab.url) / "a/raw/v1")  # what purging leaves
        index.refresh(lab)
        found = contents(index)
        assert found == rebuilt(tmp_path / "one.sqlite", lab)
        assert [row[1:4] for row in found["places"]] == [("a", "last", 1), ("a", "made", 1)]
        assert index.number(raw.id) is not None  # still cited
        seal = Path(lab.url) / "a/made/v1/zarr.json"
        seal.unlink()
        assert bury(lab.backend, Place("a", "made", 1), "purged")
        index.refresh(lab)
        assert contents(index) == rebuilt(tmp_path / "two.sqlite", lab)
        assert index.number(raw.id) is None  # nobody cites it any more
        assert index.number(made.id) is not None


def test_a_number_used_again_is_another_version(lab: Store, tmp_path: Path) -> None:
    """Whoever deletes a folder by hand frees its number; the next seal may well be as long."""
    first = make(f"{lab.url}/a/raw")
    with Index() as index:
        index.refresh(lab)
        shutil.rmtree(Path(lab.url) / "a/raw/v1")
        second = make(f"{lab.url}/a/raw")
        assert second.ref == first.ref
        index.refresh(lab)
        assert index.number(first.id) is None
        assert contents(index) == rebuilt(tmp_path / "fresh.sqlite", lab)


def test_unsealed_and_aborted_versions_are_none(lab: Store) -> None:
    from emstore.store import Transaction, begin, digest

    held = begin(lab.backend, Place("a", "raw"), settings=digest(b"1"), task="test", store_id=lab.id)
    assert isinstance(held, Transaction)
    with Index() as index:
        index.refresh(lab)
        assert contents(index)["places"] == []
        held.abort("changed our minds")
        index.refresh(lab)
        assert contents(index)["places"] == []


def test_a_damaged_seal_is_told_of_and_hides_nothing_else(lab: Store) -> None:
    make(f"{lab.url}/a/raw")
    make(f"{lab.url}/a/raw")
    seal = Path(lab.url) / "a/raw/v1/zarr.json"
    seal.write_text(seal.read_text().replace('"made"', '"mode"'))
    with Index() as index:
        (note,) = index.refresh(lab)
        assert "a/raw/v1" in note
        assert "verify" in note
        assert [row[1:4] for row in contents(index)["places"]] == [("a", "raw", 2)]


def test_another_store_at_the_same_place_replaces_the_first(tmp_path: Path) -> None:
    url = str(tmp_path / "lab.zarr")
    first = create_store(url)
    make(f"{url}/a/raw")
    with Index() as index:
        index.refresh(first)
        shutil.rmtree(url)
        second = create_store(url)
        index.refresh(second)
        assert [store.id for store in index.stores()] == [second.id]
        assert contents(index)["places"] == []


def test_a_store_that_moved_is_one_store(tmp_path: Path, lab: Store) -> None:
    make(f"{lab.url}/a/raw")
    with Index() as index:
        index.refresh(lab)
        moved = tmp_path / "archive" / "lab.zarr"
        moved.parent.mkdir()
        shutil.move(lab.url, moved)
        from emstore.store import open_store

        index.refresh(open_store(str(moved)))
        assert [store.url for store in index.stores()] == [str(moved)]
        assert len(contents(index)["places"]) == 1


def test_a_copied_version_has_one_id_and_two_places(lab: Store, other: Store, tmp_path: Path) -> None:
    """As pushing to another store may leave it: the very same seal."""
    raw = make(f"{lab.url}/a/raw")
    make(f"{other.url}/a/x")
    shutil.copytree(Path(lab.url) / "a/raw", Path(other.url) / "a/raw")
    with Index() as index:
        index.refresh(lab)
        index.refresh(other)
        n = index.number(raw.id)
        assert n is not None
        assert len(list(index.about("store from place where n in", [n]))) == 2
        shutil.rmtree(Path(lab.url) / "a/raw/v1")
        index.refresh(lab)
        assert index.number(raw.id) == n  # the other store has it still
        assert contents(index) == rebuilt(tmp_path / "again.sqlite", lab, other)


steps = st.lists(
    st.tuples(st.sampled_from(["make", "make", "make", "purge", "refresh"]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_built_incrementally_it_equals_one_made_anew(tmp_path_factory: pytest.TempPathFactory, todo: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("anew")
    stores = [create_store(str(folder / name)) for name in ("one.zarr", "two.zarr")]
    made: list[Any] = []
    with Index(folder / "kept.sqlite") as kept:
        for what, i, k in todo:
            store = stores[i % 2]
            if what == "make":
                used = [made[j % len(made)] for j in {i, k}] if made else []
                inputs = {v.id: cite(v, store=None if v.store.id == store.id else v.store.id) for v in used}
                made.append(make(f"{store.url}/d/a{k % 2}", list(inputs.values())))
            elif what == "purge" and made:
                gone = made.pop(i % len(made))
                shutil.rmtree(Path(gone.store.url) / str(gone.place))
            else:
                kept.refresh(store)
        for store in stores:
            kept.refresh(store)
        assert contents(kept) == rebuilt(folder / "fresh.sqlite", *stores)
        kept.forget()
        for store in stores:
            kept.refresh(store)
        assert contents(kept) == rebuilt(folder / "fresh.sqlite", *stores)


@pytest.mark.parametrize("junk", [b"this is no database" * 100, b""])
def test_what_is_no_database_is_replaced(cache: Path, lab: Store, junk: bytes) -> None:
    cache.mkdir()
    (cache / "lineage.sqlite").write_bytes(junk)
    make(f"{lab.url}/a/raw")
    with Index() as index:
        index.refresh(lab)
        assert len(contents(index)["places"]) == 1


def test_a_cache_of_another_format_is_replaced(cache: Path, lab: Store) -> None:
    cache.mkdir()
    with sqlite3.connect(cache / "lineage.sqlite") as old:
        old.execute("create table something (else_)")
        old.execute("pragma user_version = 99")
    old.close()
    make(f"{lab.url}/a/raw")
    with Index() as index:
        index.refresh(lab)
        assert len(contents(index)["places"]) == 1


def test_a_cache_of_an_older_format_is_made_again_from_the_same_stores(cache: Path, lab: Store, other: Store) -> None:
    raw = make(f"{lab.url}/a/raw")
    made = make(f"{other.url}/a/made", [cite(raw, store=lab.id)])
    find("", lab.url, other.url)
    with sqlite3.connect(cache / "lineage.sqlite") as old:
        old.execute("drop table version")
        old.execute("drop table part")
        old.execute("create table version (n integer primary key, document blob not null)")
        old.execute("pragma user_version = 2")
    old.close()
    answer = find("")
    assert {found.id for found in answer.found} == {raw.id, made.id}
    assert answer.notes == ()


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMSTORE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageFailed) as failure:
        Index()
    assert "EMSTORE_HOME" in str(failure.value)


def test_only_the_user_may_read_it(cache: Path, lab: Store) -> None:
    with Index() as index:
        index.refresh(lab)
    assert (cache / "lineage.sqlite").stat().st_mode & 0o077 == 0


def test_it_is_never_inside_a_store(lab: Store) -> None:
    before = sorted(Path(lab.url).rglob("*"))
    with Index() as index:
        index.refresh(lab)
    assert sorted(Path(lab.url).rglob("*")) == before


def test_several_may_fill_it_at_once(lab: Store, tmp_path: Path) -> None:
    for _ in range(5):
        make(f"{lab.url}/a/raw")
    errors: list[Exception] = []

    def fill() -> None:
        try:
            with Index() as index:
                index.refresh(lab)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=fill) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Index() as index:
        assert contents(index) == rebuilt(tmp_path / "fresh.sqlite", lab)


# -- closures, against networkx --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80), st.integers(0, 30), st.none() | st.integers(1, 4)
)
def test_closures_are_those_of_networkx(pairs: list[tuple[int, int]], root: int, depth: int | None) -> None:
    edges = [(max(pair), min(pair)) for pair in pairs if pair[0] != pair[1]]
    graph = nx.DiGraph(edges)
    graph.add_node(root)
    start, end = (np.array([edge[i] for edge in edges], np.int64) for i in (0, 1))
    reached, level = levels(start, end, np.array([root]), depth=depth)
    expected = nx.single_source_shortest_path_length(graph, root, cutoff=depth)
    assert dict(zip(reached.tolist(), level.tolist(), strict=True)) == expected


@pytest.fixture
def web(tmp_path: Path, lab: Store) -> Iterator[tuple[Index, "nx.DiGraph[int]"]]:
    """A cache with many made-up uses, more than are followed step by step."""
    count = FEW * 2
    rng = np.random.default_rng(0)
    pairs = {(n, max(0, n - int(back))) for n in range(1, count) for back in rng.geometric(1 / 40, 2)}
    with Index() as index:
        with index.transaction():
            db = index.select("1").connection
            db.executemany("insert into node values (?, ?)", [(n, f"blake3:{n:064x}") for n in range(count)])
            db.executemany("insert into edge values (?, ?, 'image', '', '')", sorted(pairs))
        yield index, nx.DiGraph(sorted(pairs))


@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("root", [30, FEW, FEW * 2 - 1])
def test_reaching_is_the_same_in_steps_and_at_once(
    web: tuple[Index, "nx.DiGraph[int]"], root: int, up: bool, depth: int | None
) -> None:
    index, graph = web
    expected = nx.single_source_shortest_path_length(graph if up else graph.reverse(), root, cutoff=depth)
    for search in (index.reach, index.closure):
        reached, level = search([root], up=up, depth=depth)
        assert dict(zip(reached.tolist(), level.tolist(), strict=True)) == expected
        order = list(zip(level.tolist(), reached.tolist(), strict=True))
        assert order == sorted(order)
