"""Who may write an unfinished version now.

A lease is an object with an expiry that its holder keeps pushing forward from a thread. A rerun on the same machine looks
at the process itself and takes over at once from a dead one; elsewhere it waits for the expiry. Taking over is a
create-only put of the next lease number, so exactly one of several reruns wins. A writer that lost its lease without
noticing does no harm: it writes the same bytes under create-only keys.
"""

import contextlib
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import psutil
from blake3 import blake3
from pydantic import ValidationError

from emstore.errors import EmstoreError
from emstore.store.backend import Backend
from emstore.store.documents import Lease, canonical
from emstore.store.layout import LEASES

TERM: Final = timedelta(minutes=5)
_BEAT: Final = 30.0


class HeldLease:
    """A lease this process holds; renewed until it is released."""

    def __init__(self, backend: Backend, prefix: str, number: int, store_id: str) -> None:
        self._backend = backend
        self._key = f"{prefix}{LEASES}{number}.json"
        self._store_id = store_id
        self._writer = f"urn:uuid:{uuid.uuid4()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="emstore-lease", daemon=True)

    def acquire(self) -> bool:
        """Take the lease; ``False`` when somebody else has that number."""
        if not self._backend.put_new(self._key, self._body(released=False)):
            return False
        self._thread.start()
        return True

    def release(self) -> None:
        """Let others take over at once. Never raises: a lease also runs out by itself."""
        self._end()
        try:
            self._backend.put_over(self._key, self._body(released=True))
        except EmstoreError:
            # On a full disk the old lease must make room first, or this process would seem to go on writing.
            with contextlib.suppress(EmstoreError):
                self._backend.delete([self._key])
                self._backend.put_new(self._key, self._body(released=True))

    def end(self, prefix: str) -> None:
        """Stop renewing and delete the version's leases: it is sealed or aborted."""
        self._end()
        with contextlib.suppress(EmstoreError):
            self._backend.delete([entry.key for entry in self._backend.entries(f"{prefix}{LEASES}")])

    def _end(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._stop.wait(_BEAT):
            with contextlib.suppress(EmstoreError):
                self._backend.put_over(self._key, self._body(released=False))

    def _body(self, *, released: bool) -> bytes:
        lease = Lease(
            writer=self._writer,
            machine=_machine(self._store_id),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            expires=datetime.now(UTC) + TERM,
            released=released,
        )
        return canonical(lease.model_dump(mode="json"))


def latest(backend: Backend, prefix: str) -> tuple[int, Lease | None]:
    """Return the highest lease number of a version (0 when there is none) and that lease, ``None`` if unreadable."""
    numbers = [
        int(stem)
        for entry in backend.entries(f"{prefix}{LEASES}")
        if (stem := Path(entry.key).name.removesuffix(".json")).isdigit()
    ]
    if not numbers:
        return 0, None
    body = backend.find(f"{prefix}{LEASES}{max(numbers)}.json")
    try:
        return max(numbers), None if body is None else Lease.model_validate_json(body)
    except ValidationError:
        return max(numbers), None


def alive(lease: Lease | None, store_id: str) -> bool:
    """Whether the lease's holder may still be writing."""
    if lease is None or lease.released:
        return False
    if same_boot(lease, store_id):
        try:
            process = psutil.Process(lease.pid)
            return bool(process.is_running() and abs(process.create_time() - lease.process_started) < 1.0)
        except psutil.NoSuchProcess:
            return False
    return lease.expires > datetime.now(UTC)


def same_boot(lease: Lease | None, store_id: str) -> bool:
    """Whether the lease's holder ran on this machine since it last started: then all it wrote is still there, flushed or not."""
    return lease is not None and lease.machine == _machine(store_id)


@cache
def _machine(store_id: str) -> str:
    """Return a digest that is equal for processes that can see each other's pids since the machine started; names nothing."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().as_posix()
    except OSError:
        started, namespace = f"{psutil.boot_time():.0f}", ""
    facts = f"{store_id} {uuid.getnode()} {started} {namespace}"
    return f"blake3:{blake3(facts.encode()).hexdigest()}"
