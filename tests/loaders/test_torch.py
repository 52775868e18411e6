"""The PyTorch datasets, alone and in real DataLoaders with processes of their own."""

import json
import subprocess
import sys
from collections import Counter
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

import emstore
from emstore.errors import Damaged, InvalidInput, Kind
from emstore.provenance.record import Record
from training_versions import counted, put

PATCH = {"z": 16, "y": 40, "x": 30}


def rows(batches: Any) -> list[list[int]]:
    """Return the first value of every sample, batch by batch: in an array of counted values it names the patch."""
    return [batch.flatten(1)[:, 0].tolist() for batch in batches]


@pytest.fixture
def box(versions: dict[str, emstore.Version]) -> emstore.Version:
    return versions["box"]


VALUES = counted((70, 130, 65))


SPREAD: dict[str, Any] = {
    "patch": (16, 16, 16),
    "stride": (72, 72, 72),
    "edge": "drop",
    "iterable": True,
    "memory": 20 << 20,
    "mix": 2,
}
"""64 patches in 8 cells of the large version: 4 windows."""


def spread_patches() -> dict[int, np.ndarray[Any, Any]]:
    """Return every patch of `SPREAD` by its first value."""
    values = counted((288, 288, 288))
    starts = product((0, 72, 144, 216), repeat=3)
    return {int(values[at]): values[tuple(slice(a, a + 16) for a in at)] for at in starts}


def whole_patches() -> dict[int, np.ndarray[Any, Any]]:
    """Return every patch by its first value, cut from the whole array."""
    found = {}
    for z in (0, 16, 32, 48, 54):
        for y in (0, 40, 80, 90):
            for x in (0, 30, 35):
                part = VALUES[z : z + 16, y : y + 40, x : x + 30]
                found[int(part[0, 0, 0])] = part
    return found


def test_random_access_gives_slices(box: emstore.Version) -> None:
    dataset = emstore.torch_dataset(box.ref, patch=PATCH)
    assert len(dataset) == 5 * 4 * 3
    expected = whole_patches()
    for number in range(len(dataset)):
        tensor = dataset[number]
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), expected[int(tensor.flatten()[0])])
        [(ref, region)] = dataset.where(number).values()
        assert ref == box.ref
        assert np.array_equal(VALUES[region], tensor.numpy())
    assert torch.equal(dataset[-1], dataset[59])  # type: ignore[arg-type]
    for number in (60, -61):
        with pytest.raises(IndexError):
            dataset[number]
    assert [int(dataset[k].flatten()[0]) for k in range(60)] == sorted(expected)  # type: ignore[union-attr]
    assert [(v.role, v.ref, v.id) for v in dataset.versions] == [("image", "made/box/v1", box.id)]


TYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", [*TYPES, "complex64", "complex128"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_and_byte_orders(lab: Path, dtype: str, order: str) -> None:
    values = np.array([[0, 1, 2], [3, 100, 77]]).astype(np.dtype(dtype).newbyteorder(order))
    version = put(f"{lab}/types/{dtype}-{'le' if order == '<' else 'be'}", values, "yx")
    dataset = emstore.torch_dataset(version, patch=(1, 3))
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch.dtype is getattr(torch, dtype)
    assert batch.reshape(2, 3).tolist() == values.tolist()


def test_types_asked_for(box: emstore.Version) -> None:
    for dtype in ("float32", "float64", "int64"):
        values = emstore.torch_dataset(box, patch=PATCH, dtype=dtype)[1]
        assert isinstance(values, torch.Tensor)
        assert values.dtype is getattr(torch, dtype)
        assert np.array_equal(values.numpy(), VALUES[:16, :40, 30:60].astype(dtype))


def test_a_value_too_large_for_the_type_is_no_infinity(box: emstore.Version) -> None:
    dataset = emstore.torch_dataset(box, patch=PATCH, dtype="float16")
    with pytest.raises(InvalidInput, match=r"made/box/v1.*too large for float16"):
        dataset[1]
    small = emstore.torch_dataset(box, patch=PATCH, dtype="float16", normalise=(VALUES.mean(), VALUES.std()))[1]
    assert isinstance(small, torch.Tensor)
    assert small.dtype is torch.float16
    exact = (VALUES[:16, :40, 30:60] - VALUES.mean()) / VALUES.std()
    np.testing.assert_allclose(small.numpy(), exact, rtol=2**-11)


