"""MSE and PSNR against scikit-image, and what must be refused before two volumes are compared."""

from typing import Any

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from emstore.errors import InvalidInput
from emstore.geometry import Affine, Axis, Space
from emstore.processors.measure import (
    MeanSquaredError,
    MultiScaleSimilarity,
    Overlap,
    PeakSignalToNoise,
    RocCurve,
    StructuralSimilarity,
)
from emstore.volume import ValueScale, Volume
from measured import column, measure, on_grid
from sealed import volume

RANDOM = np.random.default_rng(11)


def pair(dtype: str, shape: tuple[int, ...] = (4, 21, 19)) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    truth = RANDOM.uniform(0, 100, shape)
    low = -128 if np.dtype(dtype).kind == "i" else 0
    return (truth + low + RANDOM.normal(0, 5, shape)).clip(low, 120).astype(dtype), (truth + low).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64"])
def test_mse_and_psnr_are_scikit_images(dtype: str) -> None:
    image, reference = pair(dtype)
    errors = measure(MeanSquaredError(), image, reference)
    ratios = measure(PeakSignalToNoise(), image, reference, data_range=130)
    for i, (a, b) in enumerate(zip(image.astype("f8"), reference.astype("f8"), strict=True)):
        assert column(errors, "mse")[i] == pytest.approx(mean_squared_error(a, b), rel=1e-12)
        assert column(ratios, "psnr")[i] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=130), rel=1e-12)
    wide = image.astype("f8"), reference.astype("f8")
    assert errors.summary["mse"] == pytest.approx(mean_squared_error(*wide), rel=1e-12)
    assert errors.summary["rmse"] == pytest.approx(np.sqrt(mean_squared_error(*wide)), rel=1e-12)
    assert ratios.summary["psnr"] == pytest.approx(peak_signal_noise_ratio(*wide[::-1], data_range=130), rel=1e-12)


