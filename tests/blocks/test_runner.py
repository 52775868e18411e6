"""The runner's loop: what it holds while one task is slow."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Timer
from typing import Any

import pytest

from emstore.blocks.runner import InOrder, run
from emstore.blocks.work import Done, Task


def test_results_that_wait_for_a_slow_one_stay_few() -> None:
    begun: list[int] = []
    added: list[int] = []
    most = 0
    go = Event()

    def work(task: Task) -> Done:
        if task.number == 0:
            go.wait(10)
        return Done(task.number, task.number)

    ordered = InOrder(range(100), lambda block, partial: added.append(partial))  # type: ignore[arg-type]

    def done(answer: Done) -> None:
        nonlocal most
        ordered.take(answer)
        most = max(most, ordered.held)

    with ThreadPoolExecutor(3) as pool:

        def submit(task: Task) -> Future[Any]:
            begun.append(task.number)
            if len(begun) == 6:
                Timer(0.3, go.set).start()
            return pool.submit(work, task)

        tasks = [Task(number, (slice(number, number + 1),), None) for number in range(100)]
        run(tasks, submit, done, window=lambda: 6 - ordered.held)
    assert added == list(range(100))
    assert 0 < most < 6


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fails", ["again", "first"])
def test_a_task_that_can_no_longer_be_handed_in_ends_the_run(fails: str) -> None:
    """As on a cluster whose scheduler is gone: what runs is waited for, nothing else is."""
    begun: list[int] = []
    slow = Event()

    def work(task: Task) -> Done:
        if task.number == 0:
            slow.wait(10)
            return Done(0)
        raise OSError("passing")

    with ThreadPoolExecutor(3) as pool:

        def submit(task: Task) -> Future[Done]:
            if (task.number in begun) if fails == "again" else task.number == 2:
                Timer(0.2, slow.set).start()
                raise RuntimeError("closed")
            begun.append(task.number)
            return pool.submit(work, task)

        tasks = [Task(number, (slice(number, number + 1),), None) for number in range(3)]
        with pytest.raises(RuntimeError, match="closed"):
            run(tasks, submit, lambda done: None, window=lambda: 3, pause=0.01)
    assert slow.is_set()