def test_a_sample_of_several_inputs_is_a_dict(lab: Path, box: emstore.Version) -> None:
    marks = put(f"{lab}/torch/marks", (VALUES % 3).astype("uint8"), "zyx")
    dataset = emstore.torch_dataset(
        {"image": box, "labels": marks}, patch={"z": 1, "y": 64, "x": 64}, axes=(None, "y", "x"), normalise={"image": (5, 2)}
    )
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert {role: (values.shape, values.dtype) for role, values in batch.items()} == {
        "image": ((3, 1, 64, 64), torch.float32),
        "labels": ((3, 1, 64, 64), torch.uint8),
    }
    assert torch.equal((batch["image"].double() * 2 + 5).round().long() % 3, batch["labels"].long())
    assert [v.role for v in dataset.versions] == ["image", "labels"]


def test_two_fresh_workers_serve_every_patch_once_and_go_on_where_they_were(large: emstore.Version) -> None:
    dataset = emstore.torch_dataset(large, seed=11, **SPREAD)
    assert dataset.patches.tilings[0].cells == 8
    loader = DataLoader(
        dataset, batch_size=5, num_workers=2, multiprocessing_context="spawn", persistent_workers=True, prefetch_factor=1
    )
    expected = spread_patches()
    batches = list(loader)
    for batch in batches:
        for sample in batch:
            assert np.array_equal(sample.numpy(), expected[int(sample.flatten()[0])])
    first = rows(batches)
    assert Counter(chain(*first)) == Counter(dict.fromkeys(expected, 1))
    assert len(first) == 14  # 32 patches each, in batches of 5
    dataset.set_epoch(1)
    second = rows(loader)
    assert Counter(chain(*second)) == Counter(chain(*first))
    assert second != first
    dataset.set_epoch(0)
    assert rows(loader) == first

    for served in (3, 8, 13, 14):
        dataset.set_epoch(1)
        state = json.loads(json.dumps(dataset.state_dict(batches=served, batch_size=5, workers=2)))
        dataset.load_state_dict(state)
        assert rows(loader) == second[served:], f"after {served} batches"
    again = emstore.torch_dataset(large, seed=11, **SPREAD)
    again.load_state_dict(state)
    assert list(again.state_dict().items())[:4] == list(state.items())[:4]
    with pytest.raises(InvalidInput, match="2 readers, not 1"):
        next(iter(again))


def test_random_access_in_a_fresh_worker_and_damage_by_its_name(box: emstore.Version, tmp_path: Path) -> None:
    emstore.create_store(f"{tmp_path}/a.zarr")
    bad = put(f"{tmp_path}/a.zarr/d/bad", counted((16, 40, 30)) + 1, "zyx")
    shard = tmp_path / "a.zarr/d/bad/v1/s0/image/c/0/0/0"
    shard.write_bytes(b"\0" * len(shard.read_bytes()))
    dataset = emstore.torch_dataset([box, bad], patch=PATCH)
    order = [*RandomSampler(range(60), generator=torch.Generator().manual_seed(3)), 60]
    expected = whole_patches()
    batches = iter(DataLoader(dataset, batch_size=10, sampler=order, num_workers=1, multiprocessing_context="spawn"))
    seen = [sample.numpy() for _ in range(6) for sample in next(batches)]
    assert [int(sample.ravel()[0]) for sample in seen] == [sorted(expected)[number] for number in order[:60]]
    assert all(np.array_equal(sample, expected[int(sample.ravel()[0])]) for sample in seen)
    with pytest.raises(Damaged, match="s0/image/c/0/0/0"):
        next(batches)


@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_ranks_share_the_epoch_out(large: emstore.Version, ranks: int) -> None:
    parts = [emstore.torch_dataset(large, seed=2, rank=rank, ranks=ranks, **SPREAD) for rank in range(ranks)]
    served = [rows(DataLoader(part, batch_size=1)) for part in parts]
    assert [len(part) for part in parts] == [len(part) for part in served]
    assert max(map(len, served)) - min(map(len, served)) <= 1
    everything = [value for part in served for (value,) in part]
    assert Counter(everything) == Counter(dict.fromkeys(spread_patches(), 1))


