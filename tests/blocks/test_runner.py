"""The runner's loop: what it holds while one task is slow."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

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
                pool.submit(lambda: (Event().wait(0.3), go.set()))
            return pool.submit(work, task)

        tasks = [Task(number, (slice(number, number + 1),), None) for number in range(100)]
        run(tasks, submit, done, window=lambda: 6 - ordered.held)
    assert added == list(range(100))
    assert 0 < most < 6
