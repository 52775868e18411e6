"""emstore: one place for all of an imaging lab's data.

    import emstore

    emstore.ingest(["scan/"], "lab.zarr/liver/raw")
    version = emstore.open("lab.zarr/liver/raw")
    version.xarray()

Everything is imported when it is first used, so that importing emstore costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emstore.ingestion import ingest
    from emstore.inspection import inspect
    from emstore.lineage import lineage
    from emstore.loaders.pytorch import torch_dataset
    from emstore.loaders.tfdata import tf_dataset
    from emstore.processing import process
    from emstore.recipe import read_recipe, run_recipe
    from emstore.reports import report
    from emstore.reproduction import reproduce
    from emstore.simulation import simulate
    from emstore.store import Version, create_store
    from emstore.store import open_version as open
    from emstore.training import train

__all__ = [
    "Version",
    "__version__",
    "create_store",
    "ingest",
    "inspect",
    "lineage",
    "open",
    "process",
    "read_recipe",
    "report",
    "reproduce",
    "run_recipe",
    "simulate",
    "tf_dataset",
    "torch_dataset",
    "train",
]

_PUBLIC = {
    "Version": ("emstore.store", "Version"),
    "create_store": ("emstore.store", "create_store"),
    "ingest": ("emstore.ingestion", "ingest"),
    "inspect": ("emstore.inspection", "inspect"),
    "lineage": ("emstore.lineage", "lineage"),
    "open": ("emstore.store", "open_version"),
    "process": ("emstore.processing", "process"),
    "read_recipe": ("emstore.recipe", "read_recipe"),
    "report": ("emstore.reports", "report"),
    "reproduce": ("emstore.reproduction", "reproduce"),
    "run_recipe": ("emstore.recipe", "run_recipe"),
    "simulate": ("emstore.simulation", "simulate"),
    "tf_dataset": ("emstore.loaders.tfdata", "tf_dataset"),
    "torch_dataset": ("emstore.loaders.pytorch", "torch_dataset"),
    "train": ("emstore.training", "train"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("emstore")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emstore' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
