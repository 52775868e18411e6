"""Overlap and ROC against analytic cases, scipy, and counts made with plain NumPy."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from emstore.errors import InvalidInput
from emstore.processors.measure import Overlap, RocCurve
from measured import column, measure

RANDOM = np.random.default_rng(5)
NAMES = ("dice", "jaccard", "accuracy", "precision", "sensitivity", "specificity")


def test_squares_that_half_overlap() -> None:
    image, reference = np.zeros((2, 10, 20), "u1"), np.zeros((2, 10, 20), "u1")
    image[0, :, 0:10] = 1
    reference[0, :, 5:15] = 1  # 50 in both, 50 only here, 50 only there, 50 in none
    table = measure(Overlap(), image, reference)
    assert [column(table, name)[0] for name in ("tp", "fp", "fn", "tn")] == [50, 50, 50, 50]
    assert [column(table, name)[0] for name in NAMES] == pytest.approx([0.5, 1 / 3, 0.5, 0.5, 0.5, 0.5])
    # The second slice holds nothing: only what counts the background is known there.
    assert np.isnan([column(table, name)[1] for name in ("dice", "jaccard", "precision", "sensitivity")]).all()
    assert [column(table, name)[1] for name in ("accuracy", "specificity")] == [1, 1]
    assert table.summary["accuracy"] == pytest.approx(300 / 400)
    assert table.summary["specificity"] == pytest.approx(250 / 300)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint64"])
def test_every_class_is_counted_by_itself(dtype: str) -> None:
    image, reference = (RANDOM.integers(0, 4, (3, 20, 30)).astype(dtype) for _ in range(2))
    table = measure(Overlap(), image, reference)
    assert table.rows == 9
    assert table.summary["classes"] == [1, 2, 3]
    for row in range(9):
        at, label = column(table, "slice")[row], column(table, "class")[row]
        a, b = image[at] == label, reference[at] == label
        tp, fp, fn, tn = (int(np.sum(one)) for one in (a & b, a & ~b, ~a & b, ~a & ~b))
        assert [column(table, name)[row] for name in ("tp", "fp", "fn", "tn")] == [tp, fp, fn, tn]
        truth = [
            2 * tp / (2 * tp + fp + fn),
            tp / (tp + fp + fn),
            (tp + tn) / a.size,
            tp / (tp + fp),
            tp / (tp + fn),
            tn / (tn + fp),
        ]
        assert [column(table, name)[row] for name in NAMES] == pytest.approx(truth)
    a, b = image == 2, reference == 2
    assert table.summary["jaccard_2"] == pytest.approx((a & b).sum() / (a | b).sum())


def test_chosen_classes_and_masks() -> None:
    image, reference = (RANDOM.choice([0, 7, 255], (2, 9, 9)).astype("u1") for _ in range(2))
    chosen = measure(Overlap(), image, reference, classes=(0, 9))
    assert chosen.summary["classes"] == [0, 9]
    assert chosen.summary["dice_9"] is None
    assert chosen.summary["sensitivity_0"] == pytest.approx(((image == 0) & (reference == 0)).sum() / (reference == 0).sum())
    mask = measure(Overlap(), image, (reference > 0), foreground=True)
    assert mask.rows == 2
    assert mask.summary["jaccard"] == pytest.approx(((image > 0) & (reference > 0)).sum() / ((image > 0) | (reference > 0)).sum())
    nothing = measure(Overlap(), np.zeros((2, 3, 4), "u1"), np.zeros((2, 3, 4), "u1"))
    assert (nothing.rows, nothing.notes) == (0, ("neither volume has a label but 0",))


def test_what_are_no_classes() -> None:
    labels = np.arange(400, dtype="u4").reshape(1, 20, 20)
    for image, params, match in [
        (labels.astype("f4"), {}, "no labels"),
        (labels, {}, "more than 256"),
        (labels, {"classes": (1,), "foreground": True}, "exclude"),
    ]:
        with pytest.raises(InvalidInput, match=match):
            measure(Overlap(), image, labels, **params)
    assert measure(Overlap(), labels, labels, classes=(399,)).summary["dice"] == 1


def area(scores: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    return float(stats.mannwhitneyu(scores[truth], scores[~truth]).statistic / (truth.sum() * (~truth).sum()))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16"])
def test_the_area_is_that_of_mann_and_whitney(dtype: str) -> None:
    truth = RANDOM.random((2, 20, 25)) < 0.3
    raw = RANDOM.normal(40 + 15 * truth, 20).clip(0, 100)
    scores = raw > 45 if dtype == "bool" else raw.astype(dtype)
    table = measure(RocCurve(), scores, truth.astype("u1") * 7, block=(1, 6, 25))
    assert table.summary["auc"] == pytest.approx(area(scores, truth), rel=1e-12)
    assert table.summary["auc_error"] == 0
    assert (table.summary["positives"], table.summary["negatives"]) == (truth.sum(), (~truth).sum())
    for threshold, fp, tp in zip(column(table, "threshold"), column(table, "fp"), column(table, "tp"), strict=True):
        assert (fp, tp) == ((scores[~truth] >= threshold).sum(), (scores[truth] >= threshold).sum())
    assert [column(table, name)[-1] for name in ("fpr", "tpr")] == [1, 1]
    assert np.trapezoid(column(table, "tpr"), column(table, "fpr")) == pytest.approx(table.summary["auc"], rel=1e-12)


@pytest.mark.parametrize("bins", [16, 65536])
def test_binned_scores_say_how_far_off_they_can_be(bins: int) -> None:
    truth = RANDOM.random((40, 50)) < 0.4
    scores = (RANDOM.beta(2, 3, truth.shape) + 0.1 * truth).clip(0, 1).astype("f4")
    scores[0, 0] = np.nan
    table = measure(RocCurve(), scores, truth, bins=bins, range=(0, 1))
    known = ~np.isnan(scores)
    error = abs(table.summary["auc"] - area(scores[known], truth[known]))
    assert error <= table.summary["auc_error"] + 1e-12
    assert table.summary["auc_error"] < 2 / bins
    assert table.summary["unknown"] == 1


def test_scores_outside_the_range_count_at_its_ends() -> None:
    truth = RANDOM.random((40, 50)) < 0.4
    scores = RANDOM.normal(0.5 + 0.2 * truth, 0.4)
    scores[3, 3] = np.inf
    table = measure(RocCurve(), scores, truth, bins=1000, range=(0, 1))
    assert table.summary["outside"] == int(((scores < 0) | (scores > 1)).sum()) > 100
    assert table.summary["auc"] == pytest.approx(area(scores.clip(0, 1), truth), abs=1e-3)
    error = abs(table.summary["auc"] - area(scores, truth))
    assert 0.001 < error <= table.summary["auc_error"]


def test_separated_scores_and_truths_of_one_kind() -> None:
    truth = np.array([[0, 0, 1, 1]], bool)
    assert measure(RocCurve(), np.array([[1, 2, 3, 4]], "u1"), truth).summary["auc"] == 1
    assert measure(RocCurve(), np.array([[4, 3, 2, 1]], "u1"), truth).summary["auc"] == 0
    alone = measure(RocCurve(), np.array([[1, 2, 3, 4]], "u1"), np.ones((1, 4), bool))
    assert alone.summary["auc"] is None
    assert alone.notes
    with pytest.raises(InvalidInput, match="range"):
        measure(RocCurve(), np.zeros((1, 4), "f4"), truth)
    with pytest.raises(InvalidInput, match="no truth"):
        measure(RocCurve(), np.zeros((1, 4), "u1"), truth.astype("f4"))
