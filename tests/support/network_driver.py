"""Runs networks in a process of its own, on the framework that KERAS_BACKEND names.

python network_driver.py WEIGHTS.npz IMAGES.npy OUT.npz
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path, architecture: str) -> None:
    from emstore.blocks.compute import evaluate
    from emstore.networks import Network, build, from_weights, read_weights, to_weights
    from emstore.networks import autoencoder as ae
    from emstore.networks import poisson_unet as unet
    from emstore.networks.backend import chosen, keras
    from emstore.networks.graph import put
    from emstore.processors.denoise import Autoencoder, Latent, PoissonUnet
    from in_blocks import over

    weights, _ = read_weights(folder / f"{architecture}.npz")
    images = np.load(folder / "images.npy")
    assert chosen() == os.environ["KERAS_BACKEND"]
    k = keras()
    assert k.backend.backend() == os.environ["KERAS_BACKEND"]
    model = from_weights(weights)
    found: dict[str, Any] = {"keras": number(k, model(images[..., None]))[..., 0]}
    assert model.count_params() == weights.count
    network = Network.of(weights.architecture, weights.settings)
    found["again"] = to_weights(model, network, name="again").digest == weights.digest
    if chosen() == "torch":
        found["first"] = number(k, from_weights(weights, layout="channels_first")(images[:, None]))[:, 0]

    processor = {"autoencoder": Autoencoder, "poisson_unet": PoissonUnet}[weights.architecture]()
    volume = over(images, attributes={"quantity": "electrons"})
    operation = processor.plan((volume,), processor.params(), weights=weights)
    assert operation.arrays == ("torch" if chosen() == "torch" else "numpy")
    found["processed"] = evaluate(operation, (volume,), block=(1, 30, 41))
    if weights.architecture == "autoencoder":
        latent = Latent().plan((volume,), Latent.params(), weights=weights)
        found["latent"] = evaluate(latent, (volume,), block=(1, 32, 5, 7))

    clean, given = np.float32([[1, 1, 2], [1, 5, 3]]), np.float32([[2, 1, 4], [1, 5, 1]])
    one, two = (k.ops.convert_to_tensor(values[None, ..., None]) for values in (clean, given))
    found["weighted"] = number(k, ae.weighted_loss()(one, two))
    found["weighted_by_10"] = number(k, ae.weighted_loss(10.0)(one, two))
    found["deviance"] = number(k, unet.deviance()(one, two))
    found["no_deviance"] = number(k, unet.deviance()(one, one))

    loss = ae.weighted_loss() if weights.architecture == "autoencoder" else unet.deviance()
    fresh = build(network)
    put(fresh, network, weights.arrays)
    fresh.compile(optimizer=k.optimizers.SGD(1e-7), loss=loss, jit_compile=False)
    wanted = np.full_like(images[..., None], 5.0)
    found["losses"] = [float(fresh.train_on_batch(images[..., None], wanted)) for _ in range(3)]
    np.savez(folder / f"{architecture}-{chosen()}.npz", **found)


def number(k: Any, values: Any) -> Any:
    return np.asarray(k.ops.convert_to_numpy(values))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        main(Path(sys.argv[1]), name)
