"""Zarr folders: OME-Zarr 0.1 to 0.5, xarray datasets, and plain arrays of Zarr v2 and v3.

Each image's full-resolution array is a Volume; labels, the fields of plates, and the images of a series are listed with their
paths. Chunks that are not stored read as the fill value, as the Zarr specification defines; a note says how many. HyperSpy's
Zarr files are another adapter's.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from emstore.errors import EmstoreError
from emstore.source import Source, SourceItem
from emstore.volume import Volume

__all__ = ["ZarrAdapter"]


class ZarrAdapter:
    """Reads Zarr folders."""

    name: ClassVar[str] = "zarr"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {"OME-Zarr": (".ome.zarr", ".zarr"), "Zarr": (".zarr",)}

    def sniff(self, item: SourceItem) -> int:
        """Score folders that are a Zarr group or array; OME metadata make it sure."""
        from emstore_adapters.zarr.nodes import read_node
        from emstore_adapters.zarr.ome import is_ome

        try:
            if not item.is_folder:
                return 0
            node = read_node(item.path, "", item.name)
            if node is None or _is_hyperspy(node.attributes) or (item.path / "Experiments").is_dir():
                return 0
            return 95 if is_ome(node) else 80
        except (EmstoreError, OSError):
            return 40  # the documents are there but damaged: opening it will say how

    def open(self, source: Source) -> Sequence[Volume]:
        """Return every image of every store; see `Adapter.open`."""
        from emstore_adapters.zarr.volumes import read_volumes

        found: list[Volume] = []
        for item in source.items:
            try:
                found += read_volumes(item, source)
            except EmstoreError as error:
                source.skip(item.name, error.what, error)
        return found


def _is_hyperspy(attributes: Mapping[str, object]) -> bool:
    return str(attributes.get("file_format", "")).lower() in ("zspy", "hyperspy")
