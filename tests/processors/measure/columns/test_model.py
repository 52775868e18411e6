"""The model of columns: its derivatives and information against finite differences, its bound against a dense inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from columns import gaussians
from emstore.processors.measure.columns import bound
from emstore.processors.measure.columns.cells import Cells, lay_cells
from emstore.processors.measure.columns.gaussians import curvature, expected, gradient, information

SHAPE = (30, 33)
PLACES = np.array([[9.2, 8.1], [10.4, 19.0], [20.1, 13.6], [21.3, 24.2], [3.9, 27.4]])


def layout(seed: int = 0) -> tuple[Cells, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = np.ones(SHAPE, bool)
    known[3, 4] = False
    cells = lay_cells(known, PLACES, radius=8, sigma=2.4, on=np.zeros(1))
    n = len(PLACES)
    rest = [rng.uniform(5, 9, n), rng.uniform(2, 2.6, n), rng.uniform(1, 3, n)]
    return cells, np.column_stack([PLACES + rng.normal(0, 0.2, (n, 2)), *rest])


def jacobian(cells: Cells, theta: np.ndarray) -> np.ndarray:
    columns = []
    for i in range(theta.size):
        step = np.zeros(theta.size)
        step[i] = 1e-5
        ends = (expected(cells, theta + sign * step.reshape(theta.shape)) for sign in (1, -1))
        columns.append((next(ends) - next(ends)) / 2e-5)
    return np.stack(columns, 1)


def dense(cells: Cells, blocks: np.ndarray) -> np.ndarray:
    n = cells.count
    whole = np.zeros((n, 5, n, 5))
    for one in range(n):
        for slot in np.flatnonzero(cells.present[one]):
            whole[one, :, cells.neighbours[one, slot], :] = blocks[one, :, slot]
    return whole.reshape(5 * n, 5 * n)


def variance(cells: Cells, theta: np.ndarray) -> np.ndarray:
    return np.where(cells.owner < cells.count, expected(cells, theta), np.inf)


def test_the_image_is_a_sum_of_gaussians_sampled_at_pixel_centres() -> None:
    cells, theta = layout()
    theta[:, 4] = 0
    found = expected(cells, theta).reshape(SHAPE)
    # Windows end at 4.5 widths: 4e-5 of the amplitude.
    np.testing.assert_allclose(found, gaussians(SHAPE, theta), atol=4e-4)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_derivatives_are_those_of_finite_differences(seed: int) -> None:
    cells, theta = layout(seed)
    slope = jacobian(cells, theta)
    residual = np.where(cells.owner < cells.count, np.random.default_rng(seed).normal(size=len(slope)), 0)
    np.testing.assert_allclose(gradient(cells, theta, residual).ravel(), slope.T @ residual, atol=1e-6)
    second = np.zeros((cells.count, 5, 5))
    for i in range(5):
        for sign in (1, -1):
            moved = theta.copy()
            moved[:, i] += sign * 1e-5
            second[:, :, i] += sign * gradient(cells, moved, residual) / 2e-5
    np.testing.assert_allclose(curvature(cells, theta, residual), second, atol=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_fisher_information_is_that_of_finite_differences(seed: int) -> None:
    cells, theta = layout(seed)
    slope, weight = jacobian(cells, theta), 1 / variance(cells, theta)
    fisher = slope.T @ (slope * weight[:, None])
    scale = 1 / np.sqrt(np.diag(fisher))
    found = dense(cells, information(cells, theta, weight))
    # Columns eight widths apart are taken as unrelated, which leaves out parts in 1e4.
    np.testing.assert_allclose(found * np.outer(scale, scale), fisher * np.outer(scale, scale), atol=1e-4)


def test_some_columns_alone_are_their_part_of_the_whole() -> None:
    """The same derivatives and the same blocks, from fewer pixels."""
    cells, theta = layout(4)
    used = cells.owner < cells.count
    residual = np.where(used, np.random.default_rng(1).normal(size=len(used)), 0)
    weight = 1 / variance(cells, theta)
    chosen = np.array([True, False, True, True, False])
    alone, kept = cells.take(chosen)
    others = np.where(chosen[:, None], theta * [1, 1, 0, 1, 0], theta)
    np.testing.assert_allclose(
        expected(alone, theta[chosen]) + expected(cells, others)[kept], expected(cells, theta)[kept], atol=1e-12
    )
    np.testing.assert_allclose(gradient(alone, theta[chosen], residual[kept]), gradient(cells, theta, residual)[chosen])
    pick = np.repeat(chosen, 5)
    whole = dense(cells, information(cells, theta, weight))[np.ix_(pick, pick)]
    np.testing.assert_allclose(dense(alone, information(alone, theta[chosen], weight[kept])), whole, atol=1e-9)


def test_the_bound_is_the_inverse_of_the_whole_information() -> None:
    """Of a lattice large enough for columns to lie outside each other's neighbourhoods."""
    rng = np.random.default_rng(3)
    places = np.stack(np.meshgrid(*(np.arange(6, 78, 11.0),) * 2, indexing="ij"), -1).reshape(-1, 2) + rng.normal(0, 0.3, (49, 2))
    cells = lay_cells(np.ones((80, 80), bool), places, radius=10, sigma=2.4, on=np.zeros(1))
    theta = np.column_stack([places, np.full(49, 8.0), rng.uniform(2, 2.6, 49), np.full(49, 2.0)])
    slope, weight = jacobian(cells, theta), 1 / variance(cells, theta)
    exact = np.sqrt(np.diag(np.linalg.inv(slope.T @ (slope * weight[:, None])))).reshape(-1, 5)
    found = bound.cramer_rao_bound(cells, theta, variance(cells, theta))
    np.testing.assert_allclose(found[:, :2], exact[:, :2], rtol=1e-3)
    np.testing.assert_allclose(found, exact, rtol=0.02)


def test_the_bound_of_a_lone_column_is_the_textbook_one() -> None:
    """Without background, N electrons of a Gaussian of width s tell its centre to s / sqrt(N)."""
    cells = lay_cells(np.ones((61, 61), bool), np.array([[30.0, 30.0]]), radius=29, sigma=3.0, on=np.zeros(1))
    theta = np.array([[30.2, 29.7, 100.0, 3.0, 1e-6]])
    electrons = 100 * 2 * np.pi * 3.0**2
    assert bound.cramer_rao_bound(cells, theta, variance(cells, theta))[0, :2] == pytest.approx(3 / np.sqrt(electrons), rel=2e-3)
