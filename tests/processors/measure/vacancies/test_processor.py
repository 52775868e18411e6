"""``measure.vacancies`` as a processor: its table, its summary, what it refuses."""

from typing import Any, ClassVar

import numpy as np
import pytest

from columns import image
from emstore.blocks.compute import evaluate
from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.geometry.axes import AxisKind
from emstore.processors.measure import Vacancies
from emstore.table import Table
from emstore.testing import ProcessorConformance, operations
from emstore.testing.processors import ProcessorCase
from emstore.volume import Volume, VolumeKind
from monolayers import monolayer
from sealed import volume

LAYERS = [monolayer((150, 140), seed=seed, dose=30_000.0) for seed in (1, 2)]


def counted(one: Volume, **params: Any) -> Table:
    found = evaluate(Vacancies().plan([one], Vacancies.params(**params)), [one])
    assert isinstance(found, Table)
    return found


def test_one_row_per_site_and_unusable_frames_by_name() -> None:
    frames = np.stack([LAYERS[0].counted(0), np.zeros((150, 140)), LAYERS[1].counted(0)]).astype(np.uint16)
    table = counted(image(frames))
    of = {name: column.values for name, column in table.columns.items()}
    assert set(of["frame"].tolist()) == {0, 2}
    assert any("frame 1 is left out: constant" in note for note in table.notes)
    assert table.summary["frames_used"] == 2
    assert table.summary["screened"] == [{"frame": 1, "reason": "constant: all its pixels have the same value"}]
    np.testing.assert_allclose(of["probability_0"] + of["probability_1"] + of["probability_2"], 1)
    np.testing.assert_allclose(of["expected_atoms"], of["probability_1"] + 2 * of["probability_2"])
    # The image's axes begin at 5 and -3 angstrom, with pixels of 0.2.
    np.testing.assert_allclose(of["y"], 5 + 0.2 * of["y_index"])
    np.testing.assert_allclose(of["x"], -3 + 0.2 * of["x_index"])
    assert (table.columns["y"].unit, table.columns["amplitude"].unit) == ("angstrom", "electron")
    true, sites = 0, 0
    for frame, layer in ((0, LAYERS[0]), (2, LAYERS[1])):
        counts = (of["frame"] == frame) & of["counted"]
        at = np.stack([of["y_index"][counts], of["x_index"][counts]], axis=1)
        nearest = np.argmin(np.hypot(*(at[:, None] - layer.chalcogens[None]).transpose(2, 0, 1)), axis=1)
        np.testing.assert_array_equal(of["call"][counts], layer.atoms[nearest])
        true, sites = true + int((2 - layer.atoms[nearest]).sum()), sites + int(counts.sum())
    assert table.summary["sites"] == sites
    assert table.summary["percent_missing"] == pytest.approx(100 * true / (2 * sites), abs=0.1)
    assert table.summary["percent_low"] <= 100 * true / (2 * sites) + 1e-9
    assert table.summary["percent_high"] >= 100 * true / (2 * sites) - 1e-9
    assert [frame["frame"] for frame in table.summary["per_frame"]] == [0, 2]


def test_frames_share_unless_they_are_apart_or_channels() -> None:
    layers = [monolayer((110, 110), seed=seed, dose=3_000.0) for seed in (1, 2)]
    frames = np.stack([layer.counted(0) for layer in layers]).astype(np.uint16)
    alone = [counted(image(frame)) for frame in frames]
    apart, together = counted(image(frames), frames="apart"), counted(image(frames))
    y, x = image(frames).grid.axes[-2:]
    attributes = {"quantity": "electrons"}
    channels = counted(volume("c", frames, Axis("c", 2, AxisKind.CHANNEL), y, x, attributes=attributes))
    by_itself = np.concatenate([table.columns["probability_2"].values for table in alone])
    np.testing.assert_array_equal(apart.columns["probability_2"].values, by_itself)
    np.testing.assert_array_equal(channels.columns["probability_2"].values, by_itself)
    assert np.abs(together.columns["probability_2"].values - by_itself).max() > 0.01
    assert any("all frames" in note for note in together.notes)
    widths = [one["percent_high"] - one["percent_low"] for table in alone for one in table.summary["per_frame"]]
    assert together.summary["percent_high"] - together.summary["percent_low"] < np.mean(widths)


