"""transform.calibrate: the values stay, what is said of them is corrected."""

from typing import Any

import numpy as np
import pytest

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, Grid, Space
from emstore.header import Header
from emstore.operation import Result
from emstore.processors.transform import Calibrate
from emstore.volume import Volume, VolumeKind
from in_blocks import axes_of, over, planned, same_whatever_the_blocks

VALUES = np.arange(24, dtype=">u2").reshape(2, 3, 4)


def corrected(volume: Volume, **params: Any) -> Result:
    operation = planned(Calibrate(), volume, **params)
    got = same_whatever_the_blocks(operation, (volume,), (1, 2, 3))
    np.testing.assert_array_equal(got, VALUES)
    assert operation.result is not None
    return operation.result


def placed(**z: Any) -> Volume:
    rng = np.random.default_rng(3)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [4.0, 0.5, 0.5]
    matrix[:3, 3] = [1, 2, 3]
    axes = (
        Axis("z", 2, unit="millimeter", **(z or {"spacing": 4.0})),
        *(Axis(n, s, spacing=0.5, unit="millimeter") for n, s in (("y", 3), ("x", 4))),
    )
    return over(VALUES, *axes, affine=Affine.of(matrix, Space.LPS, "millimeter"))


def line(grid: Grid) -> list[tuple[float | None, str | None, float]]:
    return [(axis.spacing, axis.unit, axis.origin) for axis in grid.axes]


def test_unknown_spacing_becomes_known() -> None:
    result = corrected(over(VALUES), spacing={"z": 15, "y": 5}, unit="nm", origin={"y": 100})
    assert line(result.grid) == [(15, "nanometer", 0), (5, "nanometer", 100), (None, None, 0)]


def test_spacing_alone_is_in_the_axes_own_unit() -> None:
    volume = over(VALUES, *axes_of("zyx", VALUES.shape, z=1.0, y=2.0, x=2.0))
    assert line(corrected(volume, spacing={"z": 3}).grid)[0] == (3, "nanometer", 0)
    assert line(corrected(volume, spacing={"z": 3}, unit="µm").grid)[0] == (3, "micrometer", 0)
    assert line(corrected(volume, origin={"z": 3}, unit="µm").grid)[0] == (1, "nanometer", pytest.approx(3000))


def test_a_unit_alone_is_the_true_name_of_the_numbers_that_are_there() -> None:
    volume = over(VALUES, *axes_of("tyx", VALUES.shape, t=0.5, y=2.0))
    assert line(corrected(volume, unit="angstrom").grid) == [(0.5, "second", 0), (2, "angstrom", 0), (None, None, 0)]
    result = corrected(placed(), unit="µm")
    assert {axis.unit for axis in result.grid.axes} == {"micrometer"}
    assert result.grid.affine is not None
    assert result.grid.affine.unit == "micrometer"
    assert result.grid.affine.matrix == placed().grid.affine.matrix  # type: ignore[union-attr]


def test_a_place_in_the_world_is_kept_and_stretched() -> None:
    volume = placed()
    old = volume.grid.affine
    assert old is not None
    result = corrected(volume, spacing={"z": 6000, "x": 250}, unit="micrometer")
    new = result.grid.affine
    assert new is not None
    assert new.voxel_sizes() == pytest.approx((6.0, 0.5, 0.25))
    np.testing.assert_allclose(new.world([0, 0, 0]), old.world([0, 0, 0]))
    np.testing.assert_allclose(new.world([2, 1, 4]), old.world([3, 1, 2]))
    assert [axis.spacing for axis in result.grid.axes] == pytest.approx([6, 0.5, 0.25])
    assert {axis.unit for axis in result.grid.axes} == {"millimeter"}
    with pytest.raises(InvalidInput, match="contradict"):
        planned(Calibrate(), volume, origin={"z": 1})


def test_unequal_steps_can_be_made_even_or_moved() -> None:
    volume = over(VALUES, Axis("z", 2, unit="nanometer", positions=(5.0, 8.0)), *axes_of("yx", (3, 4)))
    result = corrected(volume, spacing={"z": 4})
    assert result.grid.axes[0].coordinates().tolist() == [5, 9]
    assert "even" in result.notes[-1]
    assert corrected(volume, origin={"z": 0}).grid.axes[0].positions == (0.0, 3.0)


def test_terms_are_set_and_taken_out_and_everything_else_stays() -> None:
    header = Header("memory", terms={"sample/identifier_sample": "A6", "instrument/name": "Titan"})
    volume = over(VALUES, header=header, kind=VolumeKind.LABELS, modality="tem", attributes={"a": 1}, notes=("read",))
    result = corrected(
        volume,
        terms={
            "sample/identifier_sample": "A7",
            "instrument/name": None,
            "sample/thickness": {"value": 3.0, "unit": "nanometer"},
        },
    )
    assert result.terms == {"sample/identifier_sample": "A7", "sample/thickness": {"value": 3.0, "unit": "nanometer"}}
    assert (result.grid, result.kind, result.modality) == (volume.grid, VolumeKind.LABELS, "tem")
    assert (result.attributes, result.notes) == ({"a": 1}, ())  # how the source was read is told there
    assert header.terms["sample/identifier_sample"] == "A6"
    with pytest.raises(InvalidInput, match="no term"):
        planned(Calibrate(), volume, terms={"sample/nothing": None})


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({}, Kind.INVALID_INPUT),
        ({"spacing": {"q": 1}, "unit": "nm"}, Kind.INVALID_INPUT),
        ({"spacing": {"c": 1}, "unit": "nm"}, Kind.INVALID_INPUT),
        ({"spacing": {"y": 1}}, Kind.BAD_UNIT),  # none known
        ({"spacing": {"y": 1}, "unit": "second"}, Kind.BAD_UNIT),
        ({"spacing": {"y": 1}, "unit": "furlong"}, Kind.BAD_UNIT),
        ({"spacing": {"x": 0}}, Kind.BAD_SPACING),
        ({"spacing": {"x": -1}}, Kind.BAD_SPACING),
        ({"origin": {"y": 1}, "unit": "nm"}, Kind.BAD_SPACING),
        ({"unit": "second"}, Kind.BAD_UNIT),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], kind: Kind) -> None:
    volume = over(np.zeros((2, 3, 4)), *axes_of("cyx", (2, 3, 4), x=1.0))
    with pytest.raises(InvalidInput) as caught:
        planned(Calibrate(), volume, **params)
    assert caught.value.kind is kind


def test_a_unit_needs_a_spacing() -> None:
    with pytest.raises(InvalidInput) as caught:
        planned(Calibrate(), over(VALUES), unit="nm")
    assert caught.value.kind is Kind.BAD_SPACING
