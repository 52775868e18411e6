"""Where tasks are done: threads of this process, other processes, or a Dask cluster. All three look the same to the runner.

Threads are the default: the filters, codecs and reads release the interpreter's lock. Processes are for functions that do
not. A cluster is an address (``tcp://host:8786``) or ``local:N``, N single-threaded workers on this machine; the workers
need the same emstore and processor's package, paths or URLs and credentials as this process (docs/clusters.md).
"""

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, InvalidStateError, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context, parent_process, resource_tracker
from typing import Any, Final, Protocol

import emstore
from emstore import registry
from emstore.blocks.compute import CPU
from emstore.blocks.runner import Submit
from emstore.blocks.work import Done, Order, Task, Work
from emstore.errors import InvalidInput, Kind, NotFound, ProcessingFailed, StorageFailed


@dataclass(frozen=True)
class Line:
    """Where tasks are handed in."""

    submit: Submit
    width: Callable[[], int]
    """Says how many tasks are done at once, as things are."""


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

    def within(self, threads: int) -> "Executor":
        """Return one of whose processes none does more tasks at once than this: what the memory budget takes."""
        ...

    def doing(self, work: Work, order: Order) -> contextlib.AbstractContextManager[Line]:
        """Get ready for the tasks of one piece of work: `work` in this process, `order` to open it in another one."""
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process."""

    threads: int
    processes: int = 1

    def within(self, threads: int) -> "Threads":
        """Use fewer threads."""
        return replace(self, threads=min(threads, self.threads))

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Line]:
        """Share the work among the threads."""
        with ThreadPoolExecutor(self.threads, "block") as pool:
            yield Line(lambda task: pool.submit(work.perform, task), lambda: self.threads)


@dataclass(frozen=True)
class Processes:
    """Processes on this machine, begun afresh: nothing is inherited."""

    processes: int
    threads: int = 1

    def within(self, threads: int) -> "Processes":
        """Each has one thread anyway."""
        return self

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
            yield Line(submit, lambda: self.processes)
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
    at_once: int | None = None
    """Tasks that a worker does at once, whatever threads it has; as many as it has by default."""

    @property
    def threads(self) -> int:
        """Of a local cluster's workers, one; of another one's, as many as the worker with most has."""
        if self._local:
            return 1
        with _connected(self.address) as client:
            return max(_threads(client).values())

    @property
    def processes(self) -> int:
        """Of a local cluster, its workers. The workers of another one have the budget each."""
        if not self._local:
            return 1
        count = self.address.partition(":")[2]
        if not count.isdigit() or not int(count):
            raise InvalidInput("a local cluster needs a number of workers", where=f"--cluster {self.address}", fix="e.g. local:4")
        return int(count)

    @property
    def _local(self) -> bool:
        return self.address.partition(":")[0] == "local"

    def within(self, threads: int) -> "Cluster":
        """Have every worker keep to it, those too that join later and have more threads."""
        return replace(self, at_once=threads)

    @contextlib.contextmanager
    def doing(self, work: Work, order: Order) -> Iterator[Line]:
        """Connect; the workers open the work when their first task comes.

        A small order goes with every task. A large one goes only to a worker that says it has not got it: nothing is kept on
        the cluster that could be gone with a worker.
        """
        _distributed()
        from distributed.comm.core import CommClosedError

        with contextlib.ExitStack() as stack:
            where = stack.enter_context(_local(self.processes)) if self._local else self.address
            client = stack.enter_context(_connected(where))
            width = _Width(client, self.at_once)
            width()
            if order.device != CPU:
                _check_device(client, order.device, self.address)
            executor = client.get_executor(pure=False, retries=0)
            ticket = _Ticket(uuid.uuid4().hex, _software(order.processor), self.at_once)
            large = _size(order.found) > _INLINE

            ended = stack.enter_context(_ended_with(client))

            def submit(task: Task) -> "Future[Done]":
                return ended(_asked(lambda told: executor.submit(_perform_order, ticket, told, task), order, first=not large))

            try:
                yield Line(submit, width)
            except Exception as error:
                if client.status == "running" and not isinstance(error, CommClosedError):
                    raise
                raise StorageFailed(
                    "the cluster's scheduler is gone",
                    where=self.address,
                    fix="run the same command on another cluster: it resumes",
                ) from error
            executor.shutdown(wait=False)


def _asked(begin: Callable[[Order | None], "Future[Done | None]"], order: Order, *, first: bool) -> "Future[Done]":
    """Begin a task, with its order `first` or else as soon as its worker asks for it."""
    answer: Future[Done] = Future()

    def told(begun: "Future[Done | None]") -> None:
        try:
            done = begun.result()
            if done is not None:
                _answer(answer, done)
            else:
                begin(order).add_done_callback(told)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the runner waits for it
            _answer(answer, error)

    begin(order if first else None).add_done_callback(told)
    return answer


def _answer(answer: "Future[Done]", done: Done | BaseException) -> None:
    """Give an answer, unless there is one."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(done, BaseException):
            answer.set_exception(done)
        else:
            answer.set_result(done)


