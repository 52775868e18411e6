"""Folders of slices: which files belong together, which numbers are missing, and one place for all their headers.

One folder is one stack: a folder with ``BSE/`` and ``SE/`` inside is two. Files keep the order of `Source`, which is the
natural order of their names.
"""

import io
import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from emstore.header import RawHeader
from emstore.source import SourceItem
from emstore.volume import Volume

_DIGITS = re.compile(r"\d+")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The same date for every member, so that the same headers always give the same bytes."""


def by_folder(items: Sequence[SourceItem]) -> dict[str, list[SourceItem]]:
    """Return the items of every folder, folders in order of their first item; keys as in the items' names, '' at the top."""
    groups: dict[str, list[SourceItem]] = {}
    for item in items:
        groups.setdefault(item.name.rpartition("/")[0], []).append(item)
    return groups


def stack_name(folder: str, items: Sequence[SourceItem]) -> str:
    """Return a name for the stack: its folder's, as far as the user named one."""
    return folder or items[0].path.parent.name or items[0].path.stem


def is_numbered(names: Sequence[str]) -> bool:
    """Return whether most of the names differ in their numbers only: then they are meant as one series.

    Files that are not so named are one stack only if they fit; else each is a picture of its own.
    """
    commonest = Counter(_DIGITS.sub("#", name.rpartition("/")[2]) for name in names).most_common(1)[0][1]
    return 2 * commonest > len(names)


def naming_notes(names: Sequence[str]) -> list[str]:
    """Return notes on missing numbers, and on names that do not follow one pattern.

    Parameters
    ----------
    names : sequence of str
        File names in stack order.
    """
    patterns = Counter(_DIGITS.sub("#", name) for name in names)
    notes = []
    if len(patterns) > 1:
        listing = ", ".join(f"{pattern} ({count})" for pattern, count in patterns.most_common(4))
        notes.append(f"the files follow {len(patterns)} naming patterns: {listing}; all are slices of one stack.")
    pattern, count = patterns.most_common(1)[0]
    series = [name for name in names if _DIGITS.sub("#", name) == pattern]
    numbers = list(zip(*([int(n) for n in _DIGITS.findall(name)] for name in series), strict=True))
    moving = [run for run in numbers if len(set(run)) > 1]
    if count < 3 or len(moving) != 1:
        return notes
    run = moving[0]
    step = Counter(b - a for a, b in itertools.pairwise(run)).most_common(1)[0][0]
    if step < 1:
        return notes
    gaps = [(a, b) for a, b in itertools.pairwise(run) if b - a > step]
    for a, b in gaps[:5]:
        last = b - step
        missing = f"{a + step}" if last == a + step else f"{a + step} to {last}"
        notes.append(
            f"the numbered series has a gap: {missing} missing between {series[run.index(a)]} and {series[run.index(b)]}."
        )
    if len(gaps) > 5:
        notes.append(f"the numbered series has {len(gaps) - 5} more gaps.")
    return notes


def bundled(name: str, items: Sequence[SourceItem], read: Callable[[SourceItem], bytes]) -> tuple[RawHeader, ...]:
    """Return the raw headers of all files: as it is for one, for many as the members of one zip archive.

    Thousands of tiny objects would cost more than the slices themselves; every member is still byte-exact.
    """
    if len(items) == 1:
        return (RawHeader(f"{items[0].path.name}.header", lambda: read(items[0])),)

    def archive() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
            for item in items:
                out.writestr(zipfile.ZipInfo(item.name, _EPOCH), read(item), zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    return (RawHeader(f"{name.rpartition('/')[2]}.headers.zip", archive),)


def unique_names(volumes: Sequence[Volume]) -> list[Volume]:
    """Return the volumes with a number after every name that was taken already."""
    seen: dict[str, int] = {}
    renamed = []
    for volume in volumes:
        count = seen[volume.name] = seen.get(volume.name, 0) + 1
        renamed.append(volume if count == 1 else replace(volume, name=f"{volume.name} ({count})"))
    return renamed
