"""The images of one TIFF file (or of an OME-TIFF set) as volumes. tifffile groups the pages; what they mean is decided here."""

import enum
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header, RawHeader, json_safe
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray, Volume
from emstore_adapters.flat import FlatArray, PlainBytes
from emstore_adapters.tiff.ifd import Skeleton
from emstore_adapters.tiff.pages import MAX_SEGMENT, Page, PageArray, call_tifffile, segment_shape, tifffile_log
from emstore_adapters.tiff.scale import Scale, scale_of
from emstore_adapters.tiff.vendors import modality_of, terms_of

MAX_HEADER: Final = 64 << 20
"""Most that is kept of one file's bytes outside its images."""
_MAX_RATIO: Final = 20_000
"""Compressed pages of more than 100 MB that promise more than this many times their size are refused."""
_LONGEST_TEXT: Final = 64 << 10
_LETTERS: Final = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c", "E": "energy"}
_PAGE_LETTERS: Final = "IQ"
_LAYOUT_TAGS: Final = frozenset({273, 279, 324, 325, 330, 347})
"""Where the samples are: of no use outside the file."""


def volumes_of_file(item: SourceItem, source: Source) -> list[Volume]:
    """Return one volume per image of a file.

    Raises
    ------
    SourceUnreadable, SourceIncomplete, Capacity
        See `emstore_adapters.tiff.TiffAdapter.open`.
    """
    _check_chain(item, source)
    with tifffile_log() as log:
        volumes: list[Volume] = call_tifffile(lambda: _volumes(item, source), item.name)
    return [replace(volume, notes=(*volume.notes, *log)) for volume in volumes]


def _check_chain(item: SourceItem, source: Source) -> None:
    """Make sure that the chain of directories is whole; tifffile stops without a word where it is not."""
    count = 0
    with item.path.open("rb", buffering=0) as file:
        try:
            for found in Skeleton(file, item.name).chain():
                count += 1
                if 65420 in found.tags:
                    return  # Hamamatsu NDPI bends the rules for offsets beyond 4 GiB: tifffile knows how
        except SourceIncomplete as error:
            if not count:
                raise
            source.skip(item.name, f"only {count} pages are there", error)


def _volumes(item: SourceItem, source: Source) -> list[Volume]:
    import tifffile

    volumes = []
    with tifffile.TiffFile(item.path) as file:
        if not file.pages:
            raise SourceUnreadable("the file holds no pages", where=item.name, fix="copy the file again")
        series = list(file.series)
        good = _good_of_promised(file, series, item, source)
        for index, one in enumerate(series):
            name = item.path.stem.removesuffix(".ome") if len(series) == 1 else (one.name or f"series{index}")
            try:
                volume = _volume(file, one, index, name, good, item, source)
            except SourceUnreadable as error:
                if len(series) == 1:
                    raise
                source.skip(f"{item.name} {name}", error.what, error)
                continue
            if volume is not None:
                volumes.append(volume)
    return volumes


