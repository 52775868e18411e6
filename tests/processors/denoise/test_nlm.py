"""Non-local means against its definition, and scikit-image."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import camera
from skimage.restoration import denoise_nl_means

from emstore.errors import InvalidInput
from emstore.processors.denoise import NonLocalMeans
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks

RNG = np.random.default_rng(7)
SCENE = RNG.normal(0, 4, (3, 40, 50)) + 60 * (np.add.outer(np.arange(40), np.arange(50)) % 23 > 11)


def written_out(
    values: npt.NDArray[np.float64], patch: int, distance: int, strength: float, sigma: float
) -> npt.NDArray[np.float64]:
    """Return the definition, voxel by voxel."""
    radius = patch // 2
    mirrored = np.pad(values, radius + distance, mode="symmetric")
    patches = np.lib.stride_tricks.sliding_window_view(mirrored, (patch,) * values.ndim)
    result = np.empty_like(values)
    for index in np.ndindex(values.shape):
        around = tuple(slice(i, i + 2 * distance + 1) for i in index)
        own = patches[tuple(i + distance for i in index)]
        squares = ((patches[around] - own) ** 2).mean(axis=tuple(range(-values.ndim, 0)))
        weights = np.exp(-np.maximum(0, squares - 2 * sigma**2) / (strength * sigma) ** 2)
        centres = tuple(slice(i + radius, i + radius + 2 * distance + 1) for i in index)
        result[index] = (weights * mirrored[centres]).sum() / weights.sum()
    return result


@settings(max_examples=80, deadline=None)
@given(
    values=arrays(types=("u1", "<i2", ">f4", "f8", "i4"), largest=8),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    axes=st.sampled_from(["slice", "volume", ("z", "x"), ("y",)]),
    patch=st.sampled_from([1, 3, 5]),
    distance=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float64", "same"]),
    noise=st.sampled_from([{"sigma": 40.0}, {"stabilise": {"gain": 3.0}}]),
)
def test_blocks_make_the_whole_exactly(
    values: npt.NDArray[Any], block: tuple[int, ...], axes: Any, patch: int, distance: int, dtype: str, noise: dict[str, Any]
) -> None:
    volume = over(values)
    operation = planned(NonLocalMeans(), volume, axes=axes, patch=patch, distance=distance, dtype=dtype, **noise)
    assert operation.tolerance == 0
    same_whatever_the_blocks(operation, (volume,), block)


@settings(max_examples=30, deadline=None)
@given(
    values=arrays(types=("u1", "f4"), largest=6),
    patch=st.sampled_from([1, 3, 5]),
    distance=st.integers(1, 3),
    strength=st.sampled_from([0.5, 2.0]),
)
def test_it_is_the_definition(values: npt.NDArray[Any], patch: int, distance: int, strength: float) -> None:
    given: dict[str, Any] = {"sigma": 40.0, "patch": patch, "distance": distance, "strength": strength, "dtype": "float64"}
    exact = values.astype(np.float64)
    np.testing.assert_allclose(
        run(NonLocalMeans(), over(values), axes="volume", **given),
        written_out(exact, patch, distance, strength, 40.0),
        rtol=1e-9,
        atol=1e-9,
    )
    np.testing.assert_allclose(
        run(NonLocalMeans(), over(values), **given)[0],
        written_out(exact[0], patch, distance, strength, 40.0),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("sigma", [8.0, 20.0])
def test_a_photograph_comes_out_as_from_scikit_image(sigma: float) -> None:
    """It mirrors without the edge, cuts weights off and approximates exp: a part of the noise apart, no worse a picture."""
    clean = camera()[100:228, 150:300].astype(float)
    noisy = clean + RNG.normal(0, sigma, clean.shape)
    ours = run(NonLocalMeans(), over(noisy), sigma=sigma, dtype="float64", block=(50, 60))
    theirs = denoise_nl_means(noisy, 5, 6, 0.8 * sigma, True, sigma, preserve_range=True)

    def error(image: npt.NDArray[np.float64]) -> float:
        return float(np.sqrt(((image - clean) ** 2).mean()))

    assert np.sqrt(((ours - theirs) ** 2).mean()) < 0.3 * sigma
    assert error(ours) < 1.05 * error(theirs) < error(noisy)


def test_a_hot_pixel_leaves_the_rest_alone() -> None:
    values = RNG.normal(100, 1, (1, 20, 20))
    clean = run(NonLocalMeans(), over(values), sigma=1.0)
    values[0, 10, 10] = 1e25
    result = run(NonLocalMeans(), over(values), sigma=1.0)
    assert np.isfinite(result).all()
    assert result[0, 10, 10] == pytest.approx(1e25, rel=1e-6)
    apart = np.ones((20, 20), bool)
    apart[8:13, 8:13] = False  # whose patches hold it
    assert np.abs(result - clean)[0, apart].max() < 0.5


def test_estimated_noise_is_one_figure_for_the_whole_volume() -> None:
    """Blocks over a quiet and a noisy half must not be told different noise."""
    values = np.concatenate([RNG.normal(0, 1, (30, 60)), RNG.normal(0, 9, (30, 60))])[None]
    volume = over(values)
    operation = planned(NonLocalMeans(), volume, patch=3, distance=2)
    same_whatever_the_blocks(operation, (volume,), (1, 30, 60))


def test_time_is_left_alone() -> None:
    film = over(SCENE.astype(np.float32), *axes_of("tyx", SCENE.shape))
    still = over(SCENE[:1].astype(np.float32), *axes_of("tyx", (1, 40, 50)))
    assert (run(NonLocalMeans(), film, axes="volume", sigma=4.0)[:1] == run(NonLocalMeans(), still, sigma=4.0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    values = SCENE.copy()
    values[1, 5, 5] = bad
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        run(NonLocalMeans(), over(values), sigma=4.0)
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        run(NonLocalMeans(), over(values))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"patch": 4}, "odd"),
        ({"axes": ("z",)}, "at least 3 by 3"),
        ({"axes": ("w",)}, "no axis"),
        ({"axes": "volume", "distance": 99}, "at most 100000"),
    ],
)
def test_nonsense_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        planned(NonLocalMeans(), over(SCENE), **params)
