"""The language of `find`: what it says, what it finds, and what it answers to nonsense."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pint
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from command_line import call
from descent import cite, make, small
from emstore.errors import EmstoreError, InvalidInput, Kind, NotFound
from emstore.geometry import Axis
from emstore.header import Header
from emstore.lineage import find
from emstore.lineage.expression import All, Call, Compare, Either, Field, Flag, Not, Quantity, parse
from emstore.lineage.facts import compare
from emstore.lineage.index import Index
from emstore.lineage.search import search
from emstore.provenance.record import Model, SourceFile
from emstore.store import Store, create_store
from emstore.table import Column, Table
from emstore.volume import VolumeKind
from sealed import seal_a_table, volume

WEIGHTS = Model(name="unet-2", digest=f"sha256:{7:064x}")


@pytest.fixture
def study(lab: Store, other: Store) -> SimpleNamespace:
    return fill(lab, other)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The same study for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("shelf")
    return fill(create_store(str(folder / "lab.zarr")), create_store(str(folder / "other.zarr")))


def fill(lab: Store, other: Store) -> SimpleNamespace:
    deep = volume(
        "scan",
        np.zeros((3, 4, 5), np.int16),
        Axis("z", 3, positions=(0.0, 5.0, 10.5), unit="millimeter"),
        Axis("y", 4, spacing=0.5, unit="millimeter"),
        Axis("x", 5, spacing=0.5, unit="millimeter"),
        modality="ct",
        attributes={"series": {"number": 4}, "words": ["left", "knee"]},
    )
    thin = volume(
        "slice",
        np.zeros((4, 5), np.uint8),
        Axis("y", 4, spacing=2.0, unit="nanometer"),
        Axis("x", 5, spacing=None),
        modality="stem",
    )
    voltage = {"instrument/ebeam_column/electron_source/voltage": {"value": 200.0, "unit": "kilovolt"}}
    thin = type(thin)(**{**thin.__dict__, "header": Header("Gatan DM4", terms=voltage)})
    ct = make(
        f"{lab.url}/ct/raw",
        what=deep,
        when=datetime(2026, 1, 31, 23, 30, tzinfo=UTC),
        sources=[SourceFile(name="IM-1.dcm", size=9, digest=f"blake3:{1:064x}", format="DICOM")],
    )
    stem = make(f"{lab.url}/stem/raw", what=thin, when=datetime(2026, 2, 1, 8, tzinfo=UTC))
    smooth = make(f"{lab.url}/ct/smooth", [cite(ct)], params={"sigma": 1.5, "filter": {"edge": "nearest"}}, what=deep)
    mask = make(
        f"{other.url}/ct/mask",
        [cite(smooth, store=lab.id)],
        name="segment.unet",
        models=[WEIGHTS],
        what=small(kind=VolumeKind.LABELS),
        notes=["Two slices were empty."],
    )
    last = make(f"{lab.url}/ct/last", [cite(mask, "labels", store=other.id)], name="transform.crop")
    return SimpleNamespace(ct=ct, stem=stem, smooth=smooth, mask=mask, last=last, lab=lab, other=other)


EXPECTED = [
    ("", "ct stem smooth mask last"),
    ('modality == "ct"', "ct smooth"),
    ('modality = "CT"', "ct smooth"),
    ('modality != "ct"', "stem mask last"),
    ('modality == "ct" and spacing.z > 2 mm', "ct smooth"),
    ("spacing.z > 5.1mm", "ct smooth"),
    ("spacing.z < 5251 um", "ct smooth"),
    ("spacing.z == 0.525 cm", "ct smooth"),
    ("spacing.z > 2 s", ""),
    ("spacing.y < 1 µm", "stem"),
    ("spacing.y <= 2e-9 m", "stem"),
    ("spacing.y == 2nm", "stem"),
    ("spacing.x", "ct smooth mask last"),
    ("not spacing.x", "stem"),
    ("shape.z == 3", "ct smooth"),
    ("shape.z", "ct smooth"),
    ('kind == "labels"', "mask"),
    ('kind == "labels" or kind == "image" and modality == "stem"', "stem mask"),
    ('(kind == "labels" or kind == "image") and modality == "stem"', "stem"),
    ("not (derived or modality == 'stem')", "ct"),
    ('processor == "denoise.gaussian"', "smooth"),
    ('processor ~ "segment"', "mask"),
    ('adapter == "nifti"', "ct stem"),
    ('processor == "nifti"', ""),
    ('maker ~ "*.unet"', "mask"),
    ("created > 2026-01-31", "stem smooth mask last"),
    ("created >= 2026-01-31", "ct stem smooth mask last"),
    ("created == 2026-01-31", "ct"),
    ("created > 2026-01-31T23:00 and created < 2026-02-01T09:00+01:00", "ct"),
    ("created <= 2026-02-01T08:00Z", "ct stem"),
    ("params.sigma == 1.5", "smooth"),
    ("params.sigma >= 1.4 and params.sigma < 2", "smooth"),
    ('params.filter.edge == "nearest"', "smooth"),
    ('params.sigma == "1.5"', ""),
    ("params.nothing == 1", ""),
    ('params.device == "cpu" and params.processor_version == "1"', "smooth mask last"),
    ("attributes.series.number == 4", "ct smooth"),
    ('attributes.words == "knee"', "ct smooth"),
    ("terms.voltage > 100 kV", "stem"),
    ("terms.voltage > 100 mm", ""),
    ("terms.electron_source.voltage == 200000 V", "stem"),
    ('terms."electron_source/voltage"', "stem"),
    ('model == "unet-2"', "mask"),
    (f'model == "{WEIGHTS.digest}"', "mask"),
    ('made_with("unet-2")', "mask"),
    ('made_with("ct/raw/v1")', "smooth"),
    ('made_with("ct/raw")', "smooth"),
    ('made_with("segment.unet")', "mask"),
    ('descends("ct/raw")', "smooth mask last"),
    ('descends("unet-2")', "mask last"),
    (f'descends("{WEIGHTS.digest}")', "mask last"),
    ('descends("ct/smooth/v1") and kind == "image"', "last"),
    ('source == "im-1.dcm"', "ct"),
    ('source ~ "im-?.dcm"', "ct"),
    ('input == "ct/raw/v1"', "smooth"),
    ('note ~ "empty"', "mask"),
    ('store == "other.zarr"', "mask"),
    ('dataset == "ct" and array == "raw"', "ct"),
    ('ref == "ct/raw"', "ct"),
    ('format == "gatan dm4"', "stem"),
    ("version == 1 and latest", "ct stem smooth mask last"),
    ("deterministic == true and not deidentified", "ct stem smooth mask last"),
    ("stale", ""),
    ("seed", ""),
    ("activity == 'ingest'", "ct stem"),
    ("dtype == 'int16'", "ct smooth"),
    ("stored > 1e9", ""),
    ("levels < 1", ""),
]


@pytest.mark.parametrize(("expression", "names"), EXPECTED, ids=[e[0] or "empty" for e in EXPECTED])
def test_it_finds(shelf: SimpleNamespace, expression: str, names: str) -> None:
    wanted = {getattr(shelf, name).id for name in names.split()}
    assert {found.id for found in find(expression, shelf.lab.url, shelf.other.url).found} == wanted


def test_stale_is_what_has_a_newer_input(study: SimpleNamespace) -> None:
    def stale() -> set[str]:
        return {found.id for found in find("stale", study.lab.url, study.other.url).found}

    calibrated = make(f"{study.lab.url}/ct/smooth", [cite(study.smooth)], name="transform.calibrate")
    assert stale() == {study.mask.id}  # and not the newer version itself, though it was made from the older one
    make(f"{study.lab.url}/ct/raw")
    assert stale() == {study.mask.id, study.smooth.id}
    assert {f.id for f in find("not latest", study.lab.url).found} == {study.ct.id, study.smooth.id}
    assert calibrated.id in {f.id for f in find("stale == false and latest", study.lab.url).found}


def test_tables_are_found_by_their_figures(lab: Store) -> None:
    table = Table("quality", {"psnr": Column(np.array([30.0, 32.4]))}, summary={"psnr": 31.2, "ssim": None})
    sealed = seal_a_table(table, f"{lab.url}/ct/quality")
    assert [found.id for found in find("summary.psnr > 31 and kind == 'table'", lab.url).found] == [sealed.id]
    assert find("summary.psnr > 32 or summary.ssim > 0 or spacing.x > 1 mm", lab.url).found == ()
    assert "ct/quality/v1" in call("find", "", lab.url).stdout


def test_where_to_look(study: SimpleNamespace) -> None:
    def refs(*where: str) -> list[str]:
        return [found.ref for found in find("", *where).found]

    assert refs() == []  # nobody has pointed at a store yet
    assert refs(f"{study.lab.url}/stem") == [f"{study.lab.url}/stem/raw/v1"]
    assert refs(f"{study.lab.url}/ct/raw", study.other.url) == [
        f"{study.lab.url}/ct/raw/v1",
        f"{study.other.url}/ct/mask/v1",
    ]
    assert len(refs()) == 5  # all of both stores, now known
    assert emstore_opens(refs())


def emstore_opens(refs: list[str]) -> bool:
    import emstore

    return all(emstore.open(ref).ref == ref for ref in refs)


def test_a_store_that_is_none_is_told_of(study: SimpleNamespace) -> None:
    with pytest.raises(NotFound):
        find("", study.lab.url + "-none")


WRONG = [
    ('modalty == "ct"', 1, "did you mean modality"),
    ('kind == "labels" and spcing.z > 2 mm', 22, "spacing"),
    ("spacing.z > 2", 13, "write its unit"),
    ("spacing > 2 mm", 1, "spacing.z"),
    ("spacing.z.y > 2 mm", 1, ""),
    ("kind.of == 'image'", 1, ""),
    ("modality == ct", 13, '"ct"'),
    ('kind == "mask"', 9, "labels"),
    ('kind > "image"', 8, "=="),
    ("kind == 3", 9, "quotes"),
    ("created > 3", 11, ""),
    ("created > 2026-02-30", 11, ""),
    ("shape.z > 2 mm", 11, ""),
    ("stale > 3", 9, ""),
    ("shape.z ~ 3", 11, ""),
    ("descend('x')", 1, "descends"),
    ("descends(x)", 10, "descends"),
    ("descends('nothing/here')", 1, "id"),
    ("stale and", 10, ""),
    ("(stale", 7, ""),
    ("stale)", 6, ""),
    ("stale stale", 7, "and"),
    ("== 3", 1, "field first"),
    ("2 mm < spacing.z", 1, "field first"),
    ("and", 1, ""),
    ("kind == 'im", 9, ""),
    ("kind ==", 8, ""),
    ("params == 1", 1, "params.sigma"),
    ("params. == 1", 9, ""),
    ("__import__('os').system('true')", 17, ""),
    ("kind; drop table version", 5, ""),
    ("(" * 60 + "stale" + ")" * 60, 51, ""),
    ("not " * 60 + "stale", 201, ""),
]


@pytest.mark.parametrize(("expression", "at", "fix"), WRONG, ids=[w[0][:30] for w in WRONG])
def test_nonsense_is_told_of_with_its_place(lab: Store, expression: str, at: int, fix: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        find(expression, lab.url)
    assert refusal.value.what.endswith(f"at character {at}")
    assert fix in str(refusal.value.fix)


def test_an_unknown_unit_is_a_bad_unit(lab: Store) -> None:
    with pytest.raises(InvalidInput, match="at character 15") as refusal:
        find("spacing.z > 2 furlong", lab.url)
    assert refusal.value.kind is Kind.BAD_UNIT


def test_an_endless_expression_is_refused(lab: Store) -> None:
    with pytest.raises(InvalidInput, match="characters"):
        find("stale or " * 5000, lab.url)


@settings(deadline=None)
@given(st.text(alphabet="""abz_ .()"'~=<>!0123456789-+eEµ°%/\\\n:TZ""", max_size=40))
@example("created > 2026-01-01T")
@example("a" * 5000)
@example("1" * 5000)
@example("'\\")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        parse(text)
    except EmstoreError as error:
        assert isinstance(error, InvalidInput)  # noqa: PT017 - any other exception fails the test


