"""The processor contract as tests: subclass `ProcessorConformance`, name the processor and some inputs, run pytest.

Every rule of `emstore.processor` and `emstore.operation` has one test. A test goes through all cases before it fails and
names each case and rule broken, so one run shows everything there is to repair.
"""

import copy
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore import create_store, registry
from emstore.blocks.compute import Compute, evaluate
from emstore.blocks.weights import planned, used
from emstore.errors import EmstoreError, InvalidInput
from emstore.operation import Operation
from emstore.processor import Params, Processor
from emstore.table import Table
from emstore.testing import operations
from emstore.testing.operations import Outcome, Volumes

SIZES: Final = (1 << 17, 1 << 19, 1 << 21)
"""Voxels of the inputs that memory is measured with."""


@dataclass(frozen=True)
class ProcessorCase:
    """Inputs with a set of parameters."""

    name: str
    volumes: Volumes
    params: Any


class ProcessorConformance:
    """Subclass this as ``class TestMyProcessor(ProcessorConformance)`` and set `processor`, `volumes` and `params`.

    The inputs should be small, tens of voxels along an axis: most tests carry an operation out many times.
    """

    processor: ClassVar[type[Processor]]
    """The processor's class."""
    volumes: ClassVar[Sequence[Any]]
    """Inputs: for each try one array or `Volume`, or a tuple of one per role. An array's axes are the last of t, c, z, y, x."""
    params: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Sets of parameters; each is tried with all inputs, and must suit some."""

    executors: ClassVar[Sequence[str]] = ("threads", "processes")
    """Where the first case is also done, through a real store: ``threads``, ``processes``, or ``dask`` for a cluster."""
    block_by_block: ClassVar[bool] = False
    """Whether a value may depend on all of the block it lies in, as of a labeler whose reduction joins what the blocks found.
    Blocks are then tried as they were cut, with what was found in the very same ones, not within a larger block."""
    table_tolerance: ClassVar[float] = 1e-9
    """Relative difference that cutting may make to a table's figures: sums are added in another order."""
    spare_memory: ClassVar[int] = 4 << 20
    """Memory allowed beyond the projection, for libraries' own buffers, bytes."""
    examples: ClassVar[int] = 20
    """Random cuts per case."""
    seconds: ClassVar[float] = 120.0
    """Most that the measuring process may take."""

    # ------------------------------------------------------------------------------------------------ cases

    def cases(self) -> list[ProcessorCase]:
        """Return the inputs and parameters that suit each other; every call gives new copies of the values."""
        found = []
        for i, entry in enumerate(self.volumes):
            inputs = tuple(operations.with_values(v, operations.values_of(v).copy()) for v in operations.volumes_of(entry))
            for chosen in self.params:
                params = self.processor.params.model_validate(dict(chosen))
                name = f"inputs {i}{f', {dict(chosen)}' if chosen else ''}"
                try:
                    self.plan(inputs, params)
                except InvalidInput:
                    continue
                found.append(ProcessorCase(name, inputs, params))
        return found

    def plan(self, volumes: Volumes, params: Any) -> Operation:
        """Return the plan of a new instance."""
        processor = self.processor()
        made = planned(processor, volumes, params, used(processor, params))
        assert isinstance(made, Operation), "the suite is for what is done block by block"
        return made

    def sized(self, case: ProcessorCase, voxels: int) -> Volumes:
        """Return a case's inputs with about so many voxels; override where repeating them makes no sense."""
        return operations.repeated(case.volumes, voxels)

    # ------------------------------------------------------------------------------------------------ the class

    def test_contract(self) -> None:
        """Name, version, summary, inputs and parameters are there, described and registered."""
        _report(self._contract())

    def _contract(self) -> Iterator[str]:
        cls = self.processor
        name = getattr(cls, "name", None)
        if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)):
            yield f"name is {name!r}; it must be family.method in lower case"
        elif name not in registry.processors():
            yield f"no entry point of group {registry.PROCESSORS!r} is named {name!r}"
        elif registry.processors()[name].entry.load() is not cls:
            yield f"the entry point {name!r} leads to another class"
        for what in ("version", "summary"):
            said = getattr(cls, what, None)
            if not (isinstance(said, str) and said.strip() and "\n" not in said):
                yield f"{what} is {said!r}; it must be one line that is not empty"
        roles = getattr(cls, "inputs", None)
        if not (isinstance(roles, tuple) and roles and all(isinstance(r, str) and r for r in roles)):
            yield f"inputs is {roles!r}; it must be a tuple of roles, e.g. ('image',)"
        elif len(set(roles)) != len(roles):
            yield f"inputs is {roles!r}; roles must differ"
        params = getattr(cls, "params", None)
        if not (isinstance(params, type) and issubclass(params, Params)):
            yield f"params is {params!r}; it must be a subclass of emstore.processor.Params"
            return
        if not isinstance(cls(), Processor):
            yield "it lacks plan"
        yield from self._parameters(params)

    def _parameters(self, params: type[Params]) -> Iterator[str]:
        for name, field in params.model_fields.items():
            if not (field.description or "").strip():
                yield f"parameter {name!r} has no description"
        for chosen in self.params:
            checked = params.model_validate(dict(chosen))
            if params.model_validate_json(checked.model_dump_json()) != checked:
                yield f"parameters {dict(chosen)} change when they are written as JSON and read back"
        unknown = {**self.params[0], "no_such_parameter": 1}
        try:
            params.model_validate(unknown)
        except ValueError:
            pass
        else:
            yield "an unknown parameter is not refused"
        planned = [case.params for case in self.cases()]
        for chosen in self.params:
            if params.model_validate(dict(chosen)) not in planned:
                yield f"parameters {dict(chosen)} suit none of the inputs"
        if not planned:
            yield "no inputs and parameters suit each other: nothing was tested"

    def test_wrong_inputs_are_refused(self) -> None:
        """Planning without reading ends in a plan or in an error of emstore's."""
        for case in self.cases():
            for name, volumes in operations.odd(case.volumes):
                try:
                    self.plan(operations.unread(volumes), case.params)
                except EmstoreError:
                    continue
                except AssertionError:
                    continue  # reading is another test's matter
                except Exception as error:  # noqa: BLE001 - finding these is the point
                    pytest.fail(f"{case.name}, {name}: plan raised {_said(error)}", pytrace=False)

    def test_plan_reads_nothing(self) -> None:
        """A plan is made without the values, and is the same each time."""
        problems: list[str] = []
        for case in self.cases():
            try:
                one = self.plan(operations.unread(case.volumes), case.params)
            except AssertionError:
                problems.append(f"{case.name}: plan reads values")
                continue
            two = self.plan(case.volumes, case.params)
            for what in ("halo", "whole", "reads", "work_bytes", "arrays", "tolerance", "deterministic", "seed", "models", "nan"):
                if getattr(one, what) != getattr(two, what):
                    problems.append(f"{case.name}: two plans differ in {what}")
            if one.result != two.result:
                problems.append(f"{case.name}: two plans differ in their result")
        _report(problems)

    # ------------------------------------------------------------------------------------------------ blocks

    def test_blocks_give_the_whole(self) -> None:
        """However the result is cut, it is the same, to the stated tolerance, and of the promised shape and type."""
        problems: list[str] = []
        for case in self.cases():
            operation = self.plan(case.volumes, case.params)
            expected = self._evaluated(problems, case.name, operation, case.volumes)
            if expected is None:
                continue
            if not isinstance(expected, Table) and not expected.size:
                problems.append(f"{case.name}: the result is empty")
                continue
            problems += self._cuts(case, operation, expected)
        _report(problems)

    def _cuts(self, case: ProcessorCase, operation: Operation, expected: Outcome) -> list[str]:
        problems: list[str] = []
        shape = case.volumes[0].shape if operation.result is None else operation.result.grid.shape
        tolerance = self.table_tolerance if operation.result is None else operation.tolerance

        @settings(
            max_examples=self.examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(st.tuples(*(st.integers(1, n) for n in shape)))
        def check(block: tuple[int, ...]) -> None:
            if problems:
                return
            name = f"{case.name}, blocks of {block}"
            found = self._evaluated(problems, name, operation, case.volumes, block)
            if found is not None and (difference := operations.differ(expected, found, tolerance)):
                problems.append(f"{name}: differs from the whole: {difference}")

        check()
        return problems

    def test_the_declared_regions_suffice(self) -> None:
        """Values outside the regions that a block declares make no difference to it."""
        problems: list[str] = []
        for case in self.cases():
            operation = self.plan(case.volumes, case.params)
            if operation.result is None or operation.apply is None:
                continue
            try:
                problems += self._reaches_out(case, operation)
            except Exception as error:  # noqa: BLE001 - finding these is the point
                problems.append(f"{case.name}: {_said(error)}")
        _report(problems)

    def _reaches_out(self, case: ProcessorCase, operation: Operation) -> Iterator[str]:
        volumes = operations.copying(case.volumes)
        full = operations.everything(operation, volumes)
        shape = tuple(part.stop for part in full.output)
        found = operations.reduced(operation, volumes, shape)
        expected = self._made(operation, volumes, full, found)
        for size in sorted({tuple(-(-n // k) for n in shape) for k in (2, 3)}):
            if self.block_by_block:
                found = operations.reduced(operation, volumes, size)
            for block in operations.blocks(operation, volumes, size):
                poisoned = operations.poisoned(operation, case.volumes, block)
                if self.block_by_block:
                    other = self._made(operation, poisoned, block, found)
                else:
                    other = self._made(operation, poisoned, full, found)[block.output]
                if difference := operations.differ(expected[block.output], other, operation.tolerance):
                    yield f"{case.name}, block {block.output}: depends on values outside its regions: {difference}"
                    return

    def test_nan_comes_from_nan_only(self) -> None:
        """No NaN comes out where none went in, unless the operation says so: not of zeros, equal or very large values either.

        Such values may also be refused by an `InvalidInput`.
        """
        problems: list[str] = []
        for case in self.cases():
            inputs = [(case.name, case.volumes), *((f"{case.name}, {n}", v) for n, v in operations.extreme(case.volumes))]
            for name, volumes in inputs:
                if not operations.without_nan(volumes):
                    continue
                try:
                    operation = self.plan(volumes, case.params)
                except EmstoreError:
                    continue
                # evaluate() refuses such a block by the runner's own rule.
                self._evaluated(problems, name, operation, volumes, may_refuse=name != case.name)
        _report(problems)

    def test_odd_types_and_shapes(self) -> None:
        """Other types, byte orders and arrays one voxel thin work, or are refused by an error of emstore's."""
        problems: list[str] = []
        for case in self.cases():
            native: Outcome | None = None
            for name, volumes in operations.odd(case.volumes):
                where = f"{case.name}, {name}"
                try:
                    operation = self.plan(volumes, case.params)
                except EmstoreError:
                    continue
                except Exception as error:  # noqa: BLE001 - finding these is the point
                    problems.append(f"{where}: plan raised {_said(error)}")
                    continue
                found = self._evaluated(problems, where, operation, volumes, may_refuse=True)
                if found is None or not name.endswith("endian"):
                    continue
                if native is None:
                    native = found
                elif difference := operations.differ(native, found, 0 if operation.deterministic else 1):
                    problems.append(f"{where}: byte order makes a difference: {difference}")
        _report(problems)

    def test_pure(self) -> None:
        """Inputs stay as they are, nothing is remembered, and NumPy's global random numbers are left alone."""
        problems: list[str] = []
        for case in self.cases():
            operation = self.plan(case.volumes, case.params)
            before = [operations.values_of(v).copy() for v in case.volumes]
            chance = pickle.dumps(np.random.get_state())  # noqa: NPY002 - whether it is used is the question
            one = self._evaluated(problems, case.name, operation, case.volumes)
            if any(v.tobytes() != operations.values_of(a).tobytes() for v, a in zip(before, case.volumes, strict=True)):
                problems.append(f"{case.name}: it modifies its inputs")
            if pickle.dumps(np.random.get_state()) != chance:  # noqa: NPY002
                problems.append(f"{case.name}: it uses NumPy's global random numbers; take a Generator with a seed")
            if not operation.deterministic or one is None:
                continue
            for what, again in (("again", operation), ("in a new plan", self.plan(case.volumes, case.params))):
                two = self._evaluated(problems, f"{case.name}, done {what}", again, case.volumes)
                if two is not None and (difference := operations.differ(one, two, 0)):
                    problems.append(f"{case.name}: deterministic, but done {what} it differs: {difference}")
                    break
        _report(problems)

    def test_what_travels(self) -> None:
        """What a reduction hands on can go between machines, and what is told of it can be written as JSON."""
        problems: list[str] = []
        for case in self.cases():
            operation = self.plan(case.volumes, case.params)
            if operation.reduction is None:
                continue
            shape = case.volumes[0].shape if operation.result is None else operation.result.grid.shape
            state = copy.deepcopy(operation.reduction.start())
            if pickle.dumps(state) != pickle.dumps(operation.reduction.start()):
                problems.append(f"{case.name}: start gives another state each time")
            try:
                found = operations.reduced(operation, case.volumes, tuple(-(-n // 2) for n in shape))
            except Exception as error:  # noqa: BLE001 - finding these is the point
                problems.append(f"{case.name}: {_said(error)}")
                continue
            if pickle.dumps(operation.reduction.start()) != pickle.dumps(state):
                problems.append(f"{case.name}: start gives a state that was used before")
            try:
                pickle.loads(pickle.dumps(found))  # noqa: S301 - our own, a moment old
            except Exception as error:  # noqa: BLE001 - finding these is the point
                problems.append(f"{case.name}: what its reduction found cannot travel: {_said(error)}")
            if operation.tell is not None:
                try:
                    json.dumps(dict(operation.tell(found)), allow_nan=False)
                except (TypeError, ValueError) as error:
                    problems.append(f"{case.name}: what it tells cannot be written as JSON: {error}")
        _report(problems)

    # ------------------------------------------------------------------------------------------------ around it

    def test_every_executor_gives_the_same(self) -> None:
        """Threads, processes and a cluster seal the same objects, through a real store."""
        case = self.cases()[0]
        operation = self.plan(case.volumes, case.params)
        if not operation.deterministic:
            pytest.skip("the operation is not deterministic")
        if self.processor.name not in registry.processors():
            pytest.fail("it is not installed: other processes could not find it", pytrace=False)
        from emstore.testing.stored import sealed_objects

        with tempfile.TemporaryDirectory() as folder:
            store = create_store(f"{folder}/store.zarr")
            made = {name: sealed_objects(self.processor.name, case.volumes, case.params, store, name) for name in self.executors}
        first, *others = made
        _report(
            f"{case.name}: {other} makes other objects than {first}: {min(made[first].items() ^ made[other].items())[0]}"
            for other in others
            if made[other] != made[first]
        )

    def test_memory_is_as_projected(self) -> None:
        """A block takes no more memory than is projected from `work_bytes`, and a reduction's state no more than it says.

        Both are measured at three sizes, in a process of its own.
        """
        if not sys.platform.startswith("linux"):
            pytest.skip("memory is measured on Linux only")
        cls = type(self)
        job = {
            "module": cls.__module__,
            "file": inspect.getfile(cls),
            "class": cls.__qualname__,
            "path": [entry for entry in sys.path if entry],
            "cases": list(range(len(self.cases())))[:2],
            "voxels": SIZES,
        }
        # A fixed threshold makes the allocator give freed arrays back, so that the next peak shows them again.
        environment = {
            **os.environ,
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
            "MALLOC_ARENA_MAX": "2",
        }
        command = [sys.executable, "-m", "emstore.testing.measure_processor"]
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=self.seconds,
            env=environment,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"measuring ended with {done.returncode}\n{done.stderr[-2000:]}", pytrace=False)
        _report(
            f"{found['case']}: {found['what']} of inputs of {found['voxels']} voxels takes {found['held'] >> 10} KiB, "
            f"{found['projected'] >> 10} KiB are projected: {found['by']} is too small"
            for found in json.loads(done.stdout.splitlines()[-1])
            if found["held"] > found["projected"] + self.spare_memory
        )

    # ------------------------------------------------------------------------------------------------ inside

    def _made(self, operation: Operation, volumes: Volumes, block: Any, found: Any) -> Any:
        return Compute(operation, self.processor.name, tuple(v.data for v in volumes)).apply(block, found)

    def _evaluated(
        self,
        problems: list[str],
        where: str,
        operation: Operation,
        volumes: Volumes,
        block: tuple[int, ...] | None = None,
        *,
        may_refuse: bool = False,
    ) -> Outcome | None:
        """Return what an operation makes; where it fails, say so and return ``None``. A reasoned refusal may be no failure."""
        try:
            with np.errstate(all="ignore"):
                return evaluate(operation, volumes, block=block)
        except InvalidInput as error:
            if not may_refuse:
                problems.append(f"{where}: {_said(error)}")
            return None
        except Exception as error:  # noqa: BLE001 - finding these is the point
            problems.append(f"{where}: {_said(error)}")
            return None


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, EmstoreError) else f"{type(error).__name__}: {error}"


def _report(problems: Iterable[str]) -> None:
    listed = list(problems)
    if listed:
        more = [f"... and {len(listed) - 40} more"] if len(listed) > 40 else []
        pytest.fail("\n".join([*listed[:40], *more]), pytrace=False)