def test_data_ranges() -> None:
    image, reference = pair("uint8")
    named = measure(PeakSignalToNoise(), image, reference, data_range="dtype")
    assert named.summary["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=255), rel=1e-12)
    span = int(np.ptp(reference))
    measured = measure(PeakSignalToNoise(), image, reference, data_range="measured", block=(3, 5, 6))
    assert measured.summary["data_range"] == span
    assert measured.summary["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=span), rel=1e-12)
    signed = pair("int16")
    assert measure(PeakSignalToNoise(), *signed, data_range="dtype").summary["data_range"] == 65535


@pytest.mark.parametrize("data_range", ["dtype", -1, 0, "guess", None])
@pytest.mark.parametrize("processor", [PeakSignalToNoise(), StructuralSimilarity(), MultiScaleSimilarity()])
def test_no_data_range_is_ever_guessed(processor: Any, data_range: Any) -> None:
    image, reference = pair("float32", (2, 200, 200))
    given = {} if data_range is None else {"data_range": data_range}
    with pytest.raises(ValueError, match="range"):
        measure(processor, image, reference, **given)


def test_a_constant_measures_no_range() -> None:
    table = measure(PeakSignalToNoise(), pair("uint8")[0], np.ones((4, 21, 19), "u1"), data_range="measured")
    assert np.isnan(column(table, "psnr")).all()
    assert (table.summary["psnr"], table.summary["data_range"]) == (None, None)
    assert table.summary["mse"] > 0
    assert "constant" in table.notes[0]
    with pytest.raises(ValueError, match="dtype"):  # every window needs it at once: it cannot be measured in the same pass
        measure(StructuralSimilarity(), *pair("uint8"), data_range="measured")


def test_types_that_differ_have_no_common_range() -> None:
    with pytest.raises(InvalidInput, match="uint16 and uint8"):
        measure(PeakSignalToNoise(), pair("uint8")[0], pair("uint16")[1], data_range="dtype")
    assert measure(MeanSquaredError(), pair("uint8")[0], pair("float32")[1]).summary["mse"]


def test_equal_images() -> None:
    image = pair("uint16")[0]
    table = measure(PeakSignalToNoise(), image, image, data_range="dtype")
    assert (column(table, "psnr") == np.inf).all()
    assert table.summary["psnr"] is None
    assert "infinite" in table.notes[0]


def test_nan_is_left_out_of_both() -> None:
    image, reference = pair("float64")
    image[0, 3, 4], reference[0, 5, 6], reference[2] = np.nan, np.nan, np.nan
    table = measure(MeanSquaredError(), image, reference)
    np.testing.assert_array_equal(column(table, "unknown"), [2, 0, 21 * 19, 0])
    there = [0, 1, 3]
    np.testing.assert_allclose(column(table, "mse")[there], np.nanmean((image - reference)[there] ** 2, axis=(1, 2)))
    assert np.isnan(column(table, "mse")[2])
    assert table.summary["mse"] == pytest.approx(np.nanmean((image - reference) ** 2))


VALUES = np.ones((4, 20, 20), "u1")


def grid(z: Axis | None = None, affine: Affine | None = None, **rest: Any) -> Volume:
    y, x = Axis("y", 20, spacing=0.5, unit="nanometer"), Axis("x", 20, spacing=0.5, unit="nanometer")
    return volume("reference", VALUES, z or Axis("z", 4, spacing=2.0, unit="nanometer"), y, x, affine=affine, **rest)


ELSEWHERE = [
    (grid(Axis("z", 4, spacing=2.1, unit="nanometer")), "along z"),
    (grid(Axis("z", 4, spacing=2.0, unit="micrometer")), "along z"),
    (grid(Axis("z", 4, spacing=2.0, unit="second")), "nanometer and second"),
    (grid(Axis("z", 4, spacing=2.0, unit="nanometer", origin=1.0)), "along z"),
    (grid(Axis("z", 4)), "knows its spacing along z"),
    (grid(Axis("z", 4, unit="nanometer", positions=(0.0, 2.0, 4.5, 6.0))), "along z"),
    (grid(Axis("w", 4, spacing=2.0, unit="nanometer")), "w:4"),
    (grid(affine=Affine.of(np.diag([2, 0.5, 0.5, 1]), Space.RAS, "nanometer")), "only one of them"),
    (on_grid(np.ones((4, 20, 21), "u1"), name="reference"), "x:21"),
    (on_grid(np.ones((20, 20), "u1"), name="reference"), "y:20"),
]


@pytest.mark.parametrize(("reference", "match"), ELSEWHERE, ids=[match for _, match in ELSEWHERE])
@pytest.mark.parametrize("processor", [MeanSquaredError(), StructuralSimilarity(), Overlap(), RocCurve()])
def test_other_grids_are_refused_by_name(processor: Any, reference: Volume, match: str) -> None:
    given = {"data_range": 255} if isinstance(processor, StructuralSimilarity) else {}
    with pytest.raises(InvalidInput, match=match) as error:
        measure(processor, grid(), reference, **given)
    assert error.value.where is not None
    assert "reference" in error.value.where


def test_the_same_grid_in_another_unit_is_the_same() -> None:
    image = volume("image", VALUES, Axis("z", 4, spacing=0.002, unit="micrometer"), *grid().grid.axes[1:])
    assert measure(MeanSquaredError(), image, grid()).summary["mse"] == 0


def test_turned_volumes_are_not_the_same_place() -> None:
    straight = np.diag([2, 0.5, 0.5, 1.0])
    turned = straight.copy()
    turned[1, 1] *= -1
    one, other = (grid(affine=Affine.of(matrix, Space.LPS, "nanometer")) for matrix in (straight, turned))
    assert measure(MeanSquaredError(), one, one).summary["mse"] == 0
    with pytest.raises(InvalidInput, match="apart in space"):
        measure(MeanSquaredError(), one, other)


def test_other_scales_are_refused() -> None:
    with pytest.raises(InvalidInput, match="different scales"):
        measure(MeanSquaredError(), grid(scale=ValueScale(2.0, 0.0, "HU")), grid())
    assert measure(MeanSquaredError(), grid(scale=ValueScale(1.0, 0.0, "HU")), grid()).summary["mse"] == 0
    with pytest.raises(InvalidInput, match="complex"):
        measure(MeanSquaredError(), on_grid(np.ones((4, 4), "c8")), on_grid(np.ones((4, 4), "c8")))
