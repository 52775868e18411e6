"""Trains in a process of its own, so that it can be killed: python training_driver.py SCRATCH OUT.npz STEPS REF REF"""

import sys
from pathlib import Path

from emstore.networks import write_weights
from emstore.trainers.autoencoder import AutoencoderTrainer
from emstore.weights import Weights
from emstore.work import Bench


def train(scratch: Path, steps: int, refs: list[str]) -> Weights:
    """Train on one thread."""
    params = AutoencoderTrainer.params(steps=steps, batch=8, validations=6, seed=4, filters=8)
    scratch.mkdir(exist_ok=True)
    return AutoencoderTrainer().train(refs, params, Bench(scratch, tell, 1 << 28, 1))


def tell(share: float, what: str) -> None:
    print(f"{share:.3f} {what}", flush=True)


if __name__ == "__main__":
    scratch, out, steps, *refs = sys.argv[1:]
    write_weights(Path(out), train(Path(scratch), int(steps), refs))
