"""DICOM: CT and MR series, enhanced multi-frame, Siemens mosaics, angiography and ultrasound runs, single images."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from emstore.errors import SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import Volume


class DicomAdapter:
    """Reads DICOM files (PS3.10) and bare data sets; every series of a folder becomes volumes of its own."""

    name: ClassVar[str] = "dicom"
    version: ClassVar[str] = "2"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {"DICOM": (".dcm", ".ima", ".dicom")}

    def sniff(self, item: SourceItem) -> int:
        """Score an item: 100 with the ``DICM`` mark, at most 60 for a bare data set."""
        from emstore_adapters.dicom.reader import looks_like_dicom

        return 0 if item.is_folder else looks_like_dicom(item.head)

    def open(self, source: Source) -> Sequence[Volume]:
        """Return the volumes of every series found, by series number.

        Raises
        ------
        SourceUnreadable, SourceIncomplete
            A file is damaged, truncated, or contradicts the others of its series.
        """
        from emstore_adapters.dicom.series import find_volumes, read_series
        from emstore_adapters.dicom.volumes import build_volumes

        volumes = build_volumes([found for series in read_series(source) for found in find_volumes(source, series)])
        if not volumes:
            raise SourceUnreadable("holds no DICOM image", where=source.items[0].name if source.items else None)
        return volumes
