"""Tables are versions: sealed, opened by everybody's readers, read back as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import emstore
import emstore_schemas
from command_line import call, result
from emstore.errors import Damaged, InvalidInput, Kind
from emstore.store import begin, digest, open_store, resolve, seal_table, verify
from emstore.store.tables import CHUNK_ROWS
from emstore.table import Column, Table
from other_readers import inline_documents, with_tensorstore, with_zarr
from range_server import serve
from sealed import _record, seal_a_table


def table(rows: int = 7) -> Table:
    area = np.arange(rows) * 1.25
    area[rows // 2 :: 3] = np.nan
    return Table(
        "pores",
        {
            "z": Column(np.arange(rows, dtype="i8"), None, "slice"),
            "depth": Column(np.arange(rows) * 0.5, "second"),
            "area": Column(area.astype("f4"), "nanometer^2", "area of all pores"),
            "touches": Column(np.arange(rows) % 3 == 0),
            "sample": Column(np.array([f"Probe {i % 3} ä" if i % 5 else "" for i in range(rows)], dtype="U")),
            "none": Column(np.zeros(rows, "u2")),
        },
        {"porosity": 0.25, "unknown": None, "count": 12},
        ("pores at the border are left out",),
    )


def equal(a: Table, b: Table) -> None:
    assert list(a.columns) == list(b.columns)
    assert (a.name, dict(a.summary), a.notes) == (b.name, dict(b.summary), b.notes)
    for name, column in a.columns.items():
        other = b.columns[name]
        assert (column.unit, column.description) == (other.unit, other.description)
        assert column.values.dtype.kind == other.values.dtype.kind
        if column.values.dtype.kind != "U":
            assert column.values.dtype == other.values.dtype
            assert column.values.tobytes() == other.values.tobytes()
        else:
            assert column.values.tolist() == other.values.tolist()


@pytest.fixture
def lab(tmp_path: Path) -> str:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    return str(tmp_path / "lab.zarr")


@pytest.mark.parametrize("rows", [7, 1, 0, CHUNK_ROWS + 3])
def test_a_table_comes_back(lab: str, rows: int) -> None:
    sealed = seal_a_table(table(rows), f"{lab}/pores/run")
    again = emstore.open(f"{lab}/pores/run")
    assert again.id == sealed.id
    equal(again.table(), table(rows))
    assert all(one.ok for one in verify(*resolve(sealed.ref), data=True))
    assert "ome" not in sealed.document["attributes"]
    emstore_schemas.validate("version", sealed.document["attributes"]["emstore"])


@pytest.mark.parametrize("rows", [7, 0, CHUNK_ROWS + 3])
@pytest.mark.parametrize("remote", [False, True])
def test_other_readers_open_it(lab: str, rows: int, remote: bool, tmp_path: Path) -> None:
    truth = table(rows)
    seal_a_table(truth, f"{lab}/pores/run")
    with serve(tmp_path) as served:
        where = f"{served.url}/lab.zarr/pores/run/v1" if remote else f"{lab}/pores/run/v1"
        tree = xr.open_datatree(where, engine="zarr", chunks=None, consolidated=True)
        dataset = tree["s0"].to_dataset().load()
        equal(emstore.open(where).table(), truth)
        group = with_zarr(where)
        assert set(dataset.data_vars) == set(truth.columns)
        for name, column in truth.columns.items():
            found = dataset[name]
            assert found.dims == ("row",)
            assert found.attrs.get("units") == column.unit
            stored = group["s0"][name][:]
            np.testing.assert_array_equal(with_tensorstore(f"{where}/s0/{name}").read().result(), stored)
            if column.values.dtype.kind == "U":
                texts = np.asarray(found.attrs["categories"], dtype="U")
                assert texts[found.values].tolist() == column.values.tolist() if rows else found.size == 0
                assert len(found.attrs.get("flag_meanings", "").split()) == len(found.attrs.get("flag_values", [])) == len(texts)
            else:
                np.testing.assert_array_equal(found.values, column.values)
                np.testing.assert_array_equal(stored, column.values)


def test_the_documents_are_in_the_seal_and_beside_the_data(lab: str) -> None:
    version = seal_a_table(table(), f"{lab}/pores/run")
    with serve(Path(lab)) as served:
        assert inline_documents(f"{served.url}/pores/run/v1") == {"s0", *(f"s0/{name}" for name in table().columns)}
    assert version.info.volume.kind == "table"


COLUMNS = st.sampled_from(["bool", "i1", "u2", "i8", "u8", "f2", "f4", "f8"]).map(np.dtype)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.lists(COLUMNS, min_size=1, max_size=4), st.data())
def test_any_values_come_back(tmp_path_factory: pytest.TempPathFactory, rows: int, types: list[Any], data: st.DataObject) -> None:
    lab = tmp_path_factory.mktemp("any") / "lab.zarr"
    emstore.create_store(str(lab))
    columns = {f"c{i}": Column(data.draw(hnp.arrays(dtype, rows))) for i, dtype in enumerate(types)}
    columns["text"] = Column(np.array(data.draw(st.lists(TEXTS, min_size=rows, max_size=rows)), dtype="U"))
    made = Table("any", columns)
    equal(seal_a_table(made, f"{lab}/a/b").table(), made)


def test_xarray_of_a_table(lab: str) -> None:
    version = seal_a_table(table(), f"{lab}/pores/run")
    dataset = version.xarray()
    assert list(dataset.data_vars) == list(table().columns)
    assert dataset["sample"].values.tolist() == table().columns["sample"].values.tolist()
    assert dataset["area"].attrs == {"units": "nanometer^2", "long_name": "area of all pores"}
    assert dataset.attrs["porosity"] == 0.25
    assert version.datatree()["s0/z"].values.tolist() == list(range(7))


def test_a_table_is_no_image_and_an_image_no_table(lab: str) -> None:
    version = seal_a_table(table(), f"{lab}/pores/run")
    for wrong in (version.volume, version.grid, version.array, version.dask):
        with pytest.raises(InvalidInput, match="table"):
            wrong()


@pytest.mark.parametrize(
    ("columns", "summary", "kind"),
    [
        ({"row": Column(np.zeros(2))}, {}, Kind.BAD_NAME),
        ({"Über uns": Column(np.zeros(2))}, {}, Kind.BAD_NAME),
        ({"a/../b": Column(np.zeros(2))}, {}, Kind.BAD_NAME),
        ({"long": Column(np.zeros(2, np.longdouble))}, {}, Kind.SOURCE_UNSUPPORTED),
        ({"text": Column(np.array(["\ud800"]))}, {}, Kind.SOURCE_UNSUPPORTED),
        ({"text": Column(np.array([f"{i:>2000}" for i in range(2200)]))}, {}, Kind.SOURCE_UNSUPPORTED),
        ({"a": Column(np.zeros(2))}, {"psnr": float("inf")}, Kind.INVALID_INPUT),
        ({"a": Column(np.zeros(2))}, {"x": np.zeros(2)}, Kind.INVALID_INPUT),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_sealed(
    lab: str, columns: dict[str, Column], summary: dict[str, Any], kind: Kind
) -> None:
    store, place = resolve(f"{lab}/pores/run")
    held = begin(store.backend, place, settings=digest(b"x"), task="t", store_id=store.id)
    with pytest.raises(InvalidInput) as error:
        seal_table(held, Table("t", columns, summary), _record)  # type: ignore[arg-type]
    assert error.value.kind is kind
    held.release()  # type: ignore[union-attr]
    assert result("ls", f"{lab}/pores")["versions"] == []


def test_a_stopped_seal_is_resumed(lab: str) -> None:
    store, place = resolve(f"{lab}/pores/run")

    def stop() -> Any:
        raise KeyboardInterrupt

    first = begin(store.backend, place, settings=digest(b"x"), task="t", store_id=store.id)
    with pytest.raises(KeyboardInterrupt):
        seal_table(first, table(), stop)  # type: ignore[arg-type]
    first.release()  # type: ignore[union-attr]
    second = begin(store.backend, place, settings=digest(b"x"), task="t", store_id=store.id)
    assert second.place == first.place
    seal_table(second, table(), _record)  # type: ignore[arg-type]
    equal(emstore.open(f"{lab}/pores/run/v1").table(), table())


def test_damage_is_found_and_never_read(lab: str) -> None:
    version = seal_a_table(table(), f"{lab}/pores/run")
    chunk = Path(lab, "pores/run/v1/s0/area/c/0")
    body = bytearray(chunk.read_bytes())
    body[len(body) // 3] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(Damaged, match="area"):
        version.table()
    assert result("verify", version.ref, "--data", code=10)["ok"] is False
    chunk.unlink()
    with pytest.raises(Damaged, match="area"):
        version.table()
    assert [f["key"] for f in result("verify", version.ref, code=10)["versions"][0]["findings"]] == ["pores/run/v1/s0/area/c/0"]


def test_the_command_line_shows_it(lab: str, tmp_path: Path) -> None:
    version = seal_a_table(table(), f"{lab}/pores/run")
    listed = result("ls", lab)["versions"]
    assert [(one["kind"], one["shape"], one["dims"]) for one in listed] == [("table", [7], ["row"])]
    assert "row:7" in call("ls", lab).stdout
    told = call("info", version.ref).stdout
    assert "area [nanometer^2]: area of all pores" in told
    assert "porosity" in told
    assert "pores at the border are left out" in told
    assert result("info", version.ref)["attributes"]["summary"]["porosity"] == 0.25
    assert result("verify", version.ref, "--data")["ok"] is True
    assert result("export", version.ref, tmp_path / "a.csv")["lost"]
    assert (
        (tmp_path / "a.csv").read_text(encoding="utf-8").startswith("z,depth [second],area [nanometer^2],touches,sample,none\n")
    )
    assert ".csv" in str(result("export", version.ref, tmp_path / "a.nii", code=2)["fix"])
    assert open_store(lab).id
