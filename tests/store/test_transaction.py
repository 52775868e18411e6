"""The seal protocol under lost answers, crashes, races and collectors."""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore import exceptions as obx
from obstore.store import LocalStore, MemoryStore

from emstore.errors import Conflict, EmstoreError, Kind
from emstore.store.backend import Backend
from emstore.store.documents import Manifest, Tombstone, canonical, digest
from emstore.store.layout import LEASES, MANIFEST, NODE, TXN, Place
from emstore.store.lease import HeldLease
from emstore.store.transaction import Finished, Transaction, begin, bury, numbers, read_state

ARRAY = Place("lab", "raw")
STORE = "urn:uuid:00000000-0000-4000-8000-000000000000"


@pytest.fixture(params=["memory", "disk"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "memory":
        return Backend(MemoryStore(), "memory")
    return Backend(LocalStore(tmp_path), str(tmp_path), tmp_path)


def seal(transaction: Transaction, objects: dict[str, bytes]) -> None:
    """Write some objects and seal them with a minimal root document."""
    for key, data in objects.items():
        if not transaction.have(key):
            transaction.put(key, data)

    def root(entries: Any, manifest: str) -> dict[str, Any]:
        info = {"kind": "version", "manifest": manifest, "txn": transaction.txn.txn, "settings": transaction.txn.settings}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"emstore": info}}

    transaction.seal((), root)


def settings(n: object) -> str:
    return digest(repr(n).encode())


def start(backend: Backend, n: object) -> Transaction:
    held = begin(backend, ARRAY, settings=settings(n), task=f"test {n}", store_id=STORE)
    assert isinstance(held, Transaction)
    return held


def check_whole(backend: Backend, place: Place) -> None:
    """Assert from the bytes alone that a sealed version is exactly what its manifest says."""
    info = json.loads(backend.get(place.prefix + NODE))["attributes"]["emstore"]
    manifest = backend.get(place.prefix + MANIFEST)
    assert digest(manifest) == info["manifest"]
    for entry in Manifest.model_validate_json(manifest).objects:
        assert digest(backend.get(place.prefix + entry.key)) == entry.digest


def test_a_version_is_invisible_until_sealed_and_whole_after(backend: Backend) -> None:
    transaction = start(backend, 1)
    transaction.put("s0/image/c/0", b"shard")
    assert read_state(backend, transaction.place) is None
    seal(transaction, {"s0/image/c/1": b"other"})
    assert isinstance(read_state(backend, transaction.place), dict)
    check_whole(backend, transaction.place)
    assert not [e for e in backend.entries("") if "/lease/" in e.key]


def test_equal_settings_find_the_finished_version(backend: Backend) -> None:
    first = start(backend, 1)
    seal(first, {"a": b"1"})
    again = begin(backend, ARRAY, settings=settings(1), task="test", store_id=STORE)
    assert again == Finished(first.place)
    assert start(backend, 2).place.version == 2


def test_a_released_attempt_is_resumed_without_writing_again(backend: Backend) -> None:
    first = start(backend, 1)
    first.put("a", b"1")
    first.release()
    second = start(backend, 1)
    assert second.place == first.place
    assert second.have("a")
    assert not second.have("b")
    seal(second, {"a": b"never written", "b": b"2"})
    check_whole(backend, second.place)
    assert backend.get(second.place.prefix + "a") == b"1"


def test_a_number_that_nobody_came_to_reserve_is_used(tmp_path: Path) -> None:
    backend = Backend(LocalStore(tmp_path), "store", tmp_path)
    first = start(backend, 1)
    first.release()
    # As if killed a moment earlier: storage had only begun to make the reservation, whose folder is there already.
    txn = tmp_path / first.place.prefix / TXN
    txn.rename(txn.with_name(f"{txn.name}#1"))
    for lease in (tmp_path / first.place.prefix / LEASES).iterdir():
        lease.unlink()
    assert start(backend, 1).place == first.place


def test_a_live_writer_of_the_same_thing_is_not_disturbed(backend: Backend) -> None:
    start(backend, 1)
    with pytest.raises(Conflict) as caught:
        start(backend, 1)
    assert caught.value.kind is Kind.BUSY


