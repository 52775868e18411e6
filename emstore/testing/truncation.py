"""What may come of a file cut short."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.adapter import Adapter
from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore.testing import regions
from emstore.volume import Volume

STEP: Final = 16 << 20


def check(adapter: Adapter, paths: Sequence[Path], whole: Sequence[Volume]) -> Iterator[str]:
    """List what is wrong with how a cut source is read, first strictly and then with a partial read allowed.

    Parameters
    ----------
    adapter : Adapter
        The adapter to test.
    paths : sequence of Path
        The cut source.
    whole : sequence of Volume
        The volumes of the uncut one.
    """
    yield from _strict(adapter, paths, whole)
    yield from _partial(adapter, paths)


def _strict(adapter: Adapter, paths: Sequence[Path], whole: Sequence[Volume]) -> Iterator[str]:
    expected = {volume.name: volume for volume in whole}
    try:
        with Source.of(paths) as source:
            if not any([adapter.sniff(item) for item in source.items]):
                return
            found = {volume.name: volume for volume in adapter.open(source)}
            missing = sorted(set(expected) - set(found))
            if missing:
                yield f"opens without an error, but without {', '.join(missing)}"
            for name in set(expected) & set(found):
                if found[name].shape != expected[name].shape:
                    yield f"opens without an error, but {name} has shape {found[name].shape}, not {expected[name].shape}"
                elif not _equal(found[name], expected[name]):
                    yield f"reads without an error, but the values of {name} differ from the whole file's"
    except SourceUnreadable as error:
        yield from _message(error)
    except Exception as error:  # noqa: BLE001 - finding these is the point
        yield f"raises {type(error).__name__}: {str(error)[:200]}"


def _partial(adapter: Adapter, paths: Sequence[Path]) -> Iterator[str]:
    """With a partial read allowed, everything that comes back can be read, and what is left out is told."""
    try:
        with Source.of(paths, allow_partial=True) as source:
            if not any([adapter.sniff(item) for item in source.items]):
                return
            for volume in adapter.open(source):
                for region in regions.walk(volume.data, STEP):
                    volume.data[region]
    except SourceUnreadable as error:
        yield from _message(error)
    except Exception as error:  # noqa: BLE001 - finding these is the point
        yield f"with a partial read allowed, raises {type(error).__name__}: {str(error)[:200]}"


def _message(error: SourceUnreadable) -> Iterator[str]:
    if error.where is None:
        yield f"the error does not name the file: {error}"
    if isinstance(error, SourceIncomplete) and not re.search(r"\d|\b(all|no|none|nothing|one)\b", error.what):
        yield f"the error does not say how much is good: {error}"


def _equal(found: Volume, expected: Volume) -> bool:
    return all(_same(found.data[region], expected.data[region]) for region in regions.walk(expected.data, STEP))


def _same(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
