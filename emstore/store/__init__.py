"""Sealed, versioned storage of Volumes. The only room that knows zarr's format and object storage.

From the bottom up: `backend` moves bytes; `codecs`, `shards`, `chunking`, `pyramid` and `metadata` turn arrays into zarr v3
objects and back; `writer` and `reader` stream them within a memory budget; `transaction` and `lease` make versions atomic;
`sealing` joins the two; `version`, `listing`, `verification` and `gc` answer questions about what is there.
"""

from emstore.store.documents import canonical, digest
from emstore.store.gc import Collected, collect
from emstore.store.layout import LONGEST_NAME, Place
from emstore.store.listing import State, VersionState, places, versions
from emstore.store.sealing import plan_version, seal_table, seal_volume, seal_weights
from emstore.store.store import Store, create_store, open_store, resolve, resolve_target
from emstore.store.transaction import Finished, Outpost, Transaction, begin
from emstore.store.verification import Finding, Problem, Verification, verify
from emstore.store.version import Version, load, open_version

__all__ = [
    "LONGEST_NAME",
    "Collected",
    "Finding",
    "Finished",
    "Outpost",
    "Place",
    "Problem",
    "State",
    "Store",
    "Transaction",
    "Verification",
    "Version",
    "VersionState",
    "begin",
    "canonical",
    "collect",
    "create_store",
    "digest",
    "load",
    "open_store",
    "open_version",
    "places",
    "plan_version",
    "resolve",
    "resolve_target",
    "seal_table",
    "seal_volume",
    "seal_weights",
    "verify",
    "versions",
]
