"""The TIFF adapter: which files are one stack, and which are volumes of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from emstore.errors import Kind, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.folder_stack import by_folder, is_numbered, unique_names
from emstore_adapters.tiff.ifd import signature
from emstore_adapters.tiff.series import volumes_of_file
from emstore_adapters.tiff.stack import is_slice, stack_of


class TiffAdapter:
    """Reads TIFF files and folders of TIFF slices."""

    name: ClassVar[str] = "tiff"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "TIFF": (".tif", ".tiff"),
        "BigTIFF": (".tif", ".tiff", ".tf8", ".btf"),
        "OME-TIFF": (".ome.tif", ".ome.tiff"),
        "ImageJ TIFF": (".tif",),
    }

    def sniff(self, item: SourceItem) -> int:
        """Recognise the byte order mark and version of TIFF and BigTIFF."""
        return 90 if signature(item.head) is not None else 0

    def open(self, source: Source) -> Sequence[Volume]:
        """Return one volume per stack of slices, and one per image of any other file.

        Raises
        ------
        SourceUnreadable
            A file is damaged, or kind ``source_inconsistent``: a slice does not fit the others.
        SourceIncomplete
            A file is cut off; says how many pages are good.
        """
        volumes: list[Volume] = []
        for folder, items in by_folder(source.items).items():
            if len(items) > 1 and _first_is_slice(items) and _belong_together(folder, items):
                volumes += stack_of(folder, items, source)
                continue
            done: set[Path] = set()
            for item in items:
                if item.path.resolve() in done:
                    continue
                try:
                    found = volumes_of_file(item, source)
                except SourceUnreadable as error:
                    source.skip(item.name, error.what, error)
                    continue
                done |= {path.resolve() for volume in found for path in volume.files}
                volumes += found
        return unique_names(volumes)


def _first_is_slice(items: Sequence[SourceItem]) -> bool:
    """Return whether the first readable file of a folder holds a single plain page; the others must follow it."""
    for item in items:
        try:
            return is_slice(item)
        except SourceUnreadable:
            continue
    return False


def _belong_together(folder: str, items: Sequence[SourceItem]) -> bool:
    """Return whether files are one stack: by their names, or because they fit each other."""
    if is_numbered([item.name for item in items]):
        return True
    try:
        stack_of(folder, items, Source(tuple(items)))
    except SourceUnreadable as error:
        return error.kind is not Kind.SOURCE_INCONSISTENT
    return True