@contextlib.contextmanager
def _ended_with(client: Any) -> Iterator[Callable[["Future[Done]"], "Future[Done]"]]:
    """Have what is waited for fail once the client has given up reaching its scheduler.

    Dask cancels what it waits for when the connection breaks, but never answers what is asked while it connects again.
    """
    waiting: set[Future[Done]] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_GLANCE):
            if client.status == "closed":
                for answer in tuple(waiting):
                    _answer(answer, ConnectionError("the connection to the scheduler is closed"))

    def ended(answer: "Future[Done]") -> "Future[Done]":
        waiting.add(answer)
        answer.add_done_callback(waiting.discard)
        return answer

    watcher = threading.Thread(target=watch, name="emstore-scheduler", daemon=True)
    watcher.start()
    try:
        yield ended
    finally:
        over.set()
        watcher.join()


@dataclass
class _Width:
    """How many tasks a cluster does at once: its workers come and go."""

    client: Any
    at_once: int | None
    known: int = 0
    asked: float = 0.0

    def __call__(self) -> int:
        if not self.known or time.monotonic() > self.asked + _SETTLED:
            counts = (_threads(self.client) if not self.known else self.client.nthreads()).values()
            self.known = max(1, sum(min(n, self.at_once or n) for n in counts))
            self.asked = time.monotonic()
        return self.known


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
            silence_logs=logging.CRITICAL,  # what fails is said by this process, once
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
        # Not the process's default: other Dask work of whoever calls this stays where it was.
        client = Client(where, timeout=20, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise StorageFailed("no Dask scheduler answers", where=str(where), fix="start it, or check the address") from error
    with client:
        yield client


def _threads(client: Any) -> dict[str, int]:
    """Return how many threads every worker has; where there is none yet, wait a while for the first."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        raise StorageFailed(
            "the cluster has no workers", where=client.scheduler.address, fix="run the same command again once one has joined"
        ) from None
    return dict(client.nthreads())


def _check_device(client: Any, device: str, address: str) -> None:
    answers = client.run(_has, device)
    lacking = sum(not has for has in answers.values())
    if lacking:
        raise InvalidInput(
            f"{lacking} of the cluster's {len(answers)} workers have no device {device!r}",
            where=f"--cluster {address}",
            fix="start workers where there is one, e.g. with `dask cuda worker`, or use --device cpu",
        )


def _has(device: str) -> bool:
    """Say whether this process can use an accelerator."""
    try:
        import torch

        torch.empty(0, device=device)
    except (ImportError, RuntimeError, AssertionError):  # the last where PyTorch is built without it
        return False
    return True


def _distributed() -> None:
    if find_spec("distributed") is None:
        raise InvalidInput("a cluster needs Dask", fix="pip install 'emstore[dask]'", kind=Kind.MISSING_EXTRA)


def _size(found: Any) -> int:
    from dask.sizeof import sizeof

    return int(sizeof(found))


_INLINE: Final = 256 << 10
"""Largest finding of a reduction that goes with every task, bytes."""
_PATIENCE: Final = 60
"""How long to wait for the first worker, seconds."""
_SETTLED: Final = 2.0
"""How long the number of workers is believed, seconds."""
_GLANCE: Final = 0.5
"""How often to look whether the scheduler is still there, seconds."""
_KEPT: Final = 4
"""Orders a worker keeps open, since several runs may share a cluster."""

Software = tuple[tuple[str, str | None], ...]
"""Packages and their versions."""


def _software(processor: str) -> Software:
    """Return what the result depends on, as this process has it."""
    plugin = registry.processors().get(processor)
    package = ((processor, None),) if plugin is None else ((plugin.package, plugin.package_version),)
    return (("emstore", emstore.__version__), *package)


@dataclass(frozen=True)
class _Ticket:
    """What goes with every task of one run."""

    number: str
    software: Software
    at_once: int | None


_opened: dict[str, tuple[Work, contextlib.AbstractContextManager[Any]]] = {}
"""By number, the works this worker has opened, and what a thread holds while it does a task of one."""
_opening = threading.Lock()


def _perform_order(ticket: _Ticket, order: Order | None, task: Task) -> Done | None:
    """Do a task on a worker; ``None`` when it needs the order for it."""
    with _opening:  # a worker may have several threads
        if ticket.number not in _opened:
            if order is None:
                return None
            while len(_opened) >= _KEPT:
                del _opened[next(iter(_opened))]
            room: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
            if ticket.at_once is not None:
                room = threading.Semaphore(ticket.at_once)
            _opened[ticket.number] = (_open(ticket, order), room)
        work, room = _opened[ticket.number]
    with room:
        return work.perform(task)


def _open(ticket: _Ticket, order: Order) -> Work:
    here = _software(order.processor)
    if here != ticket.software:
        theirs, ours = (" and ".join(f"{n} {v or 'nowhere'}" for n, v in each) for each in (here, ticket.software))
        raise InvalidInput(
            f"a worker has {theirs}, this process {ours}",
            where="--cluster",
            fix="install the same on the workers, start them again",
        )
    try:
        return order.open()
    except NotFound as error:
        raise NotFound(
            f"a worker does not find it: {error.what}",
            where=error.where,
            fix="give stores by a path or URL that all workers reach",
        ) from error
