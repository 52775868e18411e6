"""Opening a version and reading a block cost a fixed number of requests, however large the version is.

They are counted where they arrive: by a plain web server that serves the store's folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from obstore.store import HTTPStore

from emstore.geometry import Axis
from emstore.store import Place, create_store, load
from emstore.store.backend import Backend
from emstore.store.store import Store
from range_server import Served, serve
from sealed import ramp, seal, volume

SHAPES = ((64, 64, 64), (200, 256, 384))
"""One has a single chunk, the other several chunks, shards and levels."""


@dataclass
class Remote:
    """A sealed version behind a web server."""

    store: Store
    place: Place
    values: npt.NDArray[np.uint8]
    served: Served

    def count(self) -> int:
        """Requests since this was last asked."""
        seen = len(self.served.requests)
        self.served.requests.clear()
        return seen


@pytest.fixture(params=SHAPES, ids=str)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    values = ramp(request.param, np.uint8)
    created = create_store(f"{tmp_path}/lab.zarr")
    axes = (Axis(name, n, spacing=4.0, unit="nanometer") for name, n in zip("zyx", request.param, strict=True))
    sealed = seal(volume("ramp", values, *axes), f"{tmp_path}/lab.zarr/data/ramp")
    with serve(tmp_path / "lab.zarr") as served:
        backend = Backend(HTTPStore(served.url, client_options={"allow_http": True}), served.url)
        yield Remote(Store(served.url, backend, created.info), sealed.place, values, served)


def test_opening_takes_one_request(remote: Remote) -> None:
    version = load(remote.store, remote.place)
    assert version.grid().shape == remote.values.shape
    assert remote.count() == 1


def test_a_block_takes_three_requests_and_the_next_in_its_shard_one(remote: Remote) -> None:
    array = load(remote.store, remote.place).array()
    remote.count()
    first = tuple(slice(0, 64) for _ in array.shape)
    np.testing.assert_array_equal(array[first], remote.values[:64, :64, :64])
    assert 1 <= remote.count() <= 3
    np.testing.assert_array_equal(array[first], remote.values[:64, :64, :64])
    assert remote.count() == 1
