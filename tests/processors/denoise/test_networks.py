"""Denoising by networks: blocks give the whole, odd input is right or refused, and values mean what they say."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emstore.blocks.compute import evaluate
from emstore.errors import EmstoreError, InvalidInput
from emstore.geometry import Axis, AxisKind
from emstore.networks import started
from emstore.networks.architectures import Network, network_of
from emstore.networks.inference import Ready, TorchNetwork, bytes_per_pixel
from emstore.operation import Operation
from emstore.processors.denoise import Autoencoder, Latent, PoissonUnet
from emstore.volume import Volume
from emstore.weights import Weights
from in_blocks import axes_of, over
from lattices import crystals
from random_weights import random_weights

DIGITAL = random_weights("autoencoder", filters=8)
ANALOG = random_weights("autoencoder", filters=8, output="sigmoid")
OURS = random_weights("poisson_unet", pixels=8, halves=8, quarters=8)
CASES: dict[str, tuple[Any, Weights]] = {
    "digital": (Autoencoder(), DIGITAL),
    "analog": (Autoencoder(), ANALOG),
    "ours": (PoissonUnet(), OURS),
    "latent": (Latent(), DIGITAL),
    "latent_analog": (Latent(), ANALOG),
}
ELECTRONS = {"quantity": "electrons", "dose": {"value": 900.0, "unit": "electron/angstrom^2"}, "other": 1}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other over a few pixels take far longer than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(*shape: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(12, shape).astype(np.uint16)


def planned(case: str, volume: Volume, **params: Any) -> Operation:
    processor, weights = CASES[case]
    operation = processor.plan((volume,), processor.params(**params), weights=weights)
    assert isinstance(operation, Operation)
    return operation


def given(case: str, values: npt.NDArray[Any], *axes: Axis, **rest: Any) -> Volume:
    return over(values, *axes, attributes={} if "analog" in case else ELECTRONS, **rest)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(150, 131), (3, 61, 90), (2, 2, 33, 40)])
def test_blocks_give_the_whole(case: str, shape: tuple[int, ...]) -> None:
    volume = given(case, images(*shape), *axes_of("tzyx"[-len(shape) :], shape))
    operation = planned(case, volume)
    whole = evaluate(operation, (volume,))
    assert isinstance(whole, np.ndarray)
    assert operation.result is not None
    for sides in ((64, 48), (50, 37)):
        sides = tuple(max(1, side // 4) for side in sides) if "latent" in case else sides
        part = evaluate(operation, (volume,), block=(*(1,) * (whole.ndim - 2), *sides))
        assert isinstance(part, np.ndarray)
        assert part.shape == operation.result.grid.shape
        assert np.abs(part - whole).max() <= 2 * operation.tolerance * np.ptp(whole)
        assert np.ptp(whole) > 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (5, 4), (1, 1, 1), (9, 130)])
@pytest.mark.parametrize("fill", [None, 0, 7])
def test_tiny_odd_and_constant_images(case: str, shape: tuple[int, ...], fill: int | None) -> None:
    values = images(*shape) if fill is None else np.full(shape, fill, np.uint16)
    volume = given(case, values)
    found = evaluate(planned(case, volume), (volume,))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    if "latent" not in case:
        assert found.shape == shape


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(case: str, bad: float) -> None:
    values = images(20, 20).astype(np.float32)
    values[3, 4] = bad
    volume = given(case, values)
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        evaluate(planned(case, volume), (volume,))


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_image_is_refused(case: str) -> None:
    line = given(case, images(20), *axes_of("x", (20,)))
    numbers = given(case, images(20, 20).astype(np.complex64))
    for volume in (line, numbers):
        with pytest.raises(EmstoreError):
            planned(case, volume)


def test_sides_are_continued_by_reflection() -> None:
    """An image cut to odd sides gives what the network makes of it with its end mirrored by hand, d c b | a b c d | c b a."""
    values = images(29, 30).astype(np.float32)
    volume = given("ours", values)
    mirrored = np.pad(values, ((0, 3), (0, 2)), "reflect")
    wanted = TorchNetwork(OURS, "cpu")(torch.from_numpy(mirrored[None])).numpy()[0, :29, :30]
    np.testing.assert_allclose(evaluate(planned("ours", volume), (volume,)), np.maximum(wanted, 0), rtol=1e-5, atol=1e-4)


def test_axes_of_space_are_found_wherever_they_are() -> None:
    values = images(24, 32, 3)
    last = given("ours", values, *axes_of("yxc", values.shape))
    first = given("ours", np.moveaxis(values, -1, 0), *axes_of("cyx", (3, 24, 32)))
    one, two = (evaluate(planned("ours", volume), (volume,)) for volume in (last, first))
    assert isinstance(one, np.ndarray)
    np.testing.assert_allclose(np.moveaxis(one, -1, 0), two, rtol=1e-5, atol=1e-4)


def test_counts_stay_electrons() -> None:
    """The network that adds nothing gives the counts back, in electrons, whatever the detector made of them."""
    network = Network.of("poisson_unet")
    nothing = Weights("nothing", network.architecture, network.settings, started(network, 0))
    counts = images(16, 20)
    stored = (counts * 3.5 + 100).astype(np.float32)
    volume = over(stored)
    operation = PoissonUnet().plan((volume,), PoissonUnet.params(gain=3.5, offset=100), weights=nothing)
    np.testing.assert_allclose(evaluate(operation, (volume,)), counts, atol=1e-3)
    assert operation.result is not None
    assert operation.result.attributes == {"quantity": "electrons"}


def test_results_say_what_they_are() -> None:
    volume = given("ours", images(8, 8), modality="stem", window=(0.0, 9.0))
    result = planned("ours", volume).result
    assert result is not None
    assert result.attributes == {"quantity": "electrons", "dose": ELECTRONS["dose"]}
    assert (result.grid, result.modality, result.window, result.dtype) == (volume.grid, "stem", None, np.float32)


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_cited(case: str) -> None:
    operation = planned(case, given(case, images(8, 8)))
    [model] = operation.models
    assert (model.name, model.digest, model.licence) == (CASES[case][1].name, CASES[case][1].digest, "CC0-1.0")


@pytest.mark.parametrize(
    ("case", "attributes", "params", "what"),
    [
        ("ours", {}, {}, "nothing says what its values are"),
        ("digital", {"quantity": "analog"}, {}, "its values are analog"),
        ("digital", ELECTRONS, {"gain": 2.0}, "electrons already"),
        ("digital", ELECTRONS, {"scale": "image"}, "scale is for analog"),
        ("analog", ELECTRONS, {}, "for analog images"),
        ("analog", {}, {"gain": 2.0}, "gain and offset are for"),
    ],
)
def test_values_that_the_weights_are_not_for(case: str, attributes: dict[str, Any], params: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        planned(case, over(images(8, 8), attributes=attributes), **params)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(InvalidInput, match="weights of autoencoder"):
        PoissonUnet().plan((given("ours", images(8, 8)),), PoissonUnet.params(), weights=DIGITAL)


class TestAnalog:
    def test_every_image_is_put_to_0_to_1(self) -> None:
        """Brighter, darker or with another contrast, an image gives the same: its least value becomes 0, its largest 1."""
        base = np.random.default_rng(2).random((40, 36)).astype(np.float32)
        stack = np.stack([base, base * 500 + 40, base * 1e-3 - 7]).astype(np.float64)
        volume = over(stack)
        operation = planned("analog", volume)
        for block in (None, (2, 13, 17)):
            found = evaluate(operation, (volume,), block=block)
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found[1], found[0], atol=1e-4)
            np.testing.assert_allclose(found[2], found[0], atol=1e-3)
        unit = (base - base.min()) / np.ptp(base)
        wanted = TorchNetwork(ANALOG, "cpu")(torch.from_numpy(unit[None])).numpy()[0]
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)
        assert operation.result is not None
        assert operation.result.attributes == {"quantity": "analog"}
        assert any("[0, 1]" in note for note in operation.result.notes)

    def test_analog_values_are_taken_as_they_are(self) -> None:
        values = (0.2 + 0.3 * np.random.default_rng(2).random((1, 24, 24))).astype(np.float32)
        volume = over(values, attributes={"quantity": "analog"})
        operation = planned("analog", volume)
        assert operation.reduction is None
        wanted = TorchNetwork(ANALOG, "cpu")(torch.from_numpy(values)).numpy()
        np.testing.assert_allclose(evaluate(operation, (volume,)), wanted, atol=1e-5)
        outside = over(values * 9, attributes={"quantity": "analog"})
        with pytest.raises(InvalidInput, match=r"outside \[0, 1\]"):
            evaluate(planned("analog", outside), (outside,))


class TestLatent:
    def test_maps_lie_over_the_image(self) -> None:
        volume = over(images(2, 44, 62), *axes_of("zyx", (2, 44, 62), z=1.0, y=0.2, x=0.2), attributes=ELECTRONS)
        operation = planned("latent", volume)
        assert operation.result is not None
        grid = operation.result.grid
        assert (grid.dims, grid.shape) == (("z", "c", "y", "x"), (2, 8, 11, 16))
        assert grid.axis("c").kind is AxisKind.CHANNEL
        assert grid.axis("y").spacing == pytest.approx(0.8)
        assert grid.axis("y").origin == pytest.approx(0.3)  # the middle of four pixels
        found = evaluate(operation, (volume,))
        values = np.pad(volume.data[:, :, :].astype(np.float32), ((0, 0), (0, 0), (0, 2)), "reflect")
        np.testing.assert_allclose(
            found, TorchNetwork(DIGITAL, "cpu").latent(torch.from_numpy(values)).numpy(), rtol=1e-5, atol=1e-4
        )

    def test_channels_are_refused(self) -> None:
        with pytest.raises(InvalidInput, match="no place"):
            planned("latent", over(images(2, 8, 8), *axes_of("cyx", (2, 8, 8)), attributes=ELECTRONS))


def test_a_network_travels_as_its_weights() -> None:
    ready = Ready(OURS)
    image = torch.rand(1, 16, 16)
    before = ready.on("cpu")(image)
    there = pickle.loads(pickle.dumps(ready))  # noqa: S301 - our own, a moment old
    assert torch.equal(there.on("cpu")(image), before)
    assert ready.on("cpu") is ready.on("cpu")


@pytest.mark.parametrize("name", ["autoencoder", "poisson_unet"])
def test_memory_stays_below_what_is_said(name: str) -> None:
    """Counted by torch's own record of what it allocates and frees."""
    weights = random_weights(name)
    network = TorchNetwork(weights, "cpu")
    image = torch.rand(1, 256, 256)
    network(image)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        network(image)
    held = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert most > 4 * image.numel()
    assert most < bytes_per_pixel(weights) * image.numel()


def test_crystals_go_through_a_network_of_full_size() -> None:
    """Nothing dies or explodes on images like those it is for: the untrained network gives what it got."""
    network = Network.of("poisson_unet")
    weights = Weights("new", network.architecture, network.settings, started(network, 0))
    truth = crystals(5, 2, size=(64, 72))
    counts = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    volume = given("ours", counts)
    found = evaluate(PoissonUnet().plan((volume,), PoissonUnet.params(), weights=weights), (volume,))
    np.testing.assert_allclose(found, counts, rtol=1e-4, atol=1e-3)
    assert network_of(weights).parameters == weights.count
