"""The processors' own suite passes good processors and finds every planted defect by name."""

from typing import Any

import numpy as np
import pytest

import engine_processors
import planted_processors
from emstore.testing import ProcessorConformance

RANDOM = np.random.default_rng(5)
SMALL = RANDOM.integers(0, 200, (9, 11, 13), "u2")


class TestBox(ProcessorConformance):
    processor = engine_processors.Box
    volumes = (SMALL, RANDOM.integers(-9, 9, (12, 10), "i1"))
    params = ({"radius": 0}, {"radius": 3})
    executors = ("threads", "processes", "dask")


class TestSlices(ProcessorConformance):
    processor = engine_processors.Slices
    volumes = (SMALL, RANDOM.normal(size=(7, 9, 8)).astype("f4"))
    executors = ("threads",)


class TestPairs(ProcessorConformance):
    processor = engine_processors.Pairs
    volumes = (SMALL,)
    executors = ("threads",)


class TestTurned(ProcessorConformance):
    processor = engine_processors.Turned
    volumes = (SMALL,)
    executors = ("threads",)


class TestAbove(ProcessorConformance):
    processor = engine_processors.Above
    volumes = (SMALL,)
    executors = ("threads", "processes")


class TestCounts(ProcessorConformance):
    processor = engine_processors.Counts
    volumes = (SMALL,)
    executors = ("threads",)


class TestDifference(ProcessorConformance):
    processor = engine_processors.Difference
    volumes = ((SMALL, SMALL[::-1].copy()),)
    executors = ("threads",)


TESTS = sorted(name for name in dir(ProcessorConformance) if name.startswith("test_"))


@pytest.mark.parametrize("defect", planted_processors.ALL, ids=lambda defect: defect.name)
def test_every_planted_defect_is_found_by_its_own_rule(defect: Any) -> None:
    suite: Any = planted_processors.suite_of(defect)()
    tests = [name for name in TESTS if name not in ("test_memory_is_as_projected", "test_every_executor_gives_the_same")]
    if defect.rule not in tests:
        tests.append(defect.rule)
    found = {}
    for name in tests:
        try:
            getattr(suite, name)()
        except pytest.fail.Exception as failed:
            found[name] = str(failed)
    assert defect.rule in found, found
    assert defect.says in found[defect.rule], found[defect.rule]
    assert set(found) <= {defect.rule, *defect.also}, found
