"""What others find where a version is: by tensorstore, by zarr, and document by document over HTTP."""

import json
from typing import Any
from urllib.request import urlopen

import tensorstore
import zarr
import zarr.storage


def with_tensorstore(where: str) -> Any:
    """Return tensorstore's view of the array in a folder or at a URL."""
    kvstore = {"driver": "http", "base_url": f"{where}/"} if where.startswith("http") else {"driver": "file", "path": f"{where}/"}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, open=True, read=True).result()


def with_zarr(where: str) -> Any:
    """Return zarr's view of the group in a folder or at a URL, all of whose documents are inline."""
    group = zarr.open_group(zarr.storage.FsspecStore.from_url(where) if where.startswith("http") else where, mode="r")
    assert group.metadata.consolidated_metadata is not None
    return group


def inline_documents(url: str) -> set[str]:
    """Return the paths of all documents inline in a version's root; each is served as it is there."""
    with urlopen(f"{url}/zarr.json", timeout=10) as answer:
        inline = json.load(answer)["consolidated_metadata"]["metadata"]
    for path, document in inline.items():
        with urlopen(f"{url}/{path}/zarr.json", timeout=10) as answer:
            assert json.load(answer) == document
    return set(inline)
