"""From a Volume, a Table or Weights to a sealed version: the one door everything that makes a version goes through."""

import io
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from math import prod
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, Kind
from emstore.header import plain_text
from emstore.provenance.record import Record
from emstore.store import tables
from emstore.store import weights as models
from emstore.store.documents import Contents, HeaderInfo, ManifestEntry, VersionInfo, VolumeInfo, canonical
from emstore.store.layout import HEADER, SOURCE
from emstore.store.metadata import Document, encode, root_node
from emstore.store.plan import VersionPlan, plan_version
from emstore.store.transaction import Transaction
from emstore.store.version import seal_digest
from emstore.store.writer import root_document, write_version_data
from emstore.table import Table
from emstore.volume import Volume
from emstore.weights import Weights

__all__ = ["plan_version", "seal_table", "seal_volume", "seal_weights"]

NOWHERE: Final[Mapping[str, Any]] = {
    "axes": [],
    "spacing": None,
    "uniform": {},
    "max_deviation": {},
    "positions": {},
    "affine": None,
}
"""``emstore.voxel`` of what lies nowhere in space."""


def seal_volume(
    transaction: Transaction,
    volume: Volume,
    plan: VersionPlan,
    record: Callable[[], Record],
    *,
    advance: Callable[[int], None] = lambda n: None,
    levels: Callable[[], Collection[str]] | None = None,
    ratio: float | None = None,
) -> None:
    """Stream a volume into a transaction and seal it.

    Parameters
    ----------
    transaction : Transaction
        From `begin`; sealed on return. On any error it is left as it is: the caller releases or aborts it.
    volume : Volume
        What to store.
    plan : VersionPlan
        From `plan_version` with the same volume.
    record : callable
        Called once all data is written, to say how the version came to be.
    advance : callable
        Told the uncompressed level-0 bytes done since the last call.
    levels : callable, optional
        Writes the shards in another way than by streaming (see `write_version_data`).
    ratio : float, optional
        About how many bytes will be stored per byte of data; by default a sample of `volume` tells.
    """
    _check_space(transaction, volume, plan, ratio)
    result = write_version_data(volume, plan, transaction, advance=advance, levels=levels)
    header = HeaderInfo(
        format=volume.header.format,
        terms=dict(volume.header.terms),
        tree=_put_tree(transaction, volume),
        source=_put_source(transaction, volume),
    )
    described = VolumeInfo(
        name=volume.name,
        kind=volume.kind.value,
        modality=volume.modality,
        shape=volume.shape,
        dtype=volume.dtype.newbyteorder("=").name,
        dims=volume.grid.dims,
        levels=tuple(level.group for level in plan.levels),
        scale=None if volume.scale is None else asdict(volume.scale),
        window=volume.window,
        attributes=dict(volume.attributes),
        notes=volume.notes,
    )
    _seal(
        transaction,
        described,
        volume.grid.to_json(),
        header,
        record(),
        empty=result.empty,
        root=lambda emstore: root_document(volume, plan, result, emstore),
    )


def seal_table(transaction: Transaction, table: Table, record: Callable[[], Record]) -> None:
    """Write a table into a transaction and seal it.

    Parameters
    ----------
    transaction : Transaction
        From `begin`; sealed on return. On any error it is left as it is: the caller releases or aborts it.
    table : Table
        What to store.
    record : callable
        Called once all data is written, to say how the version came to be.

    Raises
    ------
    InvalidInput
        A column's name or type that cannot be stored.
    """
    tables.write_table(table, transaction)
    _seal_nowhere(transaction, tables.volume_info(table), tables.children(table), record)


def seal_weights(transaction: Transaction, weights: Weights, record: Callable[[], Record]) -> None:
    """Write weights into a transaction and seal it; otherwise as `seal_table`.

    Raises
    ------
    InvalidInput
        An array's name or type that cannot be stored.
    """
    models.write_weights(weights, transaction)
    _seal_nowhere(transaction, models.volume_info(weights), models.children(weights), record)


def _seal_nowhere(
    transaction: Transaction, described: VolumeInfo, below: Mapping[str, Document], record: Callable[[], Record]
) -> None:
    """Write the documents below the root of what lies nowhere in space, and seal it; its chunks are written."""
    for path, document in below.items():
        if not transaction.have(f"{path}/zarr.json"):
            transaction.put(f"{path}/zarr.json", encode(document))
    header = HeaderInfo(format=described.kind, terms={}, tree=None, source=None)
    _seal(
        transaction,
        described,
        dict(NOWHERE),
        header,
        record(),
        empty=(),
        root=lambda emstore: root_node({"emstore": emstore}, below),
    )


def _seal(
    transaction: Transaction,
    described: VolumeInfo,
    voxel: dict[str, Any],
    header: HeaderInfo,
    record: Record,
    *,
    empty: tuple[str, ...],
    root: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Seal a transaction whose objects are all written; `root` makes the root document around the ``emstore`` attribute."""

    def document(entries: tuple[ManifestEntry, ...], manifest: str) -> dict[str, Any]:
        info = VersionInfo.model_construct(
            store_id=transaction.store_id,
            path=str(transaction.place),
            txn=transaction.txn.txn,
            settings=transaction.txn.settings,
            volume=described,
            voxel=voxel,
            header=header,
            contents=Contents(objects=len(entries), nbytes=sum(e.size for e in entries)),
            manifest=manifest,
            record=record,
        )
        made = root(info.model_dump(mode="json"))
        made["attributes"]["emstore"]["seal"] = seal_digest(made)
        return made

    transaction.seal(empty, document)


def _put_tree(transaction: Transaction, volume: Volume) -> str | None:
    if not volume.header.tree:
        return None
    if not transaction.have(HEADER):
        transaction.put(HEADER, canonical(dict(volume.header.tree)))
    return HEADER


def _put_source(transaction: Transaction, volume: Volume) -> str | None:
    """Keep the original headers, byte for byte, as one zip whose own bytes depend on nothing else."""
    if not volume.header.raw:
        return None
    if not transaction.have(SOURCE):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for raw in volume.header.raw:
                archive.writestr(zipfile.ZipInfo(plain_text(raw.name)), raw.read(), zipfile.ZIP_DEFLATED)
        transaction.put(SOURCE, packed.getvalue())
    return SOURCE


def _check_space(transaction: Transaction, volume: Volume, plan: VersionPlan, ratio: float | None) -> None:
    """Refuse before writing what a sample says cannot fit; a disk that fills later still ends in a resumable state."""
    free = transaction.backend.free_bytes()
    if free is None:
        return
    if ratio is None:
        level = plan.levels[0]
        region = tuple(slice(0, min(n, c)) for n, c in zip(level.shape, level.chunk, strict=True))
        chunk = np.zeros(level.chunk, plan.dtype)
        sample = volume.data[region]
        chunk[region] = sample
        ratio = min(1.0, len(level.codec.chunks.encode(chunk)[0]) / sample.nbytes)
    voxels = sum(prod(lv.shape) for lv in plan.levels)
    needed = int(voxels * plan.dtype.itemsize * ratio)
    if needed > free:
        needed -= sum(entry.size for entry in transaction.backend.entries(transaction.place.prefix))  # there already
    if needed > free:
        raise Capacity(
            f"about {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free",
            where=transaction.backend.url,
            fix="free some space or choose another store",
            kind=Kind.DISK_FULL,
        )
