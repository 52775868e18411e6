"""The tf.data dataset: its types, its order, and every value against slices of the whole array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import emstore
from emstore.errors import InvalidInput
from training_versions import counted, put

SHAPE = (9, 130, 70)
VALUES = counted(SHAPE)
PATCH = {"t": 2, "y": 33, "x": 30}


@pytest.fixture
def film(versions: dict[str, emstore.Version]) -> emstore.Version:
    return versions["film"]


def firsts(dataset: Any) -> list[int]:
    return [int(values.ravel()[0]) for values in dataset.as_numpy_iterator()]


def test_the_samples_are_slices_in_the_order_of_the_seed(film: emstore.Version) -> None:
    dataset = emstore.tf_dataset(film.ref, patch=PATCH, seed=4, mix=3)
    assert dataset.element_spec == tf.TensorSpec((2, 33, 30), tf.int32)
    starts = [(t, y, x) for t in (0, 2, 4, 6, 7) for y in (0, 33, 66, 97) for x in (0, 30, 40)]
    assert dataset.cardinality() == len(dataset) == len(starts) == 60
    seen = []
    for values in dataset.as_numpy_iterator():
        at = tuple(int(i) for i in np.unravel_index(int(values.ravel()[0]), SHAPE))
        assert np.array_equal(values, VALUES[tuple(slice(a, a + n) for a, n in zip(at, (2, 33, 30), strict=True))])
        seen.append(at)
    assert sorted(seen) == starts
    assert seen != starts
    assert firsts(dataset) == [int(VALUES[at]) for at in seen], "the same every time it is iterated"
    served = [int(sample.flatten()[0]) for sample in emstore.torch_dataset(film, patch=PATCH, iterable=True, seed=4, mix=3)]
    assert firsts(dataset) == served, "and the same as in PyTorch"
    assert firsts(emstore.tf_dataset(film, patch=PATCH, seed=5, mix=3)) != served
    assert [(v.role, v.ref, v.id) for v in dataset.versions] == [("image", "made/film/v1", film.id)]
    assert dataset.options().deterministic


def test_epochs_one_after_the_other_and_going_on(film: emstore.Version) -> None:
    def served(**change: int) -> list[int]:
        return firsts(emstore.tf_dataset(film, patch=PATCH, seed=4, mix=3, **change))

    three = served(epoch=5, epochs=3)
    assert three == served(epoch=5) + served(epoch=6) + served(epoch=7)
    for skip in (1, 60, 100, 180):
        assert served(epoch=5, epochs=3, skip=skip) == three[skip:]
    halves = [served(rank=rank, ranks=2) for rank in range(2)]
    assert sorted(halves[0] + halves[1]) == sorted(served())
    assert not set(halves[0]) & set(halves[1])


def test_several_inputs_train_a_model(lab: Path) -> None:
    """A network of one weight and bias finds them: the values that reach it are those that were stored."""
    image = put(f"{lab}/tf/image", counted((64, 64), "uint16"), "yx")
    truth = put(f"{lab}/tf/truth", (counted((64, 64)) * 3 + 500).astype("float32"), "yx")
    dataset = emstore.tf_dataset(
        {"image": image, "truth": truth},
        patch=(8, 8),
        axes=("y", "x", None),
        normalise={"image": (2048, 1000), "truth": (0, 3000)},
        seed=1,
        epochs=60,
    )
    assert dataset.element_spec == {
        "image": tf.TensorSpec((8, 8, 1), tf.float32),
        "truth": tf.TensorSpec((8, 8, 1), tf.float32),
    }
    weight, bias = tf.Variable(0.0), tf.Variable(0.0)
    for sample in dataset.batch(16):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * sample["image"] + bias - sample["truth"]) ** 2)
        for variable, slope in zip((weight, bias), tape.gradient(loss, [weight, bias]), strict=True):
            variable.assign_sub(0.3 * slope)
    # truth / 3000 = (3 * stored + 500) / 3000 = 1 * (stored - 2048) / 1000 + 6644 / 3000
    assert float(weight) == pytest.approx(1, abs=1e-3)
    assert float(bias) == pytest.approx(6644 / 3000, abs=1e-3)


@pytest.mark.parametrize("change", [{"epoch": -1}, {"epochs": 0}, {"skip": 1.5}, {"prefetch": -2}])
def test_numbers_that_make_no_sense(film: emstore.Version, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(change))):
        emstore.tf_dataset(film, patch=PATCH, **change)
