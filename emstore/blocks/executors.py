"""Where tasks are done: threads of this process, other processes, or a Dask cluster. All three look the same to the runner.

Threads are the default: the filters, codecs and reads release the interpreter's lock. Processes are for functions that do
not. A cluster is an address (``tcp://host:8786``) or ``local:N``, N single-threaded workers on this machine; the workers
need emstore, the processor's package and the same paths or URLs and credentials as this process.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

from emstore.blocks.runner import Submit
from emstore.blocks.work import Done, Order, Task, Work
from emstore.errors import InvalidInput, Kind, StorageFailed


class Executor(Protocol):
    """Does tasks."""

    @property
    def workers(self) -> int:
        """Tasks it does at once."""
        ...

    @property
    def here(self) -> int:
        """Of these, those whose memory counts for this machine's budget of one process."""
        ...

    def doing(self, work: Work, order: Order) -> contextlib.AbstractContextManager[Submit]:
        """Get ready for the tasks of one piece of work: `work` in this process, `order` to open it in another one."""
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process."""

    workers: int

    @property
    def here(self) -> int:
        """All of them."""
        return self.workers

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Submit]:
        """Share the work among the threads."""
        with ThreadPoolExecutor(self.workers, "block") as pool:
            yield lambda task: pool.submit(work.perform, task)


@dataclass(frozen=True)
class Processes:
    """Processes on this machine, begun afresh: nothing is inherited."""

    workers: int

    @property
    def here(self) -> int:
        """One: each process has the budget to itself."""
        return self.workers

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Submit]:
        """Open the work in every process; a pool that broke because a process died is replaced."""
        pool = self._pool(order)

        def submit(task: Task) -> "Future[Done]":
            nonlocal pool
            try:
                return pool.submit(_perform_here, task)
            except BrokenExecutor:
                pool.shutdown(wait=False)
                pool = self._pool(order)
                return pool.submit(_perform_here, task)

        try:
            yield submit
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, order: Order) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_open_here, initargs=(order,))


_here: list[Work] = []
"""The work of this process, in a pool's processes only."""


def _open_here(order: Order) -> None:
    _here[:] = [order.open()]


def _perform_here(task: Task) -> Done:
    return _here[0].perform(task)


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster."""

    address: str
    """``tcp://HOST:PORT`` of a scheduler, or ``local:N``."""
    memory: int
    """Budget of every local worker, bytes."""

    @property
    def workers(self) -> int:
        """Of a local cluster, as many as asked for; of another one, found out when it is used."""
        kind, _, count = self.address.partition(":")
        if kind != "local":
            return 1
        if not count.isdigit() or not int(count):
            raise InvalidInput("a local cluster needs a number of workers", where=f"--cluster {self.address}", fix="e.g. local:4")
        return int(count)

    @property
    def here(self) -> int:
        """One: each worker process has the budget to itself."""
        return 1

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Submit]:
        """Connect, and send the order to the workers once."""
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise InvalidInput("a cluster needs Dask", fix="pip install 'emstore[dask]'", kind=Kind.MISSING_EXTRA) from error
        with contextlib.ExitStack() as stack:
            where: Any = self.address
            if self.address.startswith("local"):
                where = stack.enter_context(
                    LocalCluster(
                        n_workers=self.workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None
                    )
                )
            try:
                client = stack.enter_context(Client(where, timeout=20))
            except (OSError, TimeoutError) as error:
                raise StorageFailed(
                    "no Dask scheduler answers", where=self.address, fix="start it, or check the address"
                ) from error
            [ordered] = client.scatter([order], broadcast=True, hash=False)
            executor = client.get_executor(pure=False, retries=0)
            yield lambda task: executor.submit(_perform_order, ordered, task)
            executor.shutdown(wait=False)


_opened: dict[int, tuple[Order, Work]] = {}
"""The last order this worker opened."""


def _perform_order(order: Order, task: Task) -> Done:
    held = _opened.get(0)
    if held is None or held[0] is not order:
        held = _opened[0] = (order, order.open())
    return held[1].perform(task)
