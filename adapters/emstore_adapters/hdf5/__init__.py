"""HDF5 files by dataset path: NeXus, Gatan DM5, py4DSTEM, netCDF-4, plain image stacks, and emstore's own exports.

Each dataset of numbers is a Volume named by its path without the leading slash. Left out, by name: coordinates of axes, tables,
text, single values (the header keeps them), thumbnails, and everything that lies outside the file. Unwritten chunks read
as the fill value, as HDF5 defines; a note says how many there are. Velox and Berkeley EMD and HyperSpy files are HDF5
too, but another adapter's.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from emstore.errors import EmstoreError
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.hdf5.file import has_signature, opened, translated

__all__ = ["Hdf5Adapter"]


class Hdf5Adapter:
    """Reads HDF5 files."""

    name: ClassVar[str] = "hdf5"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "HDF5": (".h5", ".hdf5", ".hdf", ".he5"),
        "NeXus": (".nxs", ".nx", ".nexus"),
        "Gatan DM5": (".dm5",),
        "py4DSTEM": (".h5", ".emd"),
        "netCDF-4": (".nc", ".nc4"),
        "MATLAB 7.3": (".mat",),
    }

    def sniff(self, item: SourceItem) -> int:
        """Score by the HDF5 signature, then by a look at the root group: a layout known here scores above 90."""
        try:
            if item.is_folder or not has_signature(item.head):
                return 0
            return _root_score(item)
        except (EmstoreError, OSError):
            return 30  # the signature is there: opening it will say what is wrong

    def open(self, source: Source) -> Sequence[Volume]:
        """Return every signal of every file; see `Adapter.open`."""
        from emstore_adapters.hdf5.volumes import read_volumes
        from emstore_adapters.hdf5.walk import take_inventory

        found: list[Volume] = []
        for item in source.items:
            try:
                with opened(item.path, item.name) as file, translated(item.name):
                    found += read_volumes(item.path, item.name, file, take_inventory(file, item.name), source)
            except EmstoreError as error:
                source.skip(item.name, error.what, error)
        return found


def _root_score(item: SourceItem) -> int:
    from emstore_adapters.hdf5 import dm5, dump, exported
    from emstore_adapters.hdf5.walk import subgroups

    with opened(item.path, item.name) as file, translated(item.name):
        if exported.is_exported(file):
            return 98
        if dm5.is_dm5(file):
            return 95
        if dump.text(file, "emd_group_type") == "file":
            return 95
        classes = {dump.text(group, "NX_class") for group in (file, *subgroups(file))}
        if classes & {"NXroot", "NXentry"}:
            return 92
    return 30
