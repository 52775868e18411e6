"""SSIM and MS-SSIM against scikit-image."""

from typing import Any

import numpy as np
import pytest
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity

from emstore.errors import InvalidInput
from emstore.processors.measure import MultiScaleSimilarity, StructuralSimilarity
from measured import column, measure, on_grid

RANDOM = np.random.default_rng(3)
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def scene(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Smooth shapes, and the same with noise and a shift in brightness."""
    rows, columns = np.indices(shape[-2:]) / 9.0
    truth = 90 + 60 * np.sin(rows) * np.cos(columns) + RANDOM.normal(0, 8, shape)
    noisy = 0.9 * truth + RANDOM.normal(5, 15, shape)
    return noisy.clip(0, 250).astype(dtype), truth.clip(0, 250).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize(
    ("window", "theirs"),
    [
        ({}, GAUSSIAN),
        ({"window": "uniform"}, {}),
        ({"window": "uniform", "size": 11}, {"win_size": 11}),
        ({"sigma": 0.8, "size": 7}, {**GAUSSIAN, "sigma": 0.8}),
    ],
)
def test_ssim_is_scikit_images(dtype: str, window: dict[str, Any], theirs: dict[str, Any]) -> None:
    image, reference = scene((3, 33, 41), dtype)
    table = measure(StructuralSimilarity(), image, reference, data_range=255, **window)
    truth = [structural_similarity(a, b, data_range=255, **theirs) for a, b in zip(image, reference, strict=True)]
    np.testing.assert_allclose(column(table, "ssim"), truth, rtol=1e-9)
    assert table.summary["ssim"] == pytest.approx(np.mean(truth), rel=1e-9)
    assert 0.1 < table.summary["ssim"] < 0.95


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_along_any_axis(axis: str) -> None:
    image, reference = scene((25, 33, 21), "uint8")
    place = "zyx".index(axis)
    planes = zip(np.moveaxis(image, place, 0), np.moveaxis(reference, place, 0), strict=True)
    truth = [structural_similarity(a, b, data_range=255, **GAUSSIAN) for a, b in planes]
    table = measure(StructuralSimilarity(), image, reference, data_range="dtype", axis=axis, block=(6, 8, 21))
    np.testing.assert_allclose(column(table, "ssim"), truth, rtol=1e-9)


def test_a_single_image_and_a_series_of_volumes() -> None:
    image, reference = scene((2, 3, 30, 30), "uint8")
    truth = np.array(
        [
            [structural_similarity(a, b, data_range=255, **GAUSSIAN) for a, b in zip(*p, strict=True)]
            for p in zip(image, reference, strict=True)
        ]
    )
    one = measure(StructuralSimilarity(), image[0, 0], reference[0, 0], data_range=255)
    assert one.rows == 1
    assert one.summary["ssim"] == pytest.approx(truth[0, 0], rel=1e-9)
    frames = [on_grid(values, "tzyx", name) for values, name in ((image, "image"), (reference, "reference"))]
    np.testing.assert_allclose(column(measure(StructuralSimilarity(), *frames, data_range=255), "ssim"), truth.mean(1), rtol=1e-9)
    deep = measure(StructuralSimilarity(), *frames, data_range=255, axis="z", block=(1, 2, 13, 30))
    np.testing.assert_allclose(column(deep, "ssim"), truth.mean(0), rtol=1e-9)


def test_equal_images_are_as_similar_as_can_be() -> None:
    image = scene((2, 170, 170), "uint8")[0]
    assert measure(StructuralSimilarity(), image, image, data_range=255).summary["ssim"] == pytest.approx(1, abs=1e-12)
    assert measure(MultiScaleSimilarity(), image, image, data_range=255).summary["msssim"] == pytest.approx(1, abs=1e-12)
    turned = measure(MultiScaleSimilarity(), image, 255 - image, data_range=255).summary["msssim"]
    assert turned == 0


def test_nan_spoils_its_windows_only() -> None:
    image, reference = scene((1, 40, 40), "float64")
    image[0, 20, 20] = np.nan
    table = measure(StructuralSimilarity(), image, reference, data_range=255)
    assert (column(table, "unknown")[0], column(table, "count")[0]) == (11 * 11, 30 * 30 - 11 * 11)
    _, full = structural_similarity(np.nan_to_num(image[0]), reference[0], data_range=255, full=True, **GAUSSIAN)
    there = np.ones((40, 40), bool)
    there[15:26, 15:26] = False
    assert column(table, "ssim")[0] == pytest.approx(full[5:-5, 5:-5][there[5:-5, 5:-5]].mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "params", "match"),
    [
        ((2, 10, 30), {}, "needs 11"),
        ((2, 30, 30), {"size": 8}, "odd"),
        ((30, 30), {"axis": "y"}, "plane"),
        ((2, 30, 30), {"axis": "y"}, "needs 11"),
    ],
)
def test_windows_that_do_not_fit(shape: tuple[int, ...], params: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        measure(StructuralSimilarity(), *scene(shape, "uint8"), data_range=255, **params)


def reference_multiscale(image: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Wang et al. 2003, equation 7, from scikit-image's SSIM: with an endless K1 its luminance is 1 and the rest remains."""
    found = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        k1 = 0.01 if scale == 4 else 1e9
        found *= structural_similarity(image, reference, data_range=255, K1=k1, **GAUSSIAN) ** weight
        image, reference = (block_reduce(one, 2, np.mean) for one in (image, reference))
    return float(found)


def test_multiscale_is_what_the_paper_says() -> None:
    image, reference = scene((3, 192, 208), "uint8")
    table = measure(MultiScaleSimilarity(), image, reference, data_range="dtype", block=(2, 50, 50))
    truth = [reference_multiscale(a, b) for a, b in zip(image.astype("f8"), reference.astype("f8"), strict=True)]
    np.testing.assert_allclose(column(table, "msssim"), truth, rtol=1e-9)
    assert table.summary["msssim"] == pytest.approx(np.mean(truth), rel=1e-9)
    assert 0.3 < table.summary["msssim"] < 0.97


def test_odd_sides_double_their_last_row() -> None:
    image, reference = scene((1, 177, 165), "float64")
    table = measure(MultiScaleSimilarity(), image, reference, data_range=255)
    padded = [np.pad(one[0], [(0, 15), (0, 11)], mode="edge") for one in (image, reference)]
    assert 0 < abs(table.summary["msssim"] - reference_multiscale(*padded)) < 0.02  # near, since only the edge differs
    with pytest.raises(InvalidInput, match="needs 161"):
        measure(MultiScaleSimilarity(), image[:, :160], reference[:, :160], data_range=255)
