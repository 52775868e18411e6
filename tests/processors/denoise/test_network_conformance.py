"""The public conformance suite on the processors that run a network, with small ones nobody trained.

Images are small: cuts of one pixel are among those tried, and each reads its whole halo. `test_networks` cuts larger ones.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from emstore.processor import Processor
from emstore.processors.denoise import Autoencoder, Latent, PoissonUnet
from emstore.store import create_store
from emstore.testing import ProcessorCase, ProcessorConformance
from emstore.volume import Volume
from emstore.weights import Weights
from in_blocks import axes_of, over
from random_weights import random_weights
from sealed import seal_some_weights

_FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
create_store(f"{_FOLDER}/nets.zarr")


def sealed(weights: Weights, name: str) -> str:
    return seal_some_weights(weights, f"{_FOLDER}/nets.zarr/nets/{name}").ref


DIGITAL = sealed(random_weights("autoencoder", filters=4), "digital")
ANALOG = sealed(random_weights("autoencoder", filters=4, output="sigmoid"), "analog")
OURS = sealed(random_weights("poisson_unet", pixels=4, halves=4, quarters=4), "ours")


def counted(*shape: int) -> Volume:
    values = np.random.default_rng(4).poisson(9, shape).astype(np.uint16)
    return over(values, *axes_of("tyx"[-len(shape) :], shape), attributes={"quantity": "electrons"})


def plain(*shape: int) -> Volume:
    return over(np.random.default_rng(4).random(shape).astype(np.float32), *axes_of("tyx"[-len(shape) :], shape))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other over a few pixels take far longer than one; in processes of the suite's too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


class Networks(ProcessorConformance):
    """A network takes thousands of operations per pixel: smaller images tell as much of its memory."""

    examples = 3

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        return super().sized(case, voxels // 4)


class TestAutoencoder(Networks):
    processor: ClassVar[type[Processor]] = Autoencoder
    volumes: ClassVar[Sequence[Any]] = (counted(2, 9, 11), plain(2, 9, 11))
    params: ClassVar[Sequence[dict[str, Any]]] = ({"weights": DIGITAL}, {"weights": ANALOG})


class TestPoissonUnet(Networks):
    processor: ClassVar[type[Processor]] = PoissonUnet
    volumes: ClassVar[Sequence[Any]] = (counted(9, 11), plain(2, 9, 10))
    params: ClassVar[Sequence[dict[str, Any]]] = ({"weights": OURS}, {"weights": OURS, "gain": 0.02, "offset": 0.1})
    executors = ("threads",)


class TestLatent(Networks):
    processor: ClassVar[type[Processor]] = Latent
    volumes: ClassVar[Sequence[Any]] = (counted(2, 9, 11),)
    params: ClassVar[Sequence[dict[str, Any]]] = ({"weights": DIGITAL},)
    executors = ("threads",)
