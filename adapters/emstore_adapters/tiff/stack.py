"""A folder of single-page TIFF files as one volume. Only the first is parsed in full; of the others, only their skeleton.

Checking a slice costs one or two small reads: its directory is compared, number by number, with the first slice's. Only
where they differ does tifffile parse it and say whether the image itself differs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from emstore.errors import Kind, SourceIncomplete, SourceUnreadable
from emstore.header import Header
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.folder_stack import bundled, naming_notes, stack_name
from emstore_adapters.tiff.ifd import Directory, Skeleton
from emstore_adapters.tiff.pages import Page, PageArray, call_tifffile, tifffile_log
from emstore_adapters.tiff.scale import Scale, scale_of
from emstore_adapters.tiff.series import (
    axis_names,
    check_promise,
    colours_of,
    grid_of,
    header_bytes,
    page_segment,
    photometric_notes,
    tree_of,
)  # fmt: skip
from emstore_adapters.tiff.vendors import modality_of, terms_of

_STRUCTURE: Final = (256, 257, 258, 259, 262, 266, 277, 284, 317, 322, 323, 339, 32997)
"""Tags that decide shape, type and coding of a page."""
_RESOLUTION: Final = (282, 283, 296)


@dataclass(frozen=True)
class _First:
    """What the first slice says about all."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    nbytes: int
    plain: bool
    """Whether its samples are uncompressed and undivided, apart from strips that follow each other."""
    structure: tuple[tuple[int, ...], ...]
    segment: tuple[int, ...]
    scale: Scale
    colours: tuple[str, ...]
    header: Header
    modality: str | None
    notes: tuple[str, ...]


def is_slice(item: SourceItem) -> bool:
    """Return whether a file holds one plain page: not an ImageJ or OME stack, not several pages."""
    with item.path.open("rb", buffering=0) as file:
        skeleton = Skeleton(file, item.name)
        found = skeleton.directory(skeleton.first)
    if found.following or 65420 in found.tags:
        return False
    return call_tifffile(lambda: _is_one_image(item), item.name)  # type: ignore[no-any-return]


def _is_one_image(item: SourceItem) -> bool:
    import tifffile

    with tifffile.TiffFile(item.path) as file:
        return len(file.series) == 1 and tuple(file.series[0].shape) == tuple(file.pages[0].shape)


def stack_of(folder: str, items: Sequence[SourceItem], source: Source) -> list[Volume]:
    """Return the slices of one folder as a volume; empty when none of them can be used.

    Raises
    ------
    SourceUnreadable
        Kind ``source_inconsistent``: names the slice that differs from the first, and how.
    SourceIncomplete
        Names the slice that is cut off.
    """
    first: _First | None = None
    pages: list[Page] = []
    used: list[SourceItem] = []
    other_resolution: list[str] = []
    resolution: tuple[tuple[int, ...], ...] = ()
    for item in items:
        try:
            with item.path.open("rb", buffering=0) as file:
                skeleton = Skeleton(file, item.name)
                found = skeleton.directory(skeleton.first)
                if first is None:
                    first = call_tifffile(partial(_parse_first, item, len(items), _structure(skeleton, found)), item.name)
                    resolution = _resolution(skeleton, found)
                page = _check_slice(first, skeleton, found, item, used)
                if _resolution(skeleton, found) != resolution:
                    other_resolution.append(item.name)
        except OSError as error:
            known = (
                error if isinstance(error, SourceUnreadable) else SourceUnreadable(f"cannot be read: {error}", where=item.name)
            )
            source.skip(item.name, known.what, known)
            continue
        pages.append(page)
        used.append(item)
    if first is None or not pages:
        return []
    names, order = axis_names("Z" + first.axes)
    segment = None if all(page.offset is not None for page in pages) else first.segment
    array = PageArray(tuple(pages), (len(pages),), first.shape, first.axes, order, segment)
    notes = [*first.notes, *naming_notes([item.name.rpartition("/")[2] for item in used])]
    notes.append(f"{len(used)} files are the slices of one stack, in the natural order of their names.")
    if other_resolution:
        notes.append(f"{len(other_resolution)} slices state another resolution than the first, e.g. {other_resolution[0]}.")
    name = stack_name(folder, used)
    raw = bundled(name, used, lambda one: header_bytes(one.path, None))
    return [
        Volume(
            name=name.rpartition("/")[2],
            data=array,
            grid=grid_of(names, array.shape, first.scale, first.colours),
            header=Header(first.header.format, first.header.tree, first.header.terms, raw),
            modality=first.modality,
            files=tuple(item.path for item in used),
            attributes={"slices": [item.name for item in used]} if len(used) <= 10_000 else {},
            notes=tuple(notes),
        )
    ]


