"""Clean images for training, and how they are varied from step to step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput

Images = npt.NDArray[np.float32]
MIX = 64
"""Places of a version whose images are shuffled together."""


@dataclass(frozen=True)
class Source:
    """The images of one version, in batches."""

    ref: str
    """``STORE/DATASET/ARRAY/vN``: n, y, x."""
    crop: int | None
    """Side of what is cut from every image, pixels; ``None``: whole images."""
    factor: int
    """Sides must be multiples of this."""
    memory: int
    """Most bytes of decoded images in memory."""
    backend: str
    """``torch`` or ``tensorflow``: whose dataset is used."""

    def sides(self) -> tuple[int, int]:
        """Return the sides of a sample, pixels, after checking that the version can be trained on.

        Raises
        ------
        InvalidInput
            The version is no stack of images, or its sides do not fit the network.
        NotFound
            No such version.
        """
        from emstore.loaders.inputs import open_items

        [[cut]], _, _ = open_items(self.ref, 0)
        if cut.dims != ("n", "y", "x") or cut.dtype.kind != "f":
            raise InvalidInput(
                f"it holds {cut.dtype} along {', '.join(cut.dims)}; networks are trained on floating-point images n, y, x",
                where=cut.ref,
                fix="give a version of clean images: expected electrons, or analog ones",
            )
        height, width = (min(self.crop or n, n) for n in cut.shape[1:])
        if height % self.factor or width % self.factor:
            raise InvalidInput(
                f"images of {height}x{width} pixels; this network takes multiples of {self.factor}",
                where=cut.ref,
                fix=f"set crop to a multiple of {self.factor}",
            )
        return height, width

    def images(self, sides: tuple[int, int], *, seed: int | None = None, epoch: int = 0, skip: int = 0) -> Iterator[Any]:
        """Yield the images of one epoch, float32 of shape (y, x), but for the first `skip`."""
        from emstore.loaders.pytorch import torch_dataset
        from emstore.loaders.tfdata import tf_dataset

        patch = {"n": 1, "y": sides[0], "x": sides[1]}
        how: dict[str, Any] = {"patch": patch, "axes": ("y", "x"), "dtype": "float32", "memory": self.memory, "seed": seed}
        how["mix"] = MIX
        if self.backend == "torch":
            dataset = torch_dataset(self.ref, iterable=True, **how)
            place = {**dataset.state_dict(), "epoch": epoch, "samples": skip}
            dataset.load_state_dict(place)
            yield from (image.numpy() for image in dataset)  # type: ignore[union-attr]
        else:
            yield from tf_dataset(self.ref, epoch=epoch, skip=skip, **how).as_numpy_iterator()

    def count(self, sides: tuple[int, int]) -> int:
        """Return the number of images of an epoch."""
        from emstore.loaders.patches import Patches

        return len(Patches.of(self.ref, patch={"n": 1, "y": sides[0], "x": sides[1]}, memory=self.memory, mix=MIX))


def quantity_of(ref: str) -> str | None:
    """Return what a version's values are, as its attribute ``quantity`` says.

    Raises
    ------
    NotFound
        No such version.
    """
    from emstore.loaders.inputs import open_items

    _, versions, _ = open_items(ref, 0)
    quantity = next(iter(versions.values())).volume().attributes.get("quantity")
    return None if quantity is None else str(quantity)


def batches(source: Source, sides: tuple[int, int], *, batch: int, seed: int, step: int) -> Iterator[Images]:
    """Yield batches without end, shape (batch, y, x), beginning with the one of a step.

    An epoch's rest that fills no batch is left out; which images that are differs from epoch to epoch.
    """
    per_epoch = source.count(sides) // batch
    if not per_epoch:
        raise InvalidInput(
            f"{source.count(sides)} images fill no batch of {batch}",
            where=source.ref,
            fix="set a smaller batch, or a smaller crop",
        )
    epoch, done = divmod(step, per_epoch)
    while True:
        images = source.images(sides, seed=seed, epoch=epoch, skip=done * batch)
        for _ in range(done, per_epoch):
            yield np.stack([next(images) for _ in range(batch)])
        epoch, done = epoch + 1, 0


def varied(images: Images, rng: np.random.Generator) -> Images:
    """Return every image flipped and turned by quarters at random (only flipped where it is not square)."""
    square = images.shape[1] == images.shape[2]
    out = np.empty_like(images)
    for number, (turn, mirror) in enumerate(zip(rng.integers(4, size=len(images)), rng.random(len(images)) < 0.5, strict=True)):
        image = np.rot90(images[number], int(turn) if square else 2 * (int(turn) % 2))
        out[number] = image[:, ::-1] if mirror else image
    return out


def finite(images: npt.NDArray[Any], ref: str) -> None:
    """Refuse images that cannot be expected electrons or analog values.

    Raises
    ------
    InvalidInput
        A value is below 0 or not finite.
    """
    if not np.isfinite(images).all() or images.min() < 0:
        raise InvalidInput("holds values below 0, or that are not finite", where=ref, fix="train on expected electrons")
