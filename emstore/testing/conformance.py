"""The adapter contract as tests: subclass `AdapterConformance`, name the adapter and some files, run pytest.

Every rule of `emstore.adapter` and the five rules of `emstore.volume.LazyArray` has one test. A test goes through all
files before it fails and names each file, volume and rule broken, so one run shows everything there is to repair.
"""

import bz2
import gzip
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emstore.adapter import Adapter
from emstore.source import HEAD_BYTES, Source, SourceItem
from emstore.testing import process, regions, rules, truncation
from emstore.testing.samples import Sample, copy, files_of, link, truncate
from emstore.volume import Volume

WINDOW: Final = 16 << 20
"""Most of a volume that is held as the whole its slices are compared with, bytes."""

SLACK: Final = 4096
"""What asking the kernel and rounding to pages may add to a measured read, bytes."""


@dataclass(frozen=True)
class Case:
    """A sample, opened."""

    sample: Sample
    source: Source
    volumes: tuple[Volume, ...]

    @property
    def files(self) -> list[Path]:
        """Every file the volumes are read from, and the sample's own."""
        own = [file for path in self.sample.paths for file in files_of(path)]
        return list(dict.fromkeys([*own, *(path for volume in self.volumes for path in volume.files)]))


class AdapterConformance:
    """Subclass this as ``class TestMyAdapter(AdapterConformance)`` and set `adapter` and `files`.

    The files should include a small one (for the tests that read everything) and one well above 16 MiB of uncompressed
    values (for those that measure reading and memory; they are skipped, with a message, where none is large enough).
    """

    adapter: ClassVar[type[Adapter]]
    """The adapter's class."""
    files: ClassVar[Any]
    """Sources: paths of files or folders, tuples of paths that belong together, or `Sample` objects. Or a function that
    makes them in the empty folder it is given and returns them; or a pytest fixture of this name that returns them."""

    truncatable: ClassVar[bool] = True
    """Whether a file cut short can be told from a whole one."""
    random_access: ClassVar[bool] = True
    """Whether parts can be read alone; set per `Sample` where only some files can."""
    raw_verbatim: ClassVar[bool] = True
    """Whether a raw header stands in one piece in a file; not so for containers such as HDF5."""
    raw_expected: ClassVar[bool] = True
    """Whether the format has a header at all."""
    open_bytes: ClassVar[int] = 1 << 20
    """Most that opening may read whatever the size of the files, bytes."""
    open_share: ClassVar[float] = 0.1
    """Share of the files that opening may read where that is more than `open_bytes`."""
    spare_memory: ClassVar[int] = 16 << 20
    """Memory allowed beyond the contract's rule, for libraries' own buffers, bytes."""
    small: ClassVar[int] = 32 << 20
    """Volumes up to this size are read whole many times over, bytes."""
    examples: ClassVar[int] = 30
    """Random examples per property."""
    seconds: ClassVar[float] = 120.0
    """Most that one measuring process may take."""

    def reference(self, sample: Sample) -> Mapping[str, npt.NDArray[Any]]:
        """Override: return the values of some volumes by name, read by another program than the adapter."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.reference is AdapterConformance.reference:
            cls.test_values_equal_the_reference = None  # type: ignore[method-assign, assignment]  # nothing to compare with

    # ------------------------------------------------------------------------------------------------ fixtures

    @pytest.fixture(scope="class")
    @classmethod
    def samples(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
        """Make the samples of `files`."""
        made = inspect.getattr_static(request.cls, "files", None)
        if isinstance(made, FunctionType | staticmethod | classmethod):
            takes_self = isinstance(made, FunctionType) and len(inspect.signature(made).parameters) == 2
            call: Callable[[Path], Any] = (request.cls() if takes_self else request.cls).files
            made = call(tmp_path_factory.mktemp("files"))
        elif not isinstance(made, Sequence):
            made = request.getfixturevalue("files")
        assert made, "`files` names no file to test with"
        return [Sample.of(entry) for entry in made]

    @pytest.fixture(scope="class")
    @classmethod
    def cases(cls, request: pytest.FixtureRequest, samples: list[Sample]) -> Iterator[list[Case]]:
        """Open every sample once for all tests that only read."""
        opened: list[Case] = []
        try:
            for sample in samples:
                source = Source.of(sample.paths)
                opened.append(Case(sample, source, ()))
                volumes = request.cls.adapter().open(source)
                opened[-1] = Case(sample, source, tuple(volumes))
            yield opened
        finally:
            for case in opened:
                case.source.close()

    @pytest.fixture(scope="class")
    @classmethod
    def costs(cls, request: pytest.FixtureRequest, cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Measure everything once, in a process of its own."""
        if not sys.platform.startswith("linux"):
            pytest.skip("reading and memory are measured on Linux only")
        entries = [_entry(case) for case in cases]
        return process.run(cls.adapter, "costs", entries, tmp_path_factory.mktemp("costs"), cls.seconds)

    # ------------------------------------------------------------------------------------------------ the class

    def test_contract(self) -> None:
        """The class has its name, version and formats, and is built without arguments."""
        problems = list(rules.contract(self.adapter))
        if not isinstance(self.adapter(), Adapter):
            problems.append("it lacks sniff or open")
        _report(problems)

    def test_import_is_cheap(self, costs: dict[str, Any]) -> None:
        """Importing the adapter's module loads no format library; recognising a thousand files stays cheap."""
        assert not costs["heavy"], f"importing {self.adapter.__module__} loads {costs['heavy']}; import them inside methods"

    # ------------------------------------------------------------------------------------------------ sniff

    def test_sniff_recognises_by_content(self, cases: list[Case], tmp_path: Path) -> None:
        """Each source is recognised, and as surely under a name that says nothing."""
        problems = []
        adapter = self.adapter()
        for number, case in enumerate(cases):
            scores = {item: adapter.sniff(item) for item in case.source.items[:16]}
            for item, score in scores.items():
                if type(score) is not int or not 0 <= score <= 100:
                    problems.append(f"{item.name}: the score is {score!r}, not an int from 0 to 100")
            if not any(scores.values()):
                problems.append(f"{case.sample.name}: none of its files is recognised")
            for place, (item, score) in enumerate(scores.items()):
                twin = tmp_path / f"{number}-{place}"
                for file in files_of(item.path):
                    link(file, twin / file.relative_to(item.path) if item.is_folder else twin)
                renamed = adapter.sniff(SourceItem(twin, twin.name))
                if renamed != score:
                    problems.append(f"{item.name}: scores {score}, but {renamed} when named without an extension")
        _report(problems)

    def test_sniff_reads_the_head_only(self, costs: dict[str, Any]) -> None:
        """At most 64 KiB are read to recognise a file."""
        _report(
            f"{found['name']}: {found['sniff_read']} bytes read to recognise a file; the limit is {HEAD_BYTES}"
            for found in costs["samples"]
            if found["sniff_read"] > HEAD_BYTES + SLACK
        )

    def test_sniff_refuses_what_is_nothing(self, tmp_path: Path) -> None:
        """No bytes, zeros, noise and text are not recognised, even under the format's own extensions."""
        contents = {
            "nothing": b"",
            "zeros": bytes(HEAD_BYTES),
            "noise": random.Random(1).randbytes(HEAD_BYTES),
            "text": b"a note\n" * 99,
        }
        problems = []
        for extension in {"", *(e for group in self.adapter.formats.values() for e in group)}:
            for what, content in contents.items():
                path = tmp_path / f"{what}{extension}"
                path.write_bytes(content)
                score = self.adapter().sniff(SourceItem(path, path.name))
                if score:
                    problems.append(f"a file of {what} named {path.name} scores {score}; judge by content")
        _report(problems)

    def test_sniff_never_raises(self, cases: list[Case], tmp_path: Path) -> None:
        """Whatever the bytes are, the answer is a score: random ones, and real heads that go astray."""
        adapter = self.adapter()
        heads = [item.head for case in cases for item in case.source.items[:4] if item.head] or [b""]
        path = tmp_path / "anything"

        @settings(max_examples=4 * self.examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(heads), st.integers(0, 512), st.binary(max_size=256), st.booleans())
        @example(b"", 0, b"", False)
        @example(b"", 0, b"\xff" * 256, False)  # neither ASCII nor UTF-8
        @example(heads[0], 4, b"\x00" * 256, True)
        def check(head: bytes, kept: int, noise: bytes, resume: bool) -> None:
            path.write_bytes(head[:kept] + noise + (head[kept + len(noise) :] if resume else b""))
            score = adapter.sniff(SourceItem(path, path.name))
            assert type(score) is int
            assert 0 <= score <= 100

        check()

    # ------------------------------------------------------------------------------------------------ open

    def test_volumes_keep_their_rules(self, cases: list[Case]) -> None:
        """Names, arrays, axes, spacings, units, header and files of every volume are as the contract says."""
        problems = []
        for case in cases:
            problems += [f"{case.sample.name}: {problem}" for problem in rules.volumes(case.volumes)]
            for volume in case.volumes:
                for rule in (rules.geometry, rules.header, rules.files):
                    problems += [f"{case.sample.name}, {volume.name}: {problem}" for problem in rule(volume)]
                problems += [f"{case.sample.name}, {volume.name}: {problem}" for problem in rules.array(volume.data)]
        _report(problems)

    def test_no_file_goes_unnoticed(self, cases: list[Case], costs: dict[str, Any]) -> None:
        """Every item ends in a volume's files, or is ignored with a reason; every file opened is named."""
        problems = []
        for case, found in zip(cases, costs["samples"], strict=True):
            used = {path.resolve() for volume in case.volumes for path in volume.files}
            told = {entry.name for entry in (*case.source.ignored, *case.source.skipped)}
            for item in case.source.items:
                own = item.path.resolve()
                if item.name not in told and not any(path == own or path.is_relative_to(own) for path in used):
                    problems.append(f"{case.sample.name}: {item.name} is in no volume's files and was not ignored with a reason")
            problems += [f"{found['name']}: {path} was opened but is in no volume's files" for path in found["unlisted"]]
        _report(problems)

    def test_raw_headers_are_exact(self, cases: list[Case]) -> None:
        """Raw headers have plain unique names, are the same at each reading, and stand in the files byte for byte."""
        problems = []
        for case in cases:
            contents = [_content(path) for path in case.files if path.is_file()] if self._of(case.sample, "raw_verbatim") else []
            for volume in case.volumes:
                where = f"{case.sample.name}, {volume.name}"
                raw = volume.header.raw
                if self.raw_expected and not raw:
                    problems.append(f"{where}: no raw header is kept")
                names = [header.name for header in raw]
                if len(set(names)) != len(names) or any(not n or "/" in n or "\\" in n or n.startswith(".") for n in names):
                    problems.append(f"{where}: raw headers are named {names[:4]}; plain unique file names are needed")
                for header in raw[:8]:
                    data = header.read()
                    if type(data) is not bytes or not data:
                        problems.append(f"{where}: raw header {header.name} is {data[:20]!r}; it must be bytes, not empty")
                    elif data != header.read():
                        problems.append(f"{where}: raw header {header.name} differs at its second reading")
                    elif contents and not any(data in content for content in contents):
                        problems.append(f"{where}: raw header {header.name} stands in none of the files")
        _report(problems)

    def test_open_reads_headers_only(self, costs: dict[str, Any]) -> None:
        """Opening reads a small part of the files and holds no decoded array."""
        sizes = 2 * self.open_bytes, 2 * self.spare_memory
        large = [found for found in costs["samples"] if found["size"] > sizes[0] or found["nbytes"] > sizes[1]]
        if not large:
            pytest.skip(f"no file is large enough to tell; give one above {sizes[0]} bytes")
        problems = []
        for found in large:
            allowed = max(self.open_bytes, round(self.open_share * found["size"]))
            if found["open_read"] > allowed:
                problems.append(
                    f"{found['name']}: opening reads {found['open_read']} of {found['size']} bytes; the limit is {allowed}"
                )
            if found["open_held"] > self.spare_memory:
                problems.append(f"{found['name']}: opening holds {found['open_held']} bytes; the limit is {self.spare_memory}")
        _report(problems)

    # ------------------------------------------------------------------------------------------------ slices

    def test_slices_equal_the_whole(self, cases: list[Case]) -> None:
        """Any region equals the same part of a larger one, in values, shape and type."""
        for case in cases:
            for volume in case.volumes:
                self._check_slices(case, volume)

    def _check_slices(self, case: Case, volume: Volume) -> None:
        data = volume.data
        outer = regions.window(data, WINDOW, random.Random(volume.name))
        whole = data[outer]

        # Strangers' files take their time: no deadline. One function per volume: Hypothesis wants no shared state.
        @settings(max_examples=self.examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.randoms(use_true_random=False))
        def check(chance: random.Random) -> None:
            inner = regions.random_region(regions.extent(outer), chance)
            region = regions.inside(outer, inner)
            values = data[region]
            where = f"{case.sample.name}, {volume.name}, region {region}"
            assert type(values) is np.ndarray, f"{where}: got a {type(values).__name__}"
            assert values.shape == regions.extent(region), f"{where}: got shape {values.shape}"
            assert values.dtype == data.dtype, f"{where}: got {values.dtype}, the array says {data.dtype}"
            assert _same(values, whole[inner]), f"{where}: differs from the same part of {outer}"

        check()

    def test_values_equal_the_reference(self, cases: list[Case]) -> None:
        """Values equal those that another program reads, where the subclass gives a `reference`."""
        problems = []
        for case in cases:
            expected = self.reference(case.sample)
            found = {volume.name: volume for volume in case.volumes}
            for name, values in expected.items():
                if name not in found:
                    problems.append(f"{case.sample.name}: there is no volume {name!r}; there are {sorted(found)}")
                elif found[name].shape != values.shape:
                    problems.append(f"{case.sample.name}, {name}: shape is {found[name].shape}, should be {values.shape}")
                elif not _same(found[name].data[tuple(slice(0, n) for n in values.shape)], values):
                    problems.append(f"{case.sample.name}, {name}: values differ from the reference")
        _report(problems)

    def test_threads_may_read_at_once(self, cases: list[Case]) -> None:
        """Eight threads reading at once get what one thread gets."""
        problems = []
        for case in cases:
            for volume in case.volumes[:4]:
                data = volume.data
                chance = random.Random(volume.name)
                outer = regions.window(data, WINDOW // 4, chance)
                parts = [regions.random_region(regions.extent(outer), chance) for _ in range(2 * self.examples)]
                whole = data[outer]
                with ThreadPoolExecutor(8) as pool:
                    read = list(pool.map(lambda part, data=data, outer=outer: data[regions.inside(outer, part)], parts))
                wrong = [part for part, values in zip(parts, read, strict=True) if not _same(values, whole[part])]
                if wrong:
                    problems.append(
                        f"{case.sample.name}, {volume.name}: {len(wrong)} of {len(parts)} regions differ, e.g. {wrong[0]}"
                    )
        _report(problems)

    def test_slices_hold_little(self, costs: dict[str, Any]) -> None:
        """A slice holds at most twice its own bytes and one block."""
        problems, told = [], False
        for found in costs["samples"]:
            for part in found["slices"]:
                allowed = 2 * part["requested"] + part["block"] + self.spare_memory
                told |= allowed < found["nbytes"]
                if part["held"] > allowed:
                    problems.append(
                        f"{found['name']}: region {part['region']} of {part['requested']} bytes holds {part['held']};"
                        f" with blocks of {part['block']} the limit is {allowed}"
                    )
        if not problems and not told:
            pytest.skip(f"no volume is large enough to tell; give one above {2 * self.spare_memory} bytes in several blocks")
        _report(problems)

    def test_slices_read_what_they_need(self, cases: list[Case], costs: dict[str, Any]) -> None:
        """A region of whole blocks reads about its own share of the files."""
        problems, told = [], False
        for case, found in zip(cases, costs["samples"], strict=True):
            for part in found["slices"] if self._of(case.sample, "random_access") else ():
                allowed = round(2 * part["share"] * found["size"]) + self.open_bytes
                told |= allowed < found["size"]
                if part["read"] > allowed:
                    problems.append(
                        f"{found['name']}: region {part['region']}, {part['share']:.1%} of the values, reads {part['read']}"
                        f" of {found['size']} bytes; the limit is {allowed}"
                    )
        if not problems and not told:
            pytest.skip(f"no file is large enough to tell; give one above {2 * self.open_bytes} bytes in several blocks")
        _report(problems)

    # ------------------------------------------------------------------------------------------------ bad input

    def test_truncated_files_are_told(self, cases: list[Case], tmp_path: Path) -> None:
        """A file cut short is refused, or read in full where nothing was lost; never an empty or filled part."""
        problems = []
        for number, case in enumerate(cases):
            if not self._of(case.sample, "truncatable") or sum(volume.nbytes for volume in case.volumes) > self.small:
                continue
            for share in (0.0, 0.02, 0.3, 0.5, 0.9, 1.0):
                mirror = copy(case.sample, case.files, tmp_path / f"{number}-{share}")
                victim = mirror.largest
                size = victim.stat().st_size
                kept = min(round(share * size), size - 1)
                truncate(victim, kept)
                where = f"{case.sample.name} cut to {kept} of {size} bytes"
                problems += [f"{where}: {problem}" for problem in truncation.check(self.adapter(), mirror.paths, case.volumes)]
        _report(problems)

    def test_damaged_headers_end_in_clear_errors(self, cases: list[Case], tmp_path: Path) -> None:
        """Damaged bytes give values or an emstore error, never another exception, a crash, a hang or much memory."""
        small = [
            _entry(case) | {"turns": self.examples} for case in cases if sum(p.stat().st_size for p in case.files) < self.small
        ]
        if not small:
            pytest.skip("no file is small enough to damage many times")
        found = process.run(self.adapter, "corrupt", small, tmp_path, self.seconds)
        problems = [f"{sample['name']}: {problem}" for sample in found["samples"] for problem in sample["wrong"]]
        problems += [f"{s['name']}: held {s['held']} bytes while damaged" for s in found["samples"] if s["held"] > 1 << 30]
        _report(problems)

    def _of(self, sample: Sample, knob: str) -> bool:
        own = getattr(sample, knob)
        return bool(getattr(self, knob) if own is None else own)


def _entry(case: Case) -> dict[str, Any]:
    paths = [str(path.absolute()) for path in case.sample.paths]
    return {"name": case.sample.name, "paths": paths, "files": [str(path.absolute()) for path in case.files]}


def _report(problems: Iterable[str]) -> None:
    listed = list(problems)
    if listed:
        more = [f"... and {len(listed) - 40} more"] if len(listed) > 40 else []
        pytest.fail("\n".join([*listed[:40], *more]), pytrace=False)


def _same(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    return np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked when it is a gzip or bzip2 file."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return bz2.decompress(data) if data.startswith(b"BZh") else data
