"""The two PyTorch datasets. Imported by `emstore.loaders.pytorch` only, when one is asked for: needs torch.

The classes stand in a module of their own, not in a function, so that workers started afresh find them by name.
"""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from emstore.errors import InvalidInput
from emstore.loaders.patches import Patches
from emstore.loaders.reader import Reader, Sample
from emstore.provenance.record import Input
from emstore.volume import Region

Tensors = torch.Tensor | dict[str, torch.Tensor]
"""One tensor, or one per role."""


class MapPatches(Dataset[Tensors]):
    """All patches by number, item by item in array order. Which come when is up to a sampler."""

    def __init__(self, patches: Patches) -> None:
        self.patches = patches
        self._reader = Reader(patches)

    @property
    def versions(self) -> tuple[Input, ...]:
        """The versions served: role, ``DATASET/ARRAY/vN``, id and store, as a Record cites its inputs."""
        return self.patches.cited

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, number: int) -> Tensors:
        """Return one sample; negative numbers count from the end.

        Raises
        ------
        IndexError
            There is no such patch.
        InvalidInput
            In a process forked from the one that made the dataset.
        Damaged, StorageFailed
            See `emstore.errors`.
        """
        return _tensors(self._reader.sample(self._checked(number)))

    def where(self, number: int) -> dict[str, tuple[str, Region]]:
        """Return where a sample comes from: by role, ``STORE/DATASET/ARRAY/vN`` and the region of the level."""
        item, start = self.patches.locate(self._checked(number))
        return {cut.role: (cut.ref, self.patches.region(cut, item[0], start)) for cut in item}

    def _checked(self, number: int) -> int:
        at = int(number) + (len(self) if number < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(f"there is no patch {number} of {len(self)}")
        return at


class IterablePatches(IterableDataset[Tensors]):
    """The patches of one rank in the order of `emstore.loaders.order`, shared out to the DataLoader's workers.

    Iterating begins at the epoch last set and, after `load_state_dict`, behind what had been served. Both reach workers
    that are kept between epochs too.
    """

    def __init__(self, patches: Patches, rank: int, ranks: int) -> None:
        self.patches = patches
        self.rank, self.ranks = rank, ranks
        self._reader = Reader(patches)
        self._length = len(patches.run(rank, ranks))
        self._served = 0
        # Where to begin: epoch, then samples served, or batches served, samples per batch, workers. Shared between processes.
        self._begin = torch.zeros(5, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def versions(self) -> tuple[Input, ...]:
        """The versions served: role, ``DATASET/ARRAY/vN``, id and store, as a Record cites its inputs."""
        return self.patches.cited

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Begin at the start of an epoch; without this call every epoch is the same.

        Raises
        ------
        InvalidInput
            It is no whole number, 0 or more.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise InvalidInput(f"there is no epoch {epoch!r}", fix="epochs count from 0")
        self._begin.copy_(torch.tensor([epoch, 0, 0, 0, 0]))
        self._served = 0

    def state_dict(self, *, batches: int | None = None, batch_size: int = 1, workers: int = 0) -> dict[str, Any]:
        """Return the position, to go on from with `load_state_dict`.

        Parameters
        ----------
        batches : int, optional
            Batches that the DataLoader gave in this epoch. Needed with workers, which this process does not see into; left out,
            the samples that this object served here.
        batch_size, workers : int
            The DataLoader's ``batch_size`` and ``num_workers``.

        Returns
        -------
        dict
            JSON-safe: digest of versions and settings, rank, epoch, samples served.
        """
        served = [self._served, 0, 0, 0] if batches is None else [0, batches, batch_size, max(workers, 1)]
        names = ("samples", "batches", "batch_size", "workers")
        state = {"patches": self.patches.identity, "rank": self.rank, "ranks": self.ranks, "epoch": int(self._begin[0])}
        return {**state, **dict(zip(names, served, strict=True))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin where `state` says, until `set_epoch` is called.

        Raises
        ------
        InvalidInput
            The state is of other versions, settings or ranks.
        """
        mine = self.state_dict()
        try:
            begin = [operator.index(state[name]) for name in ("epoch", "samples", "batches", "batch_size", "workers")]
            if min(begin) < 0:
                raise ValueError(f"{min(begin)} is below 0")
            differing = [name for name in ("patches", "rank", "ranks") if state[name] != mine[name]]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is no position of a dataset: {error!r}", fix="give what state_dict() returned") from error
        if differing:
            what = "other versions or settings" if "patches" in differing else f"rank {state['rank']} of {state['ranks']}"
            raise InvalidInput(f"the position is one of {what}", fix="make the dataset as it was when the position was taken")
        self._begin.copy_(torch.tensor(begin))
        self._served = begin[1]

    def __iter__(self) -> Iterator[Tensors]:
        """Yield the samples of this process.

        Raises
        ------
        InvalidInput
            In a process forked from the one that made the dataset, or with another number of workers than when the position was
            taken.
        Damaged, StorageFailed
            See `emstore.errors`.
        """
        self._reader.check_process()
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch, samples, batches, size, then = self._begin.tolist()
        if (batches and then != workers) or (samples and workers > 1):
            raise InvalidInput(
                f"the position was taken with {then or 1} readers, not {workers}",
                fix="use as many workers as before; with workers, state_dict(batches=..., batch_size=..., workers=...)",
            )
        # Workers give batches in turn; a new loader begins with worker 0, so that worker takes the turn that comes next.
        turn = (worker + batches) % workers
        served = samples or size * (batches // workers + (turn < batches % workers))
        return self._samples(epoch, self.patches.run(self.rank, self.ranks, turn, workers), served)

    def _samples(self, epoch: int, run: range, served: int) -> Iterator[Tensors]:
        self._served = served
        for sample in self._reader.run(epoch, run, served):
            self._served += 1
            yield _tensors(sample)


def _tensors(sample: Sample) -> Tensors:
    if isinstance(sample, dict):
        return {role: torch.from_numpy(values) for role, values in sample.items()}
    return torch.from_numpy(sample)