def test_an_expired_lease_of_another_machine_is_taken_over(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("emstore.store.lease._machine", lambda store_id: "blake3:" + "0" * 64)
        first = start(backend, 1)
    with pytest.raises(Conflict):
        start(backend, 1)
    lease = f"{first.place.prefix}.emstore/lease/1.json"
    body = json.loads(backend.get(lease))
    body["expires"] = "2020-01-01T00:00:00Z"
    backend.put_over(lease, canonical(body))
    second = start(backend, 1)
    assert second.place == first.place
    # The first writer, a zombie now, finishes too: both wrote the same bytes, so whoever seals first is right.
    seal(first, {"a": b"1"})
    seal(second, {"a": b"1"})
    check_whole(backend, second.place)


def test_what_may_be_torn_by_a_power_cut_is_written_again(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr("emstore.store.lease._machine", lambda store_id: "blake3:" + "0" * 64)
        first = start(backend, 1)
        first.put("a", b"1")
        first.release()
    if backend.root is not None:  # an object store keeps what it acknowledged
        (backend.root / first.place.prefix / "a").write_bytes(b"")
    second = start(backend, 1)
    assert second.have("a") == (backend.root is None)
    seal(second, {"a": b"1"})
    check_whole(backend, second.place)
    assert backend.get(second.place.prefix + "a") == b"1"


def test_a_tombstone_stops_a_zombie_for_ever(backend: Backend) -> None:
    zombie = start(backend, 1)
    zombie.put("a", b"1")
    assert bury(backend, zombie.place, "test")
    with pytest.raises((Conflict, EmstoreError)):
        seal(zombie, {"b": b"2"})
    assert isinstance(read_state(backend, zombie.place), Tombstone)
    assert start(backend, 1).place.version == 2


def test_a_sealed_version_cannot_be_buried(backend: Backend) -> None:
    transaction = start(backend, 1)
    seal(transaction, {"a": b"1"})
    assert not bury(backend, transaction.place, "test")
    check_whole(backend, transaction.place)


def test_other_bytes_under_the_same_key_are_refused(backend: Backend) -> None:
    first = start(backend, 1)
    first.put("a", b"1")
    with pytest.raises(Conflict):
        first.put("a", b"2")


class Crash(Exception):
    """The process died here."""


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[random.Random]:
    """Make puts fail before they apply, after they apply, or kill their writer."""
    chance = random.Random(0)
    real = obstore.put

    def put(*args: Any, **options: Any) -> Any:
        dice = chance.random()
        if dice < 0.02:
            raise Crash
        if dice < 0.06:
            raise obx.GenericError("connection reset before the request")
        result = real(*args, **options)
        if dice < 0.10:
            raise obx.GenericError("connection reset after the request")
        if dice < 0.12:
            raise Crash
        return result

    monkeypatch.setattr("emstore.store.backend.obstore.put", put)
    monkeypatch.setattr("emstore.store.backend.time.sleep", lambda seconds: None)
    yield chance
    monkeypatch.undo()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("collector", [False, True])
def test_no_schedule_of_faults_and_races_breaks_a_version(
    backend: Backend, flaky: random.Random, seed: int, collector: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky.seed(seed)
    monkeypatch.setattr(HeldLease, "acquire", lambda self: True)  # no lease at all: the protocol must hold without
    monkeypatch.setattr(HeldLease, "end", lambda self, prefix: None)
    done: dict[str, int] = {}
    fate: Counter[str] = Counter()
    stop = threading.Event()

    def write(writer: int) -> None:
        for n in range(6):
            name = f"{writer}-{n}"
            try:
                held = begin(backend, ARRAY, settings=settings(name), task=name, store_id=STORE)
                assert isinstance(held, Transaction)
                seal(held, {f"s0/image/c/{k}": f"{name}-{k}".encode() * 10 for k in range(3)})
            except (Crash, EmstoreError) as error:
                fate[type(error).__name__] += 1
            else:
                done[name] = held.place.version or 0

    def clear() -> None:
        chance = random.Random(seed)
        while not stop.wait(0.002):
            for number in numbers(backend, ARRAY):
                if chance.random() < 0.3:
                    try:
                        bury(backend, Place("lab", "raw", number), "collector")
                    except (Crash, EmstoreError):
                        continue

    threads = [threading.Thread(target=write, args=(w,)) for w in range(6)]
    gc = threading.Thread(target=clear)
    for thread in threads:
        thread.start()
    if collector:
        gc.start()
    for thread in threads:
        thread.join()
    stop.set()
    if collector:
        gc.join()

    sealed = {}
    found = numbers(backend, ARRAY)
    assert found == list(range(1, len(found) + 1)), "version numbers have holes"
    for number in found:
        place = Place("lab", "raw", number)
        state = read_state(backend, place)
        if isinstance(state, dict):
            check_whole(backend, place)
            sealed[number] = state["settings"]
    for name, number in done.items():
        assert sealed.get(number) == settings(name), f"an acknowledged version is lost: {name}"
    assert len(set(sealed.values())) == len(sealed)
