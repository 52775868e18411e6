"""Versions as tf.data datasets."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from emstore.errors import InvalidInput, Kind
from emstore.loaders.inputs import Item
from emstore.loaders.patches import MEMORY, MIX, Patches
from emstore.loaders.reader import Reader, Sample
from emstore.loaders.tiling import Edge

if TYPE_CHECKING:
    import tensorflow as tf  # type: ignore[import-untyped,unused-ignore]  # it ships no types


def tf_dataset(
    refs: Item | Sequence[Item],
    *,
    patch: Sequence[int] | Mapping[str, int],
    stride: Sequence[int] | Mapping[str, int] | None = None,
    level: int = 0,
    axes: Sequence[str | None] | None = None,
    edge: Edge = "shift",
    dtype: str | Mapping[str, str] | None = None,
    normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    memory: int = MEMORY,
    seed: int | None = None,
    mix: int = MIX,
    rank: int = 0,
    ranks: int = 1,
    epoch: int = 0,
    epochs: int = 1,
    skip: int = 0,
    prefetch: int = 8,
) -> "tf.data.Dataset":
    """Return versions as a ``tf.data.Dataset`` of patches, the same samples in the same order every time it is iterated.

    Parameters
    ----------
    refs, patch, stride, level, axes, edge, dtype, normalise, memory, seed, mix, rank, ranks
        As in `emstore.torch_dataset`.
    epoch, epochs : int
        The first epoch to serve, and how many one after the other, each in an order of its own.
    skip : int
        Samples to leave out at the beginning: those served before an interruption.
    prefetch : int
        Most samples made ahead of time.

    Returns
    -------
    tf.data.Dataset
        Tensors, or dicts of tensors by role where versions were given by role; its cardinality is known. The attribute
        ``versions`` (not on datasets derived from it) says what to cite.

    Examples
    --------
    Keras takes pairs, and warns of a dataset unless it is told not to shuffle it::

        pairs = emstore.tf_dataset({"image": ..., "labels": ...}, patch=..., seed=1).map(lambda s: (s["image"], s["labels"]))
        model.fit(pairs.batch(8), shuffle=False)

    Raises
    ------
    InvalidInput
        The settings and the versions do not fit each other. Kind ``missing_extra``: TensorFlow is not installed.
    NotFound
        No such version.
    Capacity
        The patches do not fit in `memory`.
    """
    if find_spec("tensorflow") is None:
        raise InvalidInput("TensorFlow is not installed", fix="pip install 'emstore[tensorflow]'", kind=Kind.MISSING_EXTRA)
    patches = Patches.of(
        refs,
        patch=patch,
        stride=stride,
        level=level,
        axes=axes,
        edge=edge,
        dtype=dtype,
        normalise=normalise,
        seed=seed,
        mix=mix,
        memory=memory,
    )
    run = patches.run(rank, ranks)
    for name, value, least in (("epoch", epoch, 0), ("epochs", epochs, 1), ("skip", skip, 0), ("prefetch", prefetch, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInput(f"{name}={value!r} makes no sense; it must be a whole number, {least} or more")
    import tensorflow as tf

    specs = {role: tf.TensorSpec(form.shape, tf.as_dtype(form.dtype)) for role, form in patches.forms.items()}

    def samples() -> Iterator[Sample]:
        reader = Reader(patches)  # one per iteration, so that two of them share no memory
        for past in range(epochs):
            yield from reader.run(epoch + past, run, max(0, skip - past * len(run)))

    dataset = tf.data.Dataset.from_generator(samples, output_signature=next(iter(specs.values())) if patches.plain else specs)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(max(0, epochs * len(run) - skip))).prefetch(prefetch)
    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.with_options(options)
    dataset.versions = patches.cited
    return dataset