def test_edge_rules() -> None:
    one = image(LAYERS[0].counted(1))
    tables = {rule: counted(one, edges=rule) for rule in ("exclude", "wrap", "all")}
    sites = {rule: table.summary["sites"] for rule, table in tables.items()}
    assert sites["exclude"] < sites["wrap"] < sites["all"]
    y, x = (tables["wrap"].columns[name].values for name in ("y_index", "x_index"))
    counts = tables["wrap"].columns["counted"].values
    edge = tables["exclude"].columns["at_edge"].values
    assert y[counts].min() < 8
    assert (np.minimum(149 - y, 139 - x)[counts] > 3).all()
    assert not (tables["exclude"].columns["counted"].values & edge).any()
    wide = counted(one, edge=30)
    places = np.stack([wide.columns[name].values for name in ("y_index", "x_index")], axis=1)[wide.columns["counted"].values]
    assert places.min() >= 30


def test_unknown_spacing_gives_pixels_and_the_pixel_size_does_not_matter() -> None:
    known, unknown = (counted(image(LAYERS[0].counted(1), spacing=spacing)) for spacing in (0.2, None))
    assert unknown.columns["y"].unit is None
    np.testing.assert_array_equal(unknown.columns["y"].values, unknown.columns["y_index"].values)
    np.testing.assert_array_equal(unknown.columns["probability_2"].values, known.columns["probability_2"].values)


def test_all_frames_unusable_is_an_empty_table() -> None:
    table = counted(image(np.random.default_rng(0).poisson(2.0, (3, 64, 70)).astype("uint8")))
    assert table.rows == 0
    assert table.summary["percent_missing"] is None
    assert sum("is left out" in note for note in table.notes) == 3
    assert counted(image(np.ones((90, 90))), method="two_sublattice").rows == 0


def test_what_one_atom_is_worth_can_be_stated() -> None:
    layer = monolayer((150, 140), seed=3, dose=60_000.0, one=0.25, double=0.0, single=0.08)
    one = image(layer.counted(0))
    low = counted(one, single=0.25, single_error=0.01)
    detector = counted(one, detector_mrad=(30, 70))
    plain = counted(one)
    assert any("0.250 +- 0.010" in note for note in low.notes)
    assert any("30-70 mrad" in note for note in detector.notes)
    assert any("not stated" in note for note in plain.notes)
    counts = low.columns["counted"].values
    at = np.stack([low.columns[name].values[counts] for name in ("y_index", "x_index")], axis=1)
    nearest = np.argmin(np.hypot(*(at[:, None] - layer.chalcogens[None]).transpose(2, 0, 1)), axis=1)
    np.testing.assert_array_equal(low.columns["call"].values[counts], layer.atoms[nearest])


def test_two_sublattices_as_a_table() -> None:
    layer = monolayer((300, 310), seed=5, pixel=0.14, single=0.0, double=0.06, chalcogen=0.6, dose=1e5)
    table = counted(image(layer.counted(0), spacing=0.14), method="two_sublattice")
    assert table.summary["method"] == "two_sublattice"
    assert table.summary["percent_low"] < table.summary["percent_missing"] < table.summary["percent_high"]
    assert np.isnan(table.columns["probability_2"].values).all()
    assert table.summary["per_frame"][0]["metal_columns"] > 80


@pytest.mark.parametrize(
    ("match", "params"),
    [("no width", {"detector_mrad": (70, 30)}), ("single_error", {"single_error": 0.1})],
)
def test_parameters_that_make_no_sense(match: str, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=match):
        counted(image(LAYERS[0].counted(0)), **params)


def test_what_is_no_image() -> None:
    one = image(np.zeros((30, 30), np.uint8))
    with pytest.raises(InvalidInput, match="labels"):
        counted(volume("labels", np.zeros((30, 30), np.uint8), *one.grid.axes, kind=VolumeKind.LABELS))
    with pytest.raises(InvalidInput, match="last two must be y and x"):
        counted(volume("line", np.zeros((30,), np.uint8), one.grid.axes[1]))
    with pytest.raises(InvalidInput):
        counted(image(np.zeros((30, 30), complex)))


class TestVacancies(ProcessorConformance):
    processor = Vacancies
    volumes: ClassVar[Any] = (
        image(np.stack([monolayer((60, 66), seed=1, pixel=0.3).counted(0), np.ones((60, 66))]).astype("uint16")),
    )
    params = ({}, {"method": "two_sublattice", "metal_separation": 8, "disc": 5, "chalcogen_separation": 5})
    executors = ("threads",)
    examples = 2

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Frames stay as they are and become more: what a frame shows decides what it takes."""
        [one] = case.volumes
        frames = np.resize(operations.values_of(one), (max(1, voxels // 32 // (60 * 66)), 60, 66))
        return (image(frames),)