names = st.sampled_from(["kind", "modality", "params", "x1", "ß"])
fields = st.builds(lambda path: Field(tuple(path), 0), st.lists(names, min_size=1, max_size=3))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
values = (
    st.tuples(st.sampled_from(["==", "!=", "~"]), texts)
    | st.tuples(st.sampled_from(["<", "<=", ">", ">="]), st.floats(allow_nan=False, allow_infinity=False))
    | st.tuples(st.just("=="), st.booleans())
    | st.tuples(st.just(">"), st.dates())
    | st.tuples(
        st.just(">"),
        st.builds(Quantity, st.integers(-99, 99).map(float), st.sampled_from(["millimeter", "second", "1/nanometer"])),
    )
)
leaves = (
    st.builds(lambda f, v: Compare(f, v[0], v[1], 0), fields, values)
    | st.builds(Flag, fields)
    | st.builds(lambda n, t: Call(n, t, 0), names, texts)
)


def several(kind: type[All] | type[Either], inner: Any) -> Any:
    return st.lists(inner, min_size=2, max_size=3).map(lambda parts: kind(tuple(parts)))


conditions = st.recursive(leaves, lambda inner: inner.map(Not) | several(All, inner) | several(Either, inner), max_leaves=8)


def written(condition: Any) -> str:
    """Write a condition down, every part in parentheses."""
    match condition:
        case All(of=parts):
            return "(" + " and ".join(map(written, parts)) + ")"
        case Either(of=parts):
            return "(" + " or ".join(map(written, parts)) + ")"
        case Not(of=part):
            return f"not {written(part)}"
        case Call(name=name, argument=argument):
            return f"{name}({quoted(argument)})"
        case Flag(field=field):
            return str(field)
        case Compare(field=field, operator=operator, value=value):
            match value:
                case bool():
                    text = str(value).lower()
                case str():
                    text = quoted(value)
                case Quantity():
                    text = f"{value.value!r} {value.unit}"
                case float():
                    text = repr(value)
                case _:
                    text = value.isoformat()
            return f"{field} {operator} {text}"
    raise AssertionError(condition)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def placeless(condition: Any) -> Any:
    """Return a condition without where its parts stood."""
    match condition:
        case All(of=parts) | Either(of=parts):
            return type(condition)(tuple(map(placeless, parts)))
        case Not(of=part):
            return Not(placeless(part))
        case Flag(field=field):
            return Flag(Field(field.path, 0))
        case Call(name=name, argument=argument):
            return Call(name, argument, 0)
    return Compare(Field(condition.field.path, 0), condition.operator, condition.value, 0)


