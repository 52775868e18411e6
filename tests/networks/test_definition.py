"""What networks are made of, against numbers that the paper and arithmetic give."""

import numpy as np
import pytest
import torch

from emstore.errors import InvalidInput, NotFound
from emstore.networks import Network, accepts, network_of, started
from emstore.networks.autoencoder import parameter_count
from emstore.networks.inference import TorchNetwork
from emstore.weights import Weights
from random_weights import random_weights

NETWORKS = [
    ("autoencoder", {}),
    ("autoencoder", {"output": "sigmoid"}),
    ("autoencoder", {"filters": 4, "depth": 1}),
    ("autoencoder", {"filters": 4, "depth": 3}),
    ("poisson_unet", {}),
]


def test_the_autoencoder_has_as_many_parameters_as_in_the_paper() -> None:
    assert Network.of("autoencoder").parameters == 28_353


@pytest.mark.parametrize("output", ["relu", "sigmoid"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("filters", [8, 16, 32, 64])
def test_the_count_by_formula_is_that_of_the_arrays(filters: int, depth: int, output: str) -> None:
    network = Network.of("autoencoder", {"filters": filters, "depth": depth, "output": output})
    assert network.parameters == parameter_count(filters, depth) == sum(a.size for a in started(network, 0).values())


def test_the_search_space_ends_where_the_paper_says() -> None:
    counts = [parameter_count(filters, depth) for filters in (8, 16, 32, 64) for depth in (1, 2, 3)]
    assert (min(counts), max(counts)) == (737, 185_857)


def test_our_network_is_small() -> None:
    assert Network.of("poisson_unet").parameters < 80_000


def test_the_innermost_maps_of_128_pixels() -> None:
    images = torch.rand(1, 128, 128)
    assert TorchNetwork(random_weights("autoencoder"), "cpu").latent(images).shape == (1, 32, 32, 32)


@pytest.mark.parametrize(("name", "settings"), NETWORKS)
def test_pixels_beyond_the_halo_take_no_part(name: str, settings: dict[str, int]) -> None:
    """And one of those within does: a halo is as wide as it must be, to the next pixel of the coarsest maps."""
    weights = random_weights(name, **settings)
    network = network_of(weights)
    ready, halo, factor = TorchNetwork(weights, "cpu"), network.halo, network.factor
    low = halo + 2 * factor
    image = torch.from_numpy(np.random.default_rng(0).poisson(20, (low + factor + low,) * 2).astype(np.float32))
    # Every row outside is changed: through the mean over the neighbourhood, or a pool, each may take part.
    outside, last = image.clone(), image.clone()
    outside[: low - halo] += 31
    outside[low + factor + halo :] += 31
    last[low - halo : low - halo + factor] += 31
    one, two, three = (ready(each[None])[0, low : low + factor] for each in (image, outside, last))
    assert torch.equal(one, two) or float((one - two).abs().max()) < 1e-5 * float(one.abs().max())
    assert float((one - three).abs().max()) > 0


def test_our_network_begins_as_the_identity() -> None:
    """But for what is found, the root is undone as it was taken: counts come back, and 0 does too."""
    network = Network.of("poisson_unet")
    weights = Weights("new", network.architecture, network.settings, started(network, 3))
    counts = torch.arange(64.0).reshape(1, 8, 8)
    assert torch.allclose(TorchNetwork(weights, "cpu")(counts), counts, atol=1e-4)


def test_starting_weights_come_from_the_seed() -> None:
    network = Network.of("autoencoder")
    one, again, other = (started(network, seed) for seed in (1, 1, 2))
    assert all((one[name] == again[name]).all() for name in one)
    assert (one["encoder_1/kernel"] != other["encoder_1/kernel"]).any()


@pytest.mark.parametrize(
    "settings", [{"filters": 0}, {"filters": "32"}, {"depth": 9}, {"output": "tanh"}, {"layers": 10}, {"filters": 3.5}]
)
def test_settings_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        Network.of("autoencoder", settings)


def test_a_network_there_is_not() -> None:
    with pytest.raises(NotFound, match="autoencoder, poisson_unet"):
        Network.of("transformer")


def test_weights_of_another_network() -> None:
    weights = random_weights("poisson_unet")
    with pytest.raises(InvalidInput, match="poisson_unet, not of autoencoder"):
        accepts(weights, ("autoencoder",))


@pytest.mark.parametrize("what", ["missing", "more", "shape", "order", "integers"])
def test_weights_that_do_not_fit(what: str) -> None:
    arrays = dict(random_weights("autoencoder").arrays)
    if what == "missing":
        del arrays["output/bias"]
    elif what == "more":
        arrays["other/bias"] = np.zeros(3, np.float32)
    elif what == "shape":
        arrays["output/bias"] = np.zeros(2, np.float32)
    elif what == "order":
        arrays = dict(reversed(arrays.items()))
    else:
        arrays["output/bias"] = np.zeros(1, np.int32)
    with pytest.raises(InvalidInput, match=r"array"):
        network_of(Weights("odd", "autoencoder", {}, arrays))
