"""Where tasks are done: threads of this process, other processes, or a Dask cluster. All three look the same to the runner.

Threads are the default: the filters, codecs and reads release the interpreter's lock. Processes are for functions that do
not. A cluster is an address (``tcp://host:8786``) or ``local:N``, N single-threaded workers on this machine; the workers
need emstore, the processor's package and the same paths or URLs and credentials as this process.
"""

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context, parent_process, resource_tracker
from typing import Any, Final, Protocol

from emstore.blocks.runner import Submit
from emstore.blocks.work import Done, Order, Task, Work
from emstore.errors import InvalidInput, Kind, ProcessingFailed, StorageFailed


@dataclass(frozen=True)
class Line:
    """Where tasks are handed in."""

    submit: Submit
    width: int
    """Tasks that are done at once."""


class Executor(Protocol):
    """Does tasks."""

    @property
    def threads(self) -> int:
        """Tasks that one process does at once."""
        ...

    @property
    def processes(self) -> int:
        """Processes of this machine that share the memory budget."""
        ...

    def doing(self, work: Work, order: Order) -> contextlib.AbstractContextManager[Line]:
        """Get ready for the tasks of one piece of work: `work` in this process, `order` to open it in another one."""
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process."""

    threads: int
    processes: int = 1

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Line]:
        """Share the work among the threads."""
        with ThreadPoolExecutor(self.threads, "block") as pool:
            yield Line(lambda task: pool.submit(work.perform, task), self.threads)


@dataclass(frozen=True)
class Processes:
    """Processes on this machine, begun afresh: nothing is inherited."""

    processes: int
    threads: int = 1

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Line]:
        """Open the work in every process; a pool that broke because a process died is replaced."""
        pool = self._pool(order)

        def submit(task: Task) -> "Future[Done]":
            nonlocal pool
            with _children_deaf_to_ctrl_c():
                try:
                    return pool.submit(_perform_here, task)
                except BrokenExecutor:
                    pool.shutdown(wait=False)
                    pool = self._pool(order)
                    return pool.submit(_perform_here, task)

        try:
            yield Line(submit, self.processes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, order: Order) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.processes, mp_context=get_context("spawn"), initializer=_join_here, initargs=(order,))


@contextlib.contextmanager
def _children_deaf_to_ctrl_c() -> Iterator[None]:
    """Have processes that begin meanwhile not hear Ctrl-C, which a terminal sends to all: this one tells them to stop.

    What is blocked here is blocked in them for good; here it only comes a little later.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let the signal through again once it has begun
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_here: list[Order | Work] = []
"""The work of this process, in a pool's processes only: told by an order, opened by the first task, whose errors are told."""


def _join_here(order: Order) -> None:
    _here[:] = [order]
    # A pool's processes would wait for ever when the one that made it is killed.
    threading.Thread(target=_end_with_parent, name="emstore-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _perform_here(task: Task) -> Done:
    [work] = _here
    if isinstance(work, Order):
        work = work.open()
        _here[:] = [work]
    return work.perform(task)


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster."""

    address: str
    """``tcp://HOST:PORT`` of a scheduler, or ``local:N``."""

    @property
    def threads(self) -> int:
        """Of a local cluster's workers, one; of another one's, as many as the worker with most has."""
        if self.address.startswith("local"):
            return 1
        with _connected(self.address) as client:
            return max(client.nthreads().values(), default=1)

    @property
    def processes(self) -> int:
        """Of a local cluster, its workers. The workers of another one have the budget each."""
        kind, _, count = self.address.partition(":")
        if kind != "local":
            return 1
        if not count.isdigit() or not int(count):
            raise InvalidInput("a local cluster needs a number of workers", where=f"--cluster {self.address}", fix="e.g. local:4")
        return int(count)

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Line]:
        """Connect, and send the order to the workers once."""
        with contextlib.ExitStack() as stack:
            local = self.address.startswith("local")
            where = stack.enter_context(_local(self.processes)) if local else self.address
            client = stack.enter_context(_connected(where))
            executor = client.get_executor(pure=False, retries=0)
            width = max(1, sum(client.nthreads().values()))
            number = uuid.uuid4().hex
            # A small order goes with every task: what is scattered once is gone with the workers that had it.
            large = _size(order.found) > _INLINE
            sent: Any = client.scatter(order, broadcast=True, hash=False) if large else order

            def submit(task: Task) -> "Future[Done]":
                nonlocal sent
                if large and sent.status != "finished":
                    sent = client.scatter(order, broadcast=True, hash=False)
                begun: Future[Done] = executor.submit(_perform_order, number, sent, task)
                return begun

            yield Line(submit, width)
            executor.shutdown(wait=False)


@contextlib.contextmanager
def _local(workers: int) -> Iterator[Any]:
    """Begin a cluster on this machine, one thread a worker."""
    _distributed()
    from distributed import LocalCluster

    def begin() -> Any:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",  # any free port: several clusters may be here at once
        )

    with _children_deaf_to_ctrl_c():
        try:
            cluster = begin()
        except RuntimeError:  # a worker died as it began
            try:
                cluster = begin()
            except RuntimeError as error:
                raise ProcessingFailed("the local cluster did not start", fix="run the same command again") from error
    with cluster:
        yield cluster


@contextlib.contextmanager
def _connected(where: Any) -> Iterator[Any]:
    """Connect to a cluster, or to the scheduler at an address."""
    _distributed()
    from distributed import Client

    try:
        client = Client(where, timeout=20)
    except (OSError, TimeoutError) as error:
        raise StorageFailed("no Dask scheduler answers", where=str(where), fix="start it, or check the address") from error
    with client:
        yield client


def _distributed() -> None:
    if find_spec("distributed") is None:
        raise InvalidInput("a cluster needs Dask", fix="pip install 'emstore[dask]'", kind=Kind.MISSING_EXTRA)


def _size(found: Any) -> int:
    from dask.sizeof import sizeof

    return int(sizeof(found))


_INLINE: Final = 256 << 10
"""Largest finding of a reduction that goes with every task, bytes."""
_opened: list[tuple[str, Work]] = []
"""Number of the last order this worker opened, and its work."""
_opening = threading.Lock()


def _perform_order(number: str, order: Order, task: Task) -> Done:
    with _opening:  # a worker may have several threads
        if not _opened or _opened[0][0] != number:
            _opened[:] = [(number, order.open())]
        work = _opened[0][1]
    return work.perform(task)
