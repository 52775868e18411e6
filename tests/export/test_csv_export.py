"""Tables as CSV, read back by Python's own reader."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emstore.errors import InvalidInput
from emstore.events import Advanced, Event, Started
from emstore.export import export
from emstore.table import Column, Table
from export_volumes import numbers, volume


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["f4", "f8", "i8", "u1", "bool"]), st.integers(0, 20), st.data())
def test_numbers_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, dtype: str, rows: int, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    values = data.draw(hnp.arrays(dtype, rows))
    export(Table("t", {"number": Column(np.arange(rows)), "value": Column(values)}), path)
    with path.open(encoding="utf-8", newline="") as file:
        found = [row["value"] for row in csv.DictReader(file)]
    parse = {"f": lambda text: float(text or "nan"), "b": lambda text: text == "True"}.get(values.dtype.kind, int)
    np.testing.assert_array_equal(np.array([parse(text) for text in found], dtype), values)


def test_text_units_and_unknown_numbers(tmp_path: Path) -> None:
    texts = ["plain", 'a "quoted", one', "two\nlines", "ä µ", ""]
    columns = {"text": Column(np.array(texts)), "size": Column(np.array([1.5, np.nan, np.inf, 0.1, -0.0]), "nanometer")}
    events: list[Event] = []
    lost = export(Table("t", columns, {"mean": 1.0}, ("a note",)), tmp_path / "a.csv", listener=events.append)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["text", "size [nanometer]"]
    assert [row[0] for row in rows] == texts
    assert [row[1] for row in rows] == ["1.5", "", "inf", "0.1", "-0.0"]
    assert len(lost) == 2
    assert "mean" in lost[0]
    assert isinstance(events[0], Started)
    assert sum(event.done for event in events if isinstance(event, Advanced)) == events[0].total


def test_a_volume_is_no_csv_and_a_table_no_tiff(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"image[\s\S]*\.ome\.tif"):
        export(volume(numbers((2, 3, 4), "i2"), "z y x"), tmp_path / "a.csv")
    with pytest.raises(InvalidInput, match=r"table[\s\S]*\.csv"):
        export(Table("t", {"a": Column(np.zeros(3))}), tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []
