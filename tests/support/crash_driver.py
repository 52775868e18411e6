"""Kills real ingests and sees what they leave; run as a program by the crash tests.

    python crash_driver.py '{"mode": "puts" | "moments" | "race", "store": ..., "source": ..., ...}'

Everything that touches storage runs in forked children, so that every attempt is a process of its own that can die by
SIGKILL at an exact storage operation or at any moment, without paying for a fresh interpreter each time. The last line
printed is the JSON result.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import emstore
import emstore.ingestion
import emstore.registry
from emstore.errors import NotFound
from emstore.store import Place, open_store, verify
from emstore.store.backend import Backend


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run `work` in a forked child; return its exit status (negative: killed by that signal) and its JSON result."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        status = 1
        try:
            with os.fdopen(send, "w") as out:
                json.dump(work(), out)
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(text) if text and status == 0 else None


def die_after(operation: int) -> None:
    """Have this process killed by SIGKILL right after its n-th change to storage; 0 means right before its first."""
    count = 0

    def wrap(name: str) -> None:
        real = getattr(Backend, name)

        def verb(self: Backend, *args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            number = count
            if operation == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(self, *args, **options)
            if number == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(Backend, name, verb)

    for name in ("put_new", "put_over", "delete", "sync"):
        wrap(name)


def ingest(job: dict[str, Any], array: str) -> dict[str, Any]:
    """Ingest the source; return what the sealed version's arrays are."""
    [made] = emstore.ingest([job["source"]], f"{job['store']}/lab/{array}", memory=job["memory"])
    objects = {e.key: e.digest for e in made.version.manifest.objects if not e.key.startswith(".emstore/")}
    return {"objects": objects, "created": made.created, "version": made.version.place.version}


def visible(job: dict[str, Any], array: str) -> list[str]:
    """Return what is wrong with what a reader sees after a crash: nothing may be visible unless it is whole."""
    store = open_store(job["store"])
    try:
        found = verify(store, Place("lab", array), data=True)
    except NotFound:
        return []
    return [f"{finding.key}: {finding.problem}" for version in found for finding in version.findings]


def rerun(job: dict[str, Any], array: str, expected: dict[str, str], problems: list[str]) -> None:
    """After a crash: nothing torn is visible, the rerun finishes, and its arrays equal the uninterrupted ones."""

    def work() -> list[str]:
        wrong = [f"visible after the crash: {text}" for text in visible(job, array)]
        made = ingest(job, array)
        objects = made["objects"]
        differing = sorted(k for k in objects.keys() | expected.keys() if objects.get(k) != expected.get(k))
        if differing:
            wrong.append(f"the resumed result differs in {differing[:3]}")
        if made["version"] != 1:
            wrong.append(f"the rerun made v{made['version']} instead of resuming v1")
        return wrong + [f"after the rerun: {text}" for text in visible(job, array)]

    status, wrong = in_child(work)
    problems += [f"{array}: {text}" for text in (wrong if status == 0 else [f"the rerun failed with {status}"])]


def kill_between_puts(job: dict[str, Any], expected: dict[str, str]) -> dict[str, Any]:
    """Kill before the first and after every single storage operation of an ingest."""
    problems: list[str] = []
    operation = 0
    while True:
        array = f"p{operation}"

        def attempt(array: str = array, operation: int = operation) -> Any:
            die_after(operation)
            return ingest(job, array)

        status, _ = in_child(attempt)
        if status == 0:
            return {"killed": operation, "problems": problems}
        if status == -signal.SIGKILL:
            rerun(job, array, expected, problems)
        else:
            problems.append(f"{array}: exit {status}")
        operation += 1


def kill_at_moments(job: dict[str, Any], expected: dict[str, str], seconds: float) -> dict[str, Any]:
    """Kill at random moments of an ingest, several times per ingest, until it has survived."""
    chance = random.Random(job["seed"])
    problems: list[str] = []
    killed = 0
    run = 0
    while killed < job["kills"]:
        run += 1
        array = f"m{run}"
        child = os.fork()
        if child == 0:
            try:
                ingest(job, array)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - nor must this one
                traceback.print_exc()
                os._exit(1)
        time.sleep(chance.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGKILL:
            killed += 1
        elif status:
            problems.append(f"{array}: exit {status}")
        rerun(job, array, expected, problems)
    return {"killed": killed, "runs": run, "problems": problems}


def main() -> None:
    """Run one job."""
    job = json.loads(sys.argv[1])
    for name in emstore.registry.adapters():
        emstore.registry.adapter(name)
    # Once to have everything imported, once for the time.
    in_child(lambda: ingest(job, "warm"))
    started = time.monotonic()
    status, reference = in_child(lambda: ingest(job, "whole"))
    seconds = time.monotonic() - started
    if reference is None:
        print(json.dumps({"problems": [f"the uninterrupted ingest failed ({status})"]}))
        return
    expected = reference["objects"]
    if job["mode"] == "puts":
        result = kill_between_puts(job, expected)
    else:
        result = kill_at_moments(job, expected, seconds)
    print(json.dumps({**result, "objects": len(expected), "seconds": seconds}))


if __name__ == "__main__":
    main()