def test_going_on_without_workers(large: emstore.Version) -> None:
    def made(**change: Any) -> Any:
        return emstore.torch_dataset(large, **{**SPREAD, "seed": 5, **change})

    dataset = made()
    dataset.set_epoch(3)
    everything = [int(sample.flatten()[0]) for sample in dataset]
    for count in (0, 1, 17, 40, 63, 64):
        dataset.set_epoch(3)
        samples = iter(dataset)
        begun = [int(next(samples).flatten()[0]) for _ in range(count)]
        state = json.loads(json.dumps(dataset.state_dict()))
        other = made()
        other.load_state_dict(state)
        assert begun + [int(sample.flatten()[0]) for sample in other] == everything
        assert other.state_dict()["samples"] == 64
    for change in ({"seed": 6}, {"mix": 1}, {"patch": (16, 16, 15)}, {"stride": (72, 72, 71)}, {"rank": 1, "ranks": 2}):
        with pytest.raises(InvalidInput, match="position is one of"):
            made(**change).load_state_dict(state)
    for wrong in ({}, {"epoch": 1}, {**state, "samples": "many"}, {**state, "samples": -1}, {**state, "epoch": 0.5}):
        with pytest.raises(InvalidInput, match="no position"):
            dataset.load_state_dict(wrong)


def test_an_epoch_is_a_number(box: emstore.Version) -> None:
    dataset = emstore.torch_dataset(box, patch=PATCH, iterable=True, seed=1)
    for wrong in (-1, 1.5, "two", True):
        with pytest.raises(InvalidInput, match="no epoch"):
            dataset.set_epoch(wrong)  # type: ignore[arg-type]


def test_the_versions_served_go_into_a_record(box: emstore.Version) -> None:
    served = emstore.torch_dataset(box, patch=PATCH).versions
    record = box.record.model_copy(update={"inputs": served})
    assert Record.model_validate_json(record.model_dump_json()).inputs[0].id == box.id


def run_apart(code: str, *arguments: str) -> str:
    outcome = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork with threads, which is what this is about
import emstore
from emstore.errors import InvalidInput
from torch.utils.data import DataLoader

for iterable in (False, True):
    dataset = emstore.torch_dataset(sys.argv[1], patch=(16, 40, 30), iterable=iterable)
    next(iter(dataset)) if iterable else dataset[0]
    child = os.fork()
    if child == 0:
        try:
            next(iter(dataset)) if iterable else dataset[0]
        except InvalidInput as error:
            os._exit(42 if "forked" in str(error) and "spawn" in str(error) else 1)
        os._exit(0)
    print("fork", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    try:
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))
    except InvalidInput as error:
        print("loader refused", "spawn" in str(error))
    print("here", len(list(DataLoader(dataset))))
"""


def test_a_fork_is_refused_at_once(box: emstore.Version) -> None:
    said = run_apart(FORKED, box.ref).splitlines()
    assert said == ["fork 42", "loader refused True", "here 60"] * 2


def test_an_order_for_random_access_is_refused(box: emstore.Version) -> None:
    for change in ({"seed": 1}, {"mix": 4}, {"rank": 0, "ranks": 2}):
        with pytest.raises(InvalidInput, match="iterable=True"):
            emstore.torch_dataset(box, patch=PATCH, **change)  # type: ignore[call-overload]
    for rank, ranks in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(InvalidInput, match="there is no rank"):
            emstore.torch_dataset(box, patch=PATCH, iterable=True, rank=rank, ranks=ranks)


@pytest.mark.parametrize(("library", "function"), [("torch", "torch_dataset"), ("tensorflow", "tf_dataset")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str, function: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InvalidInput) as refused:
        getattr(emstore, function)("lab.zarr/a/b", patch=(1,))
    assert refused.value.kind is Kind.MISSING_EXTRA
    assert refused.value.fix == f"pip install 'emstore[{library}]'"
