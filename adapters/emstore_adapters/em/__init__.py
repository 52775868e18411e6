"""Electron microscopy formats, on top of rosettasciio (GPL-3.0, the optional extra ``em``)."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

from emstore.errors import EmstoreError, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.em import formats
from emstore_adapters.em.formats import Format
from emstore_adapters.em.signals import Signal, unique_names

__all__ = ["EmAdapter"]


# Format -> module and function; modules are imported when a file of theirs is opened.
_READERS: Final[Mapping[Format, tuple[str, str]]] = MappingProxyType(
    {
        Format.DM: ("dm", "read"),
        Format.VELOX: ("velox", "read"),
        Format.BERKELEY: ("berkeley", "read"),
        Format.SER: ("tia", "read_ser"),
        Format.EMI: ("tia", "read_emi"),
        Format.HSPY: ("hyperspy", "read_hspy"),
        Format.ZSPY: ("zspy", "read"),
        Format.BLO: ("blockfile", "read"),
        Format.TVIPS: ("tvips", "read"),
        Format.TVIPS_PART: ("tvips", "read_part"),
    }
)


class EmAdapter:
    """Reads Gatan DM3/DM4, Velox and Berkeley EMD, SER/EMI, HyperSpy hspy/zspy, blockfiles and TVIPS.

    Of several signals in a file the most image-like come first; names are titles or detectors, numbered when repeated.
    """

    name: ClassVar[str] = "em"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = formats.EXTENSIONS

    def sniff(self, item: SourceItem) -> int:
        """Say how surely this is one of the formats, 0 to 100; see `emstore_adapters.em.formats.sniff`."""
        found = formats.sniff(item)
        return 0 if found is None else found[1]

    def open(self, source: Source) -> Sequence[Volume]:
        """Return every signal of the source's files as lazy Volumes.

        Raises
        ------
        SourceUnreadable, SourceIncomplete
            Naming the file and what of it is good.
        InvalidInput
            Kind ``missing_extra``: rosettasciio is needed and not installed.
        """
        known = {item: formats.sniff(item) for item in source.items}
        consumed = _companions(known)
        found: list[tuple[SourceItem, Signal]] = []
        for item, format_and_score in known.items():
            if item.path in consumed:
                continue
            try:
                found += [(item, signal) for signal in _read(item, source, format_and_score)]
            except EmstoreError as error:
                source.skip(item.name, error.what, error)
        found.sort(key=lambda pair: pair[1].rank)
        stems = {item.name for item, _ in found}
        titles = []
        for item, signal in found:
            title = signal.title.strip().replace("/", "-") or item.path.stem
            titles.append(title if len(stems) == 1 or title == item.path.stem else f"{item.path.stem} {title}")
        return [signal.volume(name) for (_, signal), name in zip(found, unique_names(titles), strict=True)]


def _read(item: SourceItem, source: Source, known: tuple[Format, int] | None) -> Sequence[Signal]:
    if known is None:
        raise SourceUnreadable("is none of the electron microscopy formats", where=item.name)
    module, function = _READERS[known[0]]
    reader: Callable[[SourceItem, Source], Sequence[Signal]] = getattr(import_module(f"emstore_adapters.em.{module}"), function)
    return reader(item, source)


def _companions(known: Mapping[SourceItem, tuple[Format, int] | None]) -> frozenset[Path]:
    """Return the files that another item of the same source brings in: an EMI its SERs, a TVIPS part 000 the others."""
    from emstore_adapters.em import tia, tvips

    paths: set[Path] = set()
    for item, found in known.items():
        if found is not None and found[0] is Format.EMI:
            paths.update(tia.ser_companions(item.path))
        elif found is not None and found[0] is Format.TVIPS:
            paths.update(tvips.companions(item.path)[1:])
    return frozenset(paths)