def _unreadable(error: OSError, item: SourceItem) -> SourceUnreadable:
    return SourceUnreadable(f"cannot be read: {error.strerror}", where=item.name, fix="check the disk and its permissions")


def _parse_first(item: SourceItem, count: int, structure: tuple[tuple[int, ...], ...]) -> _First:
    import tifffile

    with tifffile_log() as log, tifffile.TiffFile(item.path) as file:
        page: Any = file.pages[0]
        if page.dtype is None or page.dtype.kind not in "biufc":
            raise SourceUnreadable(
                f"samples of {page.bitspersample} bits in format {page.sampleformat} cannot be kept exactly",
                where=item.name,
                fix="export the slices as integers or floating point",
                kind=Kind.SOURCE_UNSUPPORTED,
            )
        if not page.size:
            raise SourceUnreadable(f"states the shape {tuple(page.shape)}", where=item.name, fix="copy the file again")
        if not page.is_contiguous:
            check_promise(page, sum(page.databytecounts), item.name)
        scale = scale_of(file, page, 0, int(page.imagewidth))
        return _First(
            shape=tuple(page.shape),
            axes=str(page.axes),
            dtype=np.dtype(page.dtype),
            nbytes=int(page.nbytes),
            plain=page.compression == 1 and not page.is_tiled and page.predictor == 1 and page.fillorder == 1
            and page.bitspersample in (8, 16, 32, 64) and (page.planarconfig == 1 or page.samplesperpixel == 1),
            structure=structure,
            segment=page_segment(page),
            scale=scale,
            colours=colours_of(page, str(page.axes)),
            header=Header("OME-TIFF" if file.is_ome else "TIFF", tree_of(file, page), terms_of(page)),
            modality=modality_of(page, slices=count),
            notes=(*scale.notes, *photometric_notes(page), *log),
        )  # fmt: skip


def _structure(skeleton: Skeleton, found: Directory) -> tuple[tuple[int, ...], ...]:
    return tuple(skeleton.integers(found.tags[code]) if code in found.tags else () for code in _STRUCTURE)


def _resolution(skeleton: Skeleton, found: Directory) -> tuple[tuple[int, ...], ...]:
    return tuple(skeleton.integers(found.tags[code]) if code in found.tags else () for code in _RESOLUTION)


def _check_slice(first: _First, skeleton: Skeleton, found: Directory, item: SourceItem, before: Sequence[SourceItem]) -> Page:
    """Return one slice, after making sure that it fits the first and is whole."""
    if found.following:
        raise SourceUnreadable(
            "holds several pages where the first slice holds one",
            where=item.name,
            fix="ingest it on its own",
            kind=Kind.SOURCE_INCONSISTENT,
        )
    plain = first.plain
    if _structure(skeleton, found) != first.structure:
        plain = call_tifffile(partial(_compare, first, item, before), item.name)
    offsets, sizes = skeleton.segments(found)
    dtype = first.dtype.newbyteorder("<" if skeleton.order == "<" else ">")
    undivided = plain and all(o + n == p for o, n, p in zip(offsets, sizes, offsets[1:], strict=False))
    end = offsets[0] + first.nbytes if undivided and offsets else max(map(sum, zip(offsets, sizes, strict=False)), default=0)
    if not offsets or end > skeleton.size or (undivided and sum(sizes) < first.nbytes):
        raise SourceIncomplete(
            f"the slice is cut off: {skeleton.size} of {end} bytes are there; the {len(before)} slices before it are good",
            where=item.name,
            fix="copy the file again, or pass --allow-partial to go on without it",
        )
    return Page(item.path, item.name, offsets[0] if undivided else None, dtype)


def _compare(first: _First, item: SourceItem, before: Sequence[SourceItem]) -> bool:
    """Say how a slice differs from the first, or return whether its samples are plain where only the coding differs."""
    import tifffile

    with tifffile.TiffFile(item.path) as file:
        page: Any = file.pages[0]
        differences = [
            f"{what} {mine} instead of {theirs}"
            for what, mine, theirs in (
                ("shape", tuple(page.shape), first.shape),
                ("axes", page.axes, first.axes),
                ("type", page.dtype, first.dtype),
            )
            if mine != theirs
        ]
        if differences:
            raise SourceUnreadable(
                f"the slice does not fit the first, {before[0].name}: {', '.join(differences)}"
                if before
                else ", ".join(differences),
                where=item.name,
                fix="move it out of the folder, or pass --allow-partial to go on without it",
                kind=Kind.SOURCE_INCONSISTENT,
            )
        if not page.is_contiguous:
            check_promise(page, sum(page.databytecounts), item.name)
        return bool(page.is_contiguous and page.predictor == 1 and page.fillorder == 1 and math.prod(page.shape))
