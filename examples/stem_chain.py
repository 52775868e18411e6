"""What the two STEM scripts share: a store, images counted at doses, denoised by every method there is, columns measured."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import emstore
from emstore.errors import InvalidInput, Kind, NotFound

FIT = {"threshold": 0.12, "radius": 10.0}
"""How columns are looked for: the thesis's settings, in pixels."""


@dataclass(frozen=True)
class Denoiser:
    """A method to compare."""

    name: str
    """What its arrays are called."""
    processor: str
    params: Mapping[str, Any]


def denoisers(weights: Mapping[str, str]) -> list[Denoiser]:
    """Return the methods to compare: networks too, where weights of theirs are named or come with emstore."""
    from emstore.networks import shipped

    found = [
        Denoiser("gaussian", "denoise.gaussian", {"sigma": 1.0, "axes": "slice"}),
        Denoiser("bm3d", "denoise.bm3d", {"stabilise": {"gain": 1.0}}),
    ]
    for network in ("autoencoder", "poisson_unet"):
        named = weights.get(network)
        if named is not None:
            found.append(Denoiser(network.replace("_", "-"), f"denoise.{network}", {"weights": named}))
        elif network in shipped():
            found.append(Denoiser(network.replace("_", "-"), f"denoise.{network}", {}))
    return found


class Chain:
    """Runs processors into one dataset of a store, telling what it does. What is there already is not made again."""

    def __init__(self, folder: Path, dataset: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = str(folder / "stem.zarr")
        self.dataset = f"{self.store}/{dataset}"
        self.began = time.monotonic()
        if not (folder / "stem.zarr").exists():
            emstore.create_store(self.store)

    def say(self, words: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {words}", flush=True)

    def simulate(self, array: str, params: Mapping[str, Any]) -> str:
        """Simulate an image and its true columns; return the image's REF."""
        made = emstore.simulate("stem", f"{self.dataset}/{array}", params=params)
        self.say(f"simulated {made[0].ref}")
        return made[0].ref

    def process(self, name: str, inputs: Sequence[str], array: str, **params: Any) -> str:
        """Run a processor; return the REF of what it made."""
        made = emstore.process(name, inputs, f"{self.dataset}/{array}", params=params)
        return made.version.ref

    def measure(self, name: str, inputs: Sequence[str], array: str, **params: Any) -> str | None:
        """Run a processor that may find nothing to measure, as in an image too noisy for columns; then say so."""
        try:
            return self.process(name, inputs, array, **params)
        except InvalidInput as error:
            self.say(f"left out: {array}: {error.what}")
            return None

    def denoise(self, noisy: str, methods: Sequence[Denoiser], dose: float) -> dict[str, str]:
        """Return the denoised images by method; one whose package is not installed is left out, by name."""
        found = {}
        for method in methods:
            try:
                found[method.name] = self.process(method.processor, [noisy], f"{method.name}-{dose:g}", **method.params)
            except (InvalidInput, NotFound) as error:
                if error.kind not in (Kind.MISSING_EXTRA, Kind.NOT_FOUND):
                    raise
                self.say(f"left out: {method.name}: {error.what}")
        return found

    def report(self, out: Path, **params: Any) -> None:
        """Write the page of the whole dataset."""
        made = emstore.report("stem", [self.dataset], out, params=params, force=True)
        self.say(f"wrote {out}, {made.nbytes / 1e6:.1f} MB, from {len(made.versions)} versions")


def parser(
    what: str, *, thickness: float, shape: tuple[int, int], doses: Sequence[float], frames: int = 2
) -> argparse.ArgumentParser:
    """Return the options both scripts have."""
    options = argparse.ArgumentParser(description=what, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("folder", nargs="?", type=Path, default=Path("stem-out"), help="where the store and the page go")
    options.add_argument("--thickness", type=float, default=thickness, help="thickness of the crystal, angstrom (thesis: 252)")
    options.add_argument("--shape", type=int, nargs=2, default=shape, help="rows and columns of the image")
    options.add_argument("--doses", type=float, nargs="+", default=doses, help="electrons per square angstrom")
    options.add_argument("--frames", type=int, default=frames, help="images counted at every dose")
    options.add_argument("--seed", type=int, default=1, help="what all chance comes from")
    options.add_argument("--autoencoder", metavar="REF", help="weights of the thesis's autoencoder; left out: those of emstore")
    options.add_argument("--poisson-unet", metavar="REF", help="weights of the Poisson U-Net; left out: those of emstore")
    return options


def named_weights(options: argparse.Namespace) -> dict[str, str]:
    """Return the weights that were named, by network."""
    given = {"autoencoder": options.autoencoder, "poisson_unet": options.poisson_unet}
    return {name: ref for name, ref in given.items() if ref is not None}
