"""A tile: whatever pieces go in, the right chunks come out."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.store.tile import Tile


@given(st.data())
def test_any_pieces_in_whole_chunks_out(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 9), min_size=rank, max_size=rank)
    whole, chunk, times = (tuple(data.draw(sizes)) for _ in range(3))
    room = tuple(c * t for c, t in zip(chunk, times, strict=True))
    values = np.arange(1, np.prod(whole) + 1, dtype=data.draw(st.sampled_from(["<u2", ">u2", "<f8"]))).reshape(whole)
    tile = Tile(room, chunk, values.dtype.newbyteorder("="))
    seen = np.zeros(whole, bool)
    for index in np.ndindex(*(-(-n // r) for n, r in zip(whole, room, strict=True))):
        region = tuple(slice(i * r, min((i + 1) * r, n)) for i, r, n in zip(index, room, whole, strict=True))
        tile.take(region)
        axis = data.draw(st.integers(0, rank - 1))
        start, stop = region[axis].start, region[axis].stop
        inner = data.draw(st.lists(st.integers(start + 1, stop - 1), unique=True)) if stop - start > 1 else []
        cuts = sorted({start, stop, *inner})
        for a, b in itertools.pairwise(cuts):
            piece = (*region[:axis], slice(a, b), *region[axis + 1 :])
            tile.put(piece, values[piece])
        first = [s.start // c for s, c in zip(region, chunk, strict=True)]
        last = [-(-s.stop // c) for s, c in zip(region, chunk, strict=True)]
        for offset in np.ndindex(*(b - a for a, b in zip(first, last, strict=True))):
            at = tuple(a + o for a, o in zip(first, offset, strict=True))
            extent = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(at, chunk, whole, strict=True))
            got = tile.chunk(at, extent)
            assert got.shape == chunk
            assert got.flags.c_contiguous
            assert got.dtype.isnative
            expected = np.zeros(chunk, got.dtype)
            expected[tuple(slice(s.stop - s.start) for s in extent)] = values[extent]
            np.testing.assert_array_equal(got, expected)
            seen[extent] = True
    assert seen.all()


@pytest.mark.parametrize("closed", [True, False])
def test_what_is_held_is_not_overwritten(closed: bool) -> None:
    tile = Tile((4,), (4,), np.dtype("u1"))
    tile.take((slice(0, 4),))
    tile.put((slice(0, 4),), np.full(4, 1, "u1"))
    tile.hold()
    waiting = threading.Thread(target=tile.put, args=((slice(4, 8),), np.full(4, 2, "u1")))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert tile.chunk((0,), (slice(0, 4),)).tolist() == [1, 1, 1, 1]
    if closed:
        tile.close()
    else:
        tile.take((slice(4, 8),))
    waiting.join(5)
    assert not waiting.is_alive()
    value = 1 if closed else 2
    assert tile.chunk((0 if closed else 1,), (slice(0, 4),)).tolist() == [value] * 4
