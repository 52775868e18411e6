"""What was made from what: across versions, arrays, stores, and back to the instrument's file.

`emstore.lineage` is this room, and asking it is calling it: ``emstore.lineage("lab.zarr/liver/porosity")``.
"""

import sys
from types import ModuleType
from typing import Any

from emstore.lineage.graph import Lineage, lineage
from emstore.lineage.index import Index
from emstore.lineage.search import Found, find
from emstore.lineage.web import Edge, Node

__all__ = ["Edge", "Found", "Index", "Lineage", "Node", "find", "lineage"]


class _Room(ModuleType):
    """A module that can be called: once imported, a room hides the function of its name in `emstore`."""

    def __call__(self, ref: str, **options: Any) -> Lineage:
        return lineage(ref, **options)


sys.modules[__name__].__class__ = _Room