@settings(deadline=None)
@given(conditions)
def test_what_is_written_down_is_read_back(condition: Any) -> None:
    assert placeless(parse(written(condition))) == condition


@pytest.fixture(scope="module")
def units() -> "pint.UnitRegistry[float]":
    return pint.UnitRegistry()


@settings(deadline=None)
@given(
    st.floats(1e-3, 1e3),
    st.sampled_from(["meter", "millimeter", "micrometer", "nanometer"]),
    st.floats(1e-3, 1e3),
    st.sampled_from(["meter", "millimeter", "micrometer", "nanometer"]),
)
def test_units_compare_as_pint_says(units: "pint.UnitRegistry[float]", one: float, unit: str, two: float, other: str) -> None:
    left, right = (units.Quantity(value, name).to("meter").magnitude for value, name in ((one, unit), (two, other)))
    if abs(left - right) > 1e-8 * right:
        assert compare(Quantity(one, unit), ">", Quantity(two, other)) == (left > right)
        assert compare(Quantity(one, unit), "<=", Quantity(two, other)) == (left <= right)
        assert not compare(Quantity(one, unit), "==", Quantity(two, other))


# -- what the database asks, against asking every version for everything ----------------------------------------------


def plain(condition: Any, facts: Any, whole: Any) -> bool:
    """Decide what an expression means for one version, from its seal and the places of all."""
    match condition:
        case All(of=parts):
            return all([plain(part, facts, whole) for part in parts])
        case Either(of=parts):
            return any([plain(part, facts, whole) for part in parts])
        case Not(of=part):
            return not plain(part, facts, whole)
        case Flag(field=Field(path=("stale" | "latest" as name,))):
            return facts.id in whole[name]
        case Flag(field=Field(path=path)):
            return any(value not in (None, False) for value in said(facts, path))
        case Compare(field=field, operator="!=", value=value):
            return not any(compare(each, "==", value) for each in said(facts, field.path))
        case Compare(field=field, operator=operator, value=value):
            return any(compare(each, operator, value) for each in said(facts, field.path))
        case Call(name="descends"):
            return facts.id in whole["descends"]
    raise AssertionError(condition)


