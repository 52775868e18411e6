"""The one loop: hand tasks to an executor, a bounded number at a time, until all are done or one cannot be.

What may pass (a fault of storage, a worker that died) is tried again; a processor that fails is not, since it would fail
again. After a failure nothing new begins, what runs is waited for, and every failed task is named.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future, wait
from typing import Any, Final

from emstore.blocks.work import Done, Stopped, Task
from emstore.errors import (
    Capacity,
    Conflict,
    Damaged,
    EmstoreError,
    Interrupted,
    InvalidInput,
    Kind,
    NotFound,
    ProcessingFailed,
    StorageFailed,
)
from emstore.operation import Block

ATTEMPTS: Final = 3
"""How often a task is begun before it counts as failed."""
NAMED: Final = 5
"""Failed tasks named in full."""

Submit = Callable[[Task], "Future[Done]"]


def run(
    tasks: Iterable[Task],
    submit: Submit,
    done: Callable[[Done], None],
    *,
    window: Callable[[], int],
    pause: float = 0.1,
    stop: Callable[[], None] = lambda: None,
    name: Callable[[Task], str] = lambda task: f"task {task.number}",
) -> None:
    """Do all tasks.

    Parameters
    ----------
    tasks : iterable of Task
        Taken one at a time, never more than needed.
    submit : callable
        Begins a task somewhere; raises nothing the future could hold.
    done : callable
        Told of every task that is done, in any order, from this thread.
    window : callable
        Says how many tasks may be begun and not done; asked before every task, since workers come and go.
    pause : float, seconds
        Wait before a task's second attempt; doubled before the third.
    stop : callable
        Asks running tasks to end soon; called when the caller is interrupted.
    name : callable
        What to call a task whose worker died.

    Raises
    ------
    ProcessingFailed
        Tasks failed; the first few are named with their reasons.
    EmstoreError
        The one reason, when no processor is to blame: the disk is full, an input is damaged, ...
    """
    answers: queue.SimpleQueue[tuple[Task, int, Future[Done]]] = queue.SimpleQueue()
    failed: list[tuple[Task, BaseException]] = []
    waiting = iter(tasks)
    # Begun when a worker died: any of them may have killed it. They are begun again one by one, to know which.
    suspects: deque[tuple[Task, int]] = deque()
    alone = False
    more = True
    running: set[Future[Done]] = set()

    def begin(task: Task, attempt: int) -> None:
        try:
            future = submit(task)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        running.add(future)
        future.add_done_callback(lambda f: answers.put((task, attempt, f)))

    try:
        while True:
            if suspects and not failed and not running:
                begin(*suspects.popleft())
                alone = True
            while more and not failed and not suspects and not alone and len(running) < window():
                following = next(waiting, None)
                if following is None:
                    more = False
                else:
                    begin(following, 1)
            if not running:
                break
            task, attempt, future = answers.get()
            running.discard(future)
            alone = False
            error = CancelledError("the task was cancelled") if future.cancelled() else future.exception()
            if error is None:
                done(future.result())
            elif isinstance(error, BrokenExecutor) and attempt < ATTEMPTS and not failed:
                suspects.append((task, attempt + 1))
            elif attempt < ATTEMPTS and not failed and passing(error):
                time.sleep(pause * 2 ** (attempt - 1))
                begin(task, attempt + 1)
            else:
                if _died(error):
                    raised = ProcessingFailed(f"its worker died, {ATTEMPTS} times over", where=name(task))
                    raised.__cause__ = error
                    error = raised
                if not isinstance(error, Stopped):
                    failed.append((task, error))
    except BaseException:
        stop()
        wait(running)
        raise
    if failed:
        raise _explained(failed)


class InOrder:
    """Takes blocks' partial results in any order and adds them in array order."""

    def __init__(self, blocks: Iterable[Block], add: Callable[[Block, Any], None]) -> None:
        self._following = iter(blocks)
        self._add = add
        self._early: dict[int, Done] = {}
        self._expected = 0

    @property
    def held(self) -> int:
        """Number of results that wait for an earlier one: each counts as a task that is not done, so that few are kept."""
        return len(self._early)

    def take(self, answer: Done) -> None:
        """Add a result, and those that waited for it; or keep it until its turn."""
        self._early[answer.number] = answer
        while (ready := self._early.pop(self._expected, None)) is not None:
            self._add(next(self._following), ready.partial)
            self._expected += 1


def passing(error: BaseException) -> bool:
    """Say whether the same task may well succeed next time."""
    if isinstance(error, EmstoreError):
        return isinstance(error, StorageFailed) and error.kind is Kind.STORAGE
    # A future is cancelled by Dask when the machine that held what it needs is gone.
    return isinstance(error, OSError | CancelledError) or _died(error)


def _died(error: BaseException) -> bool:
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def _explained(failed: list[tuple[Task, BaseException]]) -> BaseException:
    failed = sorted(failed, key=lambda pair: pair[0].number)
    first = failed[0][1]
    if isinstance(first, Capacity | Conflict | Damaged | Interrupted | InvalidInput | NotFound | StorageFailed):
        return first
    if isinstance(first, MemoryError):
        return Capacity("a worker ran out of memory", fix="give less with --memory, or close other programs")
    reasons = [str(error) if isinstance(error, EmstoreError) else f"{type(error).__name__}: {error}" for _, error in failed]
    if len(failed) == 1 and isinstance(first, EmstoreError):
        return first
    more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    raised = ProcessingFailed(f"{len(failed)} task{'s' * (len(failed) != 1)} failed: {'; '.join(reasons[:NAMED])}{more}")
    raised.__cause__ = first
    return raised
