"""Making a trained model one of those that come with emstore; for those who work on emstore itself.

    python -m emstore.trainers.shipping REF...          (or: make weights REFS="REF...")

`emstore/networks/shipped/README.md` says how those that are there were made, and are made again.
"""

import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from emstore.errors import Capacity, EmstoreError, InvalidInput
from emstore.lineage.records import WEIGHTS
from emstore.networks import network_of, write_weights
from emstore.provenance.record import Record
from emstore.store import Version, open_version

LICENCE: Final = "BSD-3-Clause"
LARGEST: Final = 500_000
"""Most that a file may take, bytes: they are in every wheel."""


def ship(ref: str, folder: Path | None = None) -> Path:
    """Write a trained model to the folder of those that come with emstore, under the name of its weights.

    The file holds the Records of the model and of everything it was made from, and the commands that make it again.

    Parameters
    ----------
    ref : str
        ``STORE/DATASET/ARRAY[/vN]``.
    folder : Path, optional
        Where to; by default that of the emstore that runs, which should be a checkout.

    Returns
    -------
    Path
        The file, ``NAME.npz``; one that was there is replaced.

    Raises
    ------
    InvalidInput
        It is no model, of no network of emstore's, not trained by emstore, or its training had not converged.
    Capacity
        The file would be too large.
    """
    version = open_version(ref)
    if not version.is_model:
        raise InvalidInput("it is no model", where=version.ref)
    weights = replace(version.weights(), licence=LICENCE)
    network_of(weights)
    if version.record.activity.type != "train":
        raise InvalidInput("it was not trained by emstore: nobody could make it again", where=version.ref)
    if not weights.figures.get("converged"):
        raise InvalidInput("its training had not converged", where=version.ref, fix="train it longer")
    made = {each.ref: each for each in _lineage(version)}
    told = {
        "id": version.id,
        "records": [{"ref": str(each.place), "record": each.record.model_dump(mode="json")} for each in made.values()],
        "commands": commands({str(each.place): each.record for each in made.values()}),
    }
    place = Path(str(files("emstore.networks"))) / "shipped" if folder is None else folder
    target = place / f"{weights.name}.npz"
    with tempfile.TemporaryDirectory(dir=place, prefix=".shipping-") as beside:
        file = Path(beside) / target.name
        write_weights(file, weights, record=told)
        if (size := file.stat().st_size) > LARGEST:
            raise Capacity(f"the file would have {size} bytes; at most {LARGEST} are shipped", where=version.ref)
        file.replace(target)
    return target


def commands(records: Mapping[str, Record]) -> list[str]:
    """Return the commands that make versions again, in order, in a new store ``lab.zarr``.

    Parameters
    ----------
    records : mapping of str to Record
        By ``DATASET/ARRAY/vN``, each after those it was made from.

    Returns
    -------
    list of str
        Parts of one simulation share a command.

    Raises
    ------
    InvalidInput
        One was neither simulated nor processed nor trained.
    """
    found: dict[str, None] = {}
    for place, record in records.items():
        facts, kind = record.params, record.activity.type
        target = place.rpartition("/")[0]
        if kind == "simulate" and facts["part"]:
            target = target.removesuffix(f"-{facts['part']}")
        names = {"simulate": "simulator", "process": "processor", "train": "trainer"}
        if kind not in names:
            raise InvalidInput(
                f"it was made by {kind}, which nobody else could do again", where=place, fix="train on what emstore simulates"
            )
        # Without its number: in a new store there is one version only. A part of a simulation cites the first, no more.
        cited = () if kind == "simulate" else record.inputs
        inputs = [(each.role, f"lab.zarr/{each.ref.rpartition('/')[0]}") for each in cited]
        words = [
            "emstore",
            kind,
            str(facts[names[kind]]),
            *(ref for role, ref in inputs if role != WEIGHTS),
            f"lab.zarr/{target}",
        ]
        for name, value in {**facts["params"], **{role: ref for role, ref in inputs if role == WEIGHTS}}.items():
            if value is not None:
                words += ["-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        found[shlex.join(words)] = None
    return list(found)


def _lineage(version: Version) -> Sequence[Version]:
    """Return what a version was made from, and itself, parents first."""
    found: list[Version] = []
    for each in version.record.inputs:
        if each.store is not None:
            raise InvalidInput(f"it was made from {each.ref} of another store", where=version.ref, fix="train from one store")
        found += _lineage(open_version(f"{version.store.url}/{each.ref}"))
    return [*found, version]


def main(refs: Sequence[str]) -> Any:
    """Ship models and say where they are."""
    try:
        return "\n".join(str(ship(ref)) for ref in refs) or "usage: python -m emstore.trainers.shipping REF..."
    except EmstoreError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1:])}\n")