def said(facts: Any, path: tuple[str, ...]) -> list[Any]:
    """Return what a version says by a name, read from its seal."""
    seal, below = facts.seal, path[-1]
    record, volume = seal["record"], seal["volume"]
    voxel, params = seal["voxel"], record["params"].get("params", record["params"])
    match path[0]:
        case "kind" | "modality" | "dtype" | "name":
            return [volume[path[0]]]
        case "processor":
            return [record["activity"]["name"]] if record["activity"]["type"] == "process" else []
        case "version":
            return [facts.number]
        case "store":
            return list(facts.store)
        case "note":
            return [*record["notes"], *volume["notes"]]
        case "model":
            return [text for model in record["models"] for text in (model["name"], model["digest"])]
        case "source":
            return [text for file in record["sources"] for text in (file["name"], file["digest"])]
        case "input":
            return [text for used in record["inputs"] for text in (used["ref"], used["id"])]
        case "derived":
            return [bool(record["inputs"])]
        case "deterministic":
            return [record["random"]["deterministic"]]
        case "params":
            return [params[below]] if below in params else []
        case "terms":
            return [value for name, value in seal["header"]["terms"].items() if name.endswith(f"/{below}")]
        case "shape":
            return [size for name, size in zip(volume["dims"], volume["shape"], strict=True) if name == below]
        case "spacing":
            steps = {axis["name"]: (voxel["spacing"].get(axis["name"]), axis["unit"]) for axis in voxel["axes"]}
            step, unit = steps.get(below, (None, None))
            return [] if step is None or unit is None else [Quantity(step, unit)]
    raise AssertionError(path)


