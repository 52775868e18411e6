"""Layout 1: what lies where in a store, and how a reference to it is written.

S/zarr.json                         group; attributes.emstore: {kind: store, layout: 1, store_id}
S/<dataset>/zarr.json               kind: dataset
S/<dataset>/<array>/zarr.json       kind: array
S/<dataset>/<array>/v1/.emstore/{txn.json, lease/, header.json, source/header.zip, manifest.json}
                      /s0/{zarr.json, image/, z/, y/, x/}   s1/ ...
                      /zarr.json    the seal: created last, never changed
"""

import re
from dataclasses import dataclass
from typing import Final

from emstore.errors import InvalidInput, Kind

LAYOUT: Final = 1

NODE: Final = "zarr.json"
SETTINGS: Final = ".emstore/settings/"
TXN: Final = ".emstore/txn.json"
LEASES: Final = ".emstore/lease/"
HEADER: Final = ".emstore/header.json"
SOURCE: Final = ".emstore/source/header.zip"
MANIFEST: Final = ".emstore/manifest.json"

LONGEST_NAME: Final = 64
"""Most characters of a dataset's or an array's name."""
_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_VERSION: Final = re.compile(r"v([1-9][0-9]{0,8})")
_RESERVED: Final = re.compile(r"zarr\.json|c|labels|[sv][0-9]+|con|prn|aux|nul|com[0-9]|lpt[0-9]|.*\.\.+.*|.*\.", re.IGNORECASE)
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def check_name(name: str, what: str) -> str:
    """Return `name` if a dataset or an array may be called so.

    Raises
    ------
    InvalidInput
        Kind ``bad_name``: not ``^[a-z0-9][a-z0-9._-]{0,63}$``, or reserved.
    """
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name) or _WINDOWS_DEVICE.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name a {what}",
            fix="use 1-64 of a-z 0-9 . _ - starting with a letter or digit; names such as s0, v1, c, labels are reserved",
            kind=Kind.BAD_NAME,
        )
    return name


def version_number(name: str) -> int | None:
    """Return N of a folder called ``vN``; ``None`` for any other name."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Place:
    """A dataset, array or version within a store."""

    dataset: str | None = None
    array: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, parts: tuple[str, ...]) -> "Place":
        """Read ``(dataset, array, vN)``, each optional from the right; names are checked."""
        if len(parts) > 3:
            raise InvalidInput(f"{'/'.join(parts)!r} goes deeper than DATASET/ARRAY/vN", kind=Kind.BAD_REF)
        dataset = check_name(parts[0], "dataset") if len(parts) > 0 else None
        array = check_name(parts[1], "array") if len(parts) > 1 else None
        version = None
        if len(parts) > 2:
            version = version_number(parts[2])
            if version is None:
                raise InvalidInput(f"{parts[2]!r} is not a version", fix="write v1, v2, ...", kind=Kind.BAD_REF)
        return cls(dataset, array, version)

    @property
    def prefix(self) -> str:
        """Key prefix with a trailing slash; empty for the store itself."""
        parts = [p for p in (self.dataset, self.array) if p is not None]
        if self.version is not None:
            parts.append(f"v{self.version}")
        return "".join(f"{part}/" for part in parts)

    def __str__(self) -> str:
        return self.prefix.rstrip("/")
