"""Chunks, shards and reading back: every damaged byte is noticed and named, and zarr agrees on every byte."""

import json
from pathlib import Path
from typing import Any

import numcodecs.zstd
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore.errors import Damaged, InvalidInput
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.store import metadata
from emstore.store.codecs import ChunkCodec
from emstore.store.reader import StoredArray
from emstore.store.writer import plan_version, root_document, write_version_data
from emstore.volume import MemoryArray, Volume, VolumeKind
from memory_sink import MemorySink

TYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int64", "uint64", "float16", "float32", "float64"]
TYPES += ["complex64", "complex128", ">u2", ">f4"]


def values(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2 if dtype == "bool" else 100, shape)
    return (a + 1j * a if "complex" in dtype else a).astype(dtype)


def written(array: Any, kind: VolumeKind = VolumeKind.IMAGE) -> tuple[MemorySink, dict[str, Any], Volume]:
    names = "tczyx"[-array.ndim :] if array.ndim != 2 else "yx"
    grid = Grid(tuple(Axis(name, n) for name, n in zip(names, array.shape, strict=True)))
    each = Volume("v", MemoryArray(array), grid, Header("none"), kind)
    plan = plan_version(each)
    sink = MemorySink()
    result = write_version_data(each, plan, sink)
    root = root_document(each, plan, result, {})
    sink.put("zarr.json", metadata.encode(root))
    return sink, root["consolidated_metadata"]["metadata"]["s0/image"], each


@pytest.mark.parametrize("pipeline", ["zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline"])
@pytest.mark.parametrize("kind", list(VolumeKind)[:2])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_reads_back_in_zarr(dtype: str, kind: VolumeKind, pipeline: str, tmp_path: Path) -> None:
    array = values((70, 65, 3), dtype)
    if kind is VolumeKind.LABELS and array.dtype.kind == "c":
        with pytest.raises(InvalidInput, match="labels"):
            written(array, kind)
        return
    sink, _, _ = written(array, kind)
    sink.save(tmp_path)
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        found = zarr.open_group(tmp_path, mode="r")["s0/image"]
        np.testing.assert_array_equal(found[...], array)
        assert found.dtype == array.dtype.newbyteorder("=")


@pytest.fixture(scope="module")
def stored() -> tuple[Any, MemorySink, dict[str, Any]]:
    array = values((100, 150, 140), "uint16")
    array[64:, 64:128, :64] = 0
    sink, document, _ = written(array)
    return array, sink, document


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_region_is_what_was_written(stored: tuple[Any, MemorySink, dict[str, Any]], data: st.DataObject) -> None:
    array, sink, document = stored
    region = []
    for n in array.shape:
        a = data.draw(st.integers(0, n))
        region.append(slice(a, data.draw(st.integers(a, n))))
    workers = data.draw(st.sampled_from([1, 4]))
    found = StoredArray(sink, "s0/image", document, workers=workers)[tuple(region)]
    np.testing.assert_array_equal(found, array[tuple(region)])


@pytest.mark.parametrize("region", [(slice(0, 101),) * 3, (slice(0, 1),), (slice(0, 4, 2), slice(0, 1), slice(0, 1))])
def test_regions_outside_are_refused(stored: tuple[Any, MemorySink, dict[str, Any]], region: Any) -> None:
    _, sink, document = stored
    with pytest.raises(InvalidInput):
        StoredArray(sink, "s0/image", document)[region]


def test_every_flipped_bit_is_found(stored: tuple[Any, MemorySink, dict[str, Any]]) -> None:
    array, sink, document = stored
    key = "s0/image/c/0/0/0"
    good = sink.objects[key]
    whole = tuple(slice(0, n) for n in array.shape)
    rng = np.random.default_rng(3)
    places = [*rng.integers(0, len(good), 40).tolist(), len(good) - 1, len(good) - 5, len(good) - 20]
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(Damaged, match=key):
            StoredArray(MemorySink({key: bytes(bad)}), "s0/image", document)[whole]


@pytest.mark.parametrize("cut", [0, 1, 10, 1000])
def test_truncated_shards_are_found(stored: tuple[Any, MemorySink, dict[str, Any]], cut: int) -> None:
    _, sink, document = stored
    key = "s0/image/c/0/0/0"
    short = MemorySink({key: sink.objects[key][:cut]})
    with pytest.raises(Damaged, match=key):
        StoredArray(short, "s0/image", document)[(slice(0, 1),) * 3]


def test_a_missing_shard_is_damage_unless_it_is_known_to_be_empty(stored: tuple[Any, MemorySink, dict[str, Any]]) -> None:
    _, _, document = stored
    region = (slice(0, 2),) * 3
    with pytest.raises(Damaged, match="s0/image/c/0/0/0"):
        StoredArray(MemorySink(), "s0/image", document)[region]
    known = StoredArray(MemorySink(), "s0/image", document, known_empty=lambda: {"s0/image/c/0/0/0"})
    np.testing.assert_array_equal(known[region], np.zeros((2, 2, 2), "uint16"))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    import google_crc32c

    codec = ChunkCodec.choose(np.dtype("uint8"), (64, 64, 64))
    bomb = numcodecs.zstd.compress(bytes(1 << 30), 1)
    assert len(bomb) < 1 << 18
    with pytest.raises(Damaged, match="exactly 262144 bytes"):
        codec.decode(bomb + google_crc32c.value(bomb).to_bytes(4, "little"), "here")


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1 << 20, 1 << 20, 1 << 20]}}},
        {"data_type": "string"},
        {"shape": [10, 10]},
        {"shape": None},
        {"codecs": []},
        {"codecs": [{"name": "bytes"}]},
        {"node_type": "group"},
        {"chunk_key_encoding": {"name": "v2"}},
    ],
)
def test_documents_that_are_not_ours_are_refused(stored: tuple[Any, MemorySink, dict[str, Any]], change: dict[str, Any]) -> None:
    _, sink, document = stored
    with pytest.raises(Damaged):
        StoredArray(sink, "s0/image", {**document, **change})


@given(st.binary(max_size=64), st.sampled_from(["uint8", "uint16"]))
@settings(deadline=None)
def test_any_bytes_with_a_right_checksum_end_in_one_error(data: bytes, dtype: str) -> None:
    import google_crc32c

    codec = ChunkCodec.choose(np.dtype(dtype), (4, 4))
    for payload in (data, b"\x28\xb5\x2f\xfd" + data):
        with pytest.raises(Damaged):
            codec.decode(payload + google_crc32c.value(payload).to_bytes(4, "little"), "here")


def test_negative_zero_and_not_a_number_are_kept() -> None:
    array = np.zeros((70, 70), "float32")
    array[3, 3] = -0.0
    array[66, 66] = np.nan
    sink, document, _ = written(array)
    found = StoredArray(sink, "s0/image", document)[(slice(0, 70),) * 2]
    assert found.tobytes() == array.tobytes()


def test_documents_are_plain_json(stored: tuple[Any, MemorySink, dict[str, Any]]) -> None:
    _, sink, _ = stored
    for key in sink.objects:
        if key.endswith("zarr.json"):
            json.loads(sink.objects[key], parse_constant=pytest.fail)