asked = st.sampled_from([
    'kind == "labels"', 'modality == "ct"', 'modality != "ct"', 'dtype ~ "int"', 'name == "scan"', "modality", "processor",
    'processor == "denoise.gaussian"', "version >= 2", 'store == "other.zarr"', 'note ~ "empty"', "model", 'source ~ "im"',
    'input == "ct/raw/v1"', "derived", "deterministic == true", "params.sigma < 2", "params.sigma != 1.5", "terms.voltage > 1 kV",
    "shape.z == 3", "spacing.z > 2 mm", "spacing.y <= 2 nm", "spacing.x", "stale", "latest", 'descends("ct/raw")',
])  # fmt: skip
joined = st.recursive(
    asked,
    lambda inner: (
        inner.map("not ({})".format)
        | st.lists(inner, min_size=2, max_size=4).map(lambda parts: "(" + " and ".join(parts) + ")")
        | st.lists(inner, min_size=2, max_size=4).map(lambda parts: "(" + " or ".join(parts) + ")")
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Versions of two stores in a cache, and of which of them holds what asks all of them."""
    folder = tmp_path_factory.mktemp("many")
    lab, other = create_store(str(folder / "lab.zarr")), create_store(str(folder / "other.zarr"))
    study = fill(lab, other)
    again = make(f"{lab.url}/ct/raw")
    own = make(f"{lab.url}/ct/raw", [cite(again)])
    twice = make(f"{lab.url}/ct/twice", [cite(own), cite(study.stem, "second")], params={"sigma": 1.5})
    with Index(folder / "cache.sqlite") as cache:
        assert cache.refresh(lab) == cache.refresh(other) == []
        below = {study.smooth.id, study.mask.id, study.last.id, own.id, twice.id}
        old = {study.ct.id, again.id}
        everything = {found.id for found in search(cache, "")}
        yield cache, {"stale": {study.smooth.id}, "latest": everything - old, "descends": below - {own.id}}


@settings(deadline=None, max_examples=300)
@given(joined)
@example("not " * 49 + "stale")
@example(" and ".join(["latest"] * 900))
@example("(" * 48 + "stale" + ' or kind == "labels")' * 48)
@example(" or ".join(['modality == "ct"'] * 400))
def test_the_database_finds_what_asking_every_version_finds(many: Any, expression: str) -> None:
    cache, whole = many
    condition = parse(expression)
    expected = [found.ref for found in search(cache, "") if plain(condition, found.facts, whole)]
    assert [found.ref for found in search(cache, expression)] == expected


def test_two_searches_go_on_at_once(many: Any) -> None:
    cache, _ = many
    one, two = search(cache, 'kind == "image"'), search(cache, 'not kind == "image"')
    found = [(next(one).id, next(two).id)]
    assert {each.id for each in [*one, *two]}.isdisjoint(found[0])


def test_a_search_that_is_stopped_says_so(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("emstore.lineage.search.true", stop)
    with pytest.raises(KeyboardInterrupt):
        list(search(many[0], "seed"))