def _good_of_promised(file: Any, series: list[Any], item: SourceItem, source: Source) -> int | None:
    """Compare the number of planes that ImageJ's description promises with what tifffile found.

    tifffile quietly takes the first page alone when an ImageJ stack, which has one directory only, is cut off. Returns how
    many planes are really there then, else ``None``.
    """
    if not file.is_imagej:
        return None
    promised = int((file.imagej_metadata or {}).get("images", 1))
    page = file.pages[0]
    found = sum(math.prod(one.shape) for one in series) // max(math.prod(page.shape), 1)
    if found >= promised:
        return None
    alone = found == 1 and page.is_contiguous and page.nbytes > 0
    good = min(max(item.size - page.dataoffsets[0], 0) // page.nbytes, promised) if alone else found
    error = SourceIncomplete(
        f"ImageJ's description promises {promised} images: {good} images are good",
        where=item.name,
        fix="copy the file again, or pass --allow-partial to keep the good part",
    )
    source.skip(item.name, f"{promised - good} of {promised} images are left out", error)
    return good if alone else None


def _volume(file: Any, series: Any, index: int, name: str, good: int | None, item: SourceItem, source: Source) -> Volume | None:
    key = series.keyframe
    if series.dtype is None or series.dtype.kind not in "biufc" or series.dtype.itemsize > 16:
        raise SourceUnreadable(
            f"samples of {key.bitspersample} bits in format {key.sampleformat} cannot be kept exactly",
            where=item.name,
            fix="export the image as integers or floating point",
            kind=Kind.SOURCE_UNSUPPORTED,
        )
    if not math.prod(series.shape):
        raise SourceUnreadable(f"states the shape {tuple(series.shape)}", where=item.name, fix="copy the file again")
    scale = scale_of(file, key, index, int(key.imagewidth))
    letters, notes = str(series.axes) if good is None else f"I{key.axes}", list(scale.notes)
    names, order = axis_names(letters, "t" in scale.steps and "z" not in scale.steps)
    array: LazyArray | None
    if good is None:
        array = _array(series, order, item, source)
    elif good:
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        array = FlatArray(PlainBytes(item.path, item.name), item.name, key.dataoffsets[0], (good, *key.shape), dtype, order)
    else:
        array = None
    if array is None:
        return None
    if file.is_ome:
        notes += _outside(array, item)
    if set(letters) & set(_PAGE_LETTERS):
        loose = [names[order.index(i)] for i, letter in enumerate(letters) if letter in _PAGE_LETTERS]
        notes.append(f"the file does not say what its pages run over: they are taken as {' and '.join(loose)}.")
    if len(series.levels) > 1:
        sizes = ", ".join("x".join(map(str, level.shape)) for level in series.levels[1:])
        notes.append(f"the image is a pyramid; only the full level is read. Others: {sizes}.")
    files = array_files(array) or (item.path,)
    image = (array.offset, math.prod(array.shape) * array.dtype.itemsize) if isinstance(array, FlatArray) else None
    return Volume(
        name=scale.name if scale.name and name.startswith("series") else name,
        data=array,
        grid=grid_of(names, array.shape, scale, colours_of(key, letters)),
        header=Header(
            "OME-TIFF" if file.is_ome else "ImageJ TIFF" if file.is_imagej else "TIFF",
            tree=tree_of(file, key),
            terms=terms_of(key),
            raw=tuple(RawHeader(f"{path.name}.header", partial(header_bytes, path, image)) for path in files),
        ),
        modality=modality_of(key),
        files=files,
        attributes={"tiff": {"photometric": _plain(key.photometric), "compression": _plain(key.compression)}},
        notes=(*notes, *photometric_notes(key)),
    )


def axis_names(letters: str, pages_are_time: bool = False) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the axis names in emstore's order and, for each, its place among tifffile's axes.

    Parameters
    ----------
    letters : str
        tifffile's axes, e.g. ``IYXS``.
    pages_are_time : bool
        Whether pages without a meaning of their own run over time.
    """
    taken: list[str] = []
    for letter in reversed(letters):  # the fastest of several page axes is the one that runs over z
        wanted = _LETTERS.get(letter, letter.lower())
        if letter in _PAGE_LETTERS:
            wanted = "t" if pages_are_time else "z"
        if wanted in taken or (letter in _PAGE_LETTERS and wanted.upper() in letters):
            wanted = letter.lower()
        while wanted in taken:
            wanted += "2"
        taken.append(wanted)
    taken.reverse()
    rank = {name: i for i, name in enumerate("tczyx")}
    order = sorted(range(len(taken)), key=lambda i: (taken[i] in rank, rank.get(taken[i], i)))
    return tuple(taken[i] for i in order), tuple(order)


def colours_of(page: Any, letters: str) -> tuple[str, ...]:
    """Return what the samples of a page's pixels are (TIFF 6.0, PhotometricInterpretation and ExtraSamples), if colours."""
    extra = tuple(int(one) for one in page.extrasamples)
    # tifffile decodes JPEG's YCbCr into RGB.
    colour = _plain(page.photometric) == "RGB" or (_plain(page.photometric), _plain(page.compression)) == ("YCBCR", "JPEG")
    if "S" not in letters or "C" in letters or not colour or len(extra) > 1:
        return ()
    return ("red", "green", "blue", *({1: "alpha", 2: "alpha"}.get(one, "extra") for one in extra))


def grid_of(names: tuple[str, ...], shape: tuple[int, ...], scale: Scale, colours: tuple[str, ...] = ()) -> Grid:
    """Return the grid of an image with axes in emstore's order; `colours` names the samples of RGB pixels."""
    axes = []
    for name, size in zip(names, shape, strict=True):
        step, unit = scale.steps.get(name, (None, None))
        match name:
            case "c":
                labels = next((named for named in (scale.labels, colours) if named and len(named) == size), None)
                axes.append(Axis(name, size, AxisKind.CHANNEL, labels=labels))
            case "t":
                axes.append(Axis.measured(name, size, step, unit, kind=AxisKind.TIME))
            case "z" | "y" | "x":
                axes.append(Axis.measured(name, size, step, unit))
            case _:
                axes.append(Axis(name, size, AxisKind.SPECTRAL if name == "energy" else AxisKind.OTHER))
    return Grid(tuple(axes))


def _array(series: Any, order: tuple[int, ...], item: SourceItem, source: Source) -> LazyArray | None:
    """Return the image's array, cut to its good part if it is incomplete and that is allowed."""
    key, shape = series.keyframe, tuple(series.shape)
    dtype = np.dtype(series.dtype).newbyteorder(key.parent.byteorder)
    if series.dataoffset is not None and key.is_final and key.predictor == 1 and key.fillorder == 1:
        array = FlatArray(PlainBytes(item.path, item.name), item.name, int(series.dataoffset), shape, dtype, order, 0, "pages")
        if item.size >= array.offset + math.prod(shape) * dtype.itemsize:
            return array
        good = array.good(item.size)
        source.skip(item.name, f"{shape[0] - good} of {shape[0]} pages are missing", array.incomplete(item.size))
        cut = (good, *shape[1:])
        return FlatArray(array.source, item.name, array.offset, cut, dtype, order, 0, "pages") if good else None
    own = len(key.shape)
    lead = shape[: len(shape) - own]
    if shape[len(lead) :] != tuple(key.shape) or math.prod(lead) != len(series.pages):
        raise SourceUnreadable(
            f"its {len(series.pages)} pages of shape {tuple(key.shape)} do not make an image of shape {shape}",
            where=item.name,
            fix="export the image again",
        )
    pages: list[Page] = []
    sizes: dict[Path, int] = {}
    for number, frame in enumerate(series.pages):
        page = None if frame is None else _page(frame, key, dtype, number, len(series.pages), item, sizes)
        if page is None:
            good = number // math.prod(lead[1:]) if lead else 0
            each = "pages" if len(lead) < 2 else f"groups of {math.prod(lead[1:])} pages"
            error = SourceIncomplete(
                f"page {number} is missing or cut off: {good} of {lead[0] if lead else 1} {each} are good",
                where=item.name,
                fix="copy the file again, or pass --allow-partial to keep the good part",
            )
            source.skip(item.name, f"the image stops before page {number}", error)
            if not good:
                return None
            lead = (good, *lead[1:])
            pages = pages[: math.prod(lead)]
            break
        pages.append(page)
    segment = None if all(page.offset is not None for page in pages) else page_segment(key)
    return PageArray(tuple(pages), lead, tuple(key.shape), str(key.axes), order, segment)


def _page(
    frame: Any, key: Any, dtype: np.dtype[Any], number: int, of: int, item: SourceItem, sizes: dict[Path, int]
) -> Page | None:
    """Return one page, or ``None`` where its data lie beyond the end of its file."""
    path = Path(frame.parent.filehandle.path)
    size = sizes.setdefault(path, path.stat().st_size if path.exists() else 0)
    name = item.name if of == 1 else f"{item.name if path == item.path else path.name} page {number}"
    offsets, counts = frame.dataoffsets, frame.databytecounts
    plain = frame.is_contiguous and key.predictor == 1 and key.fillorder == 1 and len(offsets) > 0
    end = offsets[0] + key.nbytes if plain else max((o + c for o, c in zip(offsets, counts, strict=False)), default=0)
    if end > size or not offsets:
        return None
    if not plain:
        check_promise(key, sum(counts), name)
        # Tags are fetched when first asked for: now, while the file is open.
        _ = key.decode, key.jpegheader, frame.jpegtables
    return Page(path, name, int(offsets[0]) if plain else None, dtype, None if plain else frame)


def check_promise(page: Any, stored: int, name: str) -> None:
    """Refuse a page that promises absurdly more than it can hold.

    Raises
    ------
    Capacity
        One strip or tile, or the ratio of the page, is beyond its limit.
    """
    depth, rows, columns = segment_shape(page)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    segment = depth * rows * columns * samples * np.dtype(page.dtype).itemsize
    if segment > MAX_SEGMENT:
        raise Capacity(
            f"one strip or tile unpacks to {segment} bytes", where=name, fix="export the image in smaller strips or tiles"
        )
    if page.nbytes > 100_000_000 and page.nbytes > stored * _MAX_RATIO:
        raise Capacity(f"{stored} bytes promise an image of {page.nbytes}", where=name, fix="the file is damaged or hostile")


def page_segment(page: Any) -> tuple[int, ...]:
    """Return the shape of one strip or tile along the page's own axes."""
    depth, rows, columns = segment_shape(page)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    size = {"S": samples, "Z": depth, "Y": rows, "X": columns}
    return tuple(min(size[letter], whole) for letter, whole in zip(page.axes, page.shape, strict=True))


def array_files(array: LazyArray) -> tuple[Path, ...]:
    """Return the files whose pages an array reads, in order."""
    return tuple(dict.fromkeys(page.path for page in array.pages)) if isinstance(array, PageArray) else ()


def _outside(array: LazyArray, item: SourceItem) -> list[str]:
    """Refuse an OME-TIFF set that reaches outside its own folder; say which files belong to it."""
    folder = item.path.resolve().parent
    files = array_files(array)
    for path in files:
        if folder not in path.resolve().parents:
            raise SourceUnreadable(
                f"its OME-XML points to {path.name} outside the file's own folder",
                where=item.name,
                fix="put the whole set in one folder",
            )
    return [f"the image is spread over {len(files)} files."] if len(files) > 1 else []


def header_bytes(path: Path, image: tuple[int, int] | None) -> bytes:
    """Return a file's bytes outside its strips and tiles, in file order, at most `MAX_HEADER` of them."""
    with path.open("rb", buffering=0) as file:
        return Skeleton(file, path.name).header_bytes(*(() if image is None else (image,)), most=MAX_HEADER)


def photometric_notes(page: Any) -> list[str]:
    """Return notes on values that do not mean what a viewer would take them for."""
    match _plain(page.photometric):
        case "MINISWHITE":
            return ["0 is white in this file (photometric miniswhite); values are kept as stored."]
        case "PALETTE" if not _is_grey_ramp(page):
            return ["values are indices into the colour table that is kept in the header."]
    return []


def _is_grey_ramp(page: Any) -> bool:
    table = page.tags.valueof(320)
    if table is None or np.ndim(table) != 2 or np.shape(table)[0] != 3:
        return False
    red, green, blue = np.asarray(table, dtype=np.int64)
    return bool((red == green).all() and (red == blue).all() and (np.diff(red) >= 0).all())


def tree_of(file: Any, page: Any) -> Mapping[str, Any]:
    """Return the parsed header: the first page's tags, and ImageJ's own blocks where there are some."""
    tree: dict[str, Any] = {"tags": {tag.name: _plain(tag.value) for tag in page.tags if tag.code not in _LAYOUT_TAGS}}
    if file.is_imagej and file.imagej_metadata:
        tree["imagej"] = _plain(file.imagej_metadata)
    safe: Mapping[str, Any] = json_safe(tree)
    return safe


def _plain(value: Any) -> Any:
    """Return a tag's value with enumerations by name and very long texts cut: the raw header has them whole."""
    match value:
        case enum.Enum():
            return value.name
        case str() if len(value) > _LONGEST_TEXT:
            return f"{value[:_LONGEST_TEXT]}... <{len(value)} characters>"
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case tuple() | list():
            return [_plain(v) for v in value]
    return value
