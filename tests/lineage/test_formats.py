"""PROV-JSON and RO-Crate, judged by the libraries and the validator of those who made them."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from prov.model import ProvActivity, ProvDerivation, ProvDocument, ProvEntity, ProvGeneration, ProvUsage
from requests_cache import CachedRequest, CachedResponse, CachedSession
from rocrate.rocrate import ROCrate

from descent import cite, make
from emstore.errors import Conflict, InvalidInput, Kind
from emstore.lineage import Lineage, find, lineage
from emstore.provenance.record import Model, SourceFile
from emstore.store import Store

CONTEXT = Path(__file__).parent / "contexts" / "ro-crate-1.2.jsonld"
CONTEXT_URL = "https://w3id.org/ro/crate/1.2/context"


@pytest.fixture
def study(lab: Store, other: Store) -> SimpleNamespace:
    files = [SourceFile(name=f"IM {n}.dcm", size=n, digest=f"sha256:{n:064x}", format="DICOM") for n in range(3)]
    raw = make(f"{lab.url}/ct/raw", sources=files)
    again = make(f"{lab.url}/ct/again", sources=files[:1])
    smooth = make(f"{lab.url}/ct/smooth", [cite(raw)], params={"sigma": 1.5, "edge": "nearest", "axes": ["y"], "mask": None})
    weights = Model(name="unet", digest=f"sha256:{9:064x}", licence="CC-BY-4.0")
    mask = make(f"{other.url}/ct/mask", [cite(smooth, store=lab.id)], name="segment.unet", models=[weights])
    last = make(
        f"{lab.url}/ct/last", [cite(mask, "labels", store=other.id), cite(raw), cite(raw, "reference"), cite(again, "second")]
    )
    unseen = make(f"{lab.url}/ct/later", [cite(last), cite(make(f"{lab.url}/ct/gone"), "lost", store="urn:uuid:nobody")])
    import shutil

    shutil.rmtree(Path(lab.url) / "ct/gone/v1")
    find("", lab.url, other.url)
    return SimpleNamespace(raw=raw, again=again, smooth=smooth, mask=mask, last=last, later=unseen, weights=weights)


@pytest.fixture
def found(study: SimpleNamespace) -> Lineage:
    return lineage(study.later.ref)


# -- PROV ------------------------------------------------------------------------------------------------------------

# "The PROV-JSON Serialization", W3C Member Submission 24 April 2013, sections 2 and 3: a document is an object of these
# members, each an object of records by identifier; a record's attributes are values, typed values, or lists of them.
QUALIFIED = "^[A-Za-z_][\\w.-]*:\\S+$"
VALUE = {
    "anyOf": [
        {"type": ["string", "number", "boolean"]},
        {
            "type": "object",
            "required": ["$"],
            "properties": {"$": {"type": "string"}, "type": {"type": "string"}, "lang": {"type": "string"}},
            "additionalProperties": False,
        },
    ]
}
ATTRIBUTES = {
    "type": "object",
    "propertyNames": {"pattern": QUALIFIED},
    "additionalProperties": {"anyOf": [VALUE, {"type": "array", "items": VALUE, "minItems": 2}]},
}


def relation(*required: str, optional: tuple[str, ...] = (), named: bool = False) -> dict[str, Any]:
    ends = {name: {"type": "string", "pattern": QUALIFIED} for name in (*required, *optional) if not name.endswith("ime")}
    times = {name: {"type": "string", "format": "date-time"} for name in (*required, *optional) if name.endswith("ime")}
    record = {**ATTRIBUTES, "required": list(required), "properties": {**ends, **times}}
    return {
        "type": "object",
        "propertyNames": {"pattern": QUALIFIED if named else "^(_:|[A-Za-z])"},
        "additionalProperties": record,
    }


PROV_JSON = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prefix", "entity", "activity", "agent"],
    "properties": {
        "prefix": {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}},
        "entity": relation(named=True),
        "activity": relation(optional=("prov:startTime", "prov:endTime"), named=True),
        "agent": relation(named=True),
        "wasGeneratedBy": relation("prov:entity", optional=("prov:activity", "prov:time")),
        "used": relation("prov:activity", optional=("prov:entity", "prov:time")),
        "wasDerivedFrom": relation("prov:generatedEntity", "prov:usedEntity", optional=("prov:activity",)),
        "wasAssociatedWith": relation("prov:activity", optional=("prov:agent", "prov:plan")),
    },
}


def test_prov_json_has_the_structure_of_the_submission(found: Lineage) -> None:
    document = json.loads(found.prov())
    jsonschema.Draft202012Validator(PROV_JSON, format_checker=jsonschema.FormatChecker()).validate(document)
    prefixes = set(document["prefix"]) | {"prov", "xsd"}
    for kind, records in document.items():
        if kind == "prefix":
            continue
        for name, record in records.items():
            used = [name, *(value for key, value in record.items() if key in ENDS)]
            assert {each.partition(":")[0] for each in used} <= prefixes | {"_"}
            for key, target in ENDS.items():
                if key in record:
                    assert record[key] in document[target], "a relation leads nowhere"


ENDS = {
    "prov:entity": "entity", "prov:activity": "activity", "prov:agent": "agent",
    "prov:generatedEntity": "entity", "prov:usedEntity": "entity",
}  # fmt: skip


def test_prov_reads_back_as_the_lineage(found: Lineage, study: SimpleNamespace) -> None:
    document = ProvDocument.deserialize(content=found.prov(), format="json")
    uris = {entity.identifier.uri for entity in document.get_records(ProvEntity)}
    files = {f"urn:emstore:file:sha256:{n:064x}" for n in range(3)}
    versions = {f"urn:emstore:version:{id_}" for id_ in found.nodes if id_ != study.weights.digest}
    assert uris == files | versions | {f"urn:emstore:weights:{study.weights.digest}"}
    derived = {
        (generated.uri, used.uri)
        for record in document.get_records(ProvDerivation)
        for (_, generated), (_, used), *_ in [record.formal_attributes]
    }
    expected = {(f"urn:emstore:version:{e.child}", _uri(e.parent, study)) for e in found.edges}
    assert {pair for pair in derived if ":file:" not in pair[1]} == expected
    steps = {activity.identifier.uri for activity in document.get_records(ProvActivity)}
    assert steps == {node.record["activity"]["id"] for node in found.nodes.values() if node.known}
    assert len(list(document.get_records(ProvGeneration))) == len(steps)
    roles = {str(value) for use in document.get_records(ProvUsage) for name, value in use.extra_attributes if "role" in str(name)}
    assert roles == {"image", "labels", "reference", "second", "lost", "model", "source"}
    agents = json.loads(found.prov())["agent"]
    assert agents == {
        "program:emstore@0.1.0": {
            "prov:type": {"$": "prov:SoftwareAgent", "type": "xsd:QName"},
            "prov:label": "emstore",
            "emstore:release": "0.1.0",
        }
    }


def _uri(id_: str, study: SimpleNamespace) -> str:
    return f"urn:emstore:{'weights' if id_ == study.weights.digest else 'version'}:{id_}"


# -- RO-Crate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def crate(found: Lineage, tmp_path: Path) -> Path:
    found.crate(tmp_path / "crate")
    return tmp_path / "crate"


def validated(crate: Path, profile: str, cache: Path) -> list[tuple[str, str]]:
    """Return (check, message) of whatever the official validator finds wrong, with its context shipped to its cache."""
    with CachedSession(str(cache), backend="sqlite") as session:
        request = CachedRequest(method="GET", url=CONTEXT_URL)
        kept = CachedResponse(
            content=CONTEXT.read_bytes(), status_code=200, url=CONTEXT_URL, headers={"Content-Type": "application/ld+json"},
            request=request,
        )  # fmt: skip
        session.cache.save_response(kept, session.cache.create_key(request))
        assert session.cache.contains(url=CONTEXT_URL)
    validator = Path(sys.executable).with_name("rocrate-validator")
    options = ["--offline", "--cache-path", str(cache), "--output-format", "json", "--no-paging"]
    done = subprocess.run(
        [validator, "validate", *options, "-p", profile, "-l", "required", str(crate)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] == (done.returncode == 0)
    return [(issue["check"]["identifier"], issue["message"]) for issue in report["issues"]]


def test_the_official_validator_finds_an_ro_crate_1_2(crate: Path, tmp_path: Path) -> None:
    assert validated(crate, "ro-crate-1.2", tmp_path / "http") == []


def test_the_official_validator_finds_a_process_run_crate(crate: Path, tmp_path: Path) -> None:
    """Its profile still builds on RO-Crate 1.1, so the one thing it misses is that the crate calls itself 1.1."""
    ((check, message),) = validated(crate, "process-run-crate", tmp_path / "http")
    assert check.startswith("ro-crate-1.1")
    assert "`conformsTo` property with the RO-Crate specification version" in message


def test_the_validator_sees_what_is_wrong(crate: Path, tmp_path: Path) -> None:
    file = crate / "ro-crate-metadata.json"
    document = json.loads(file.read_text())
    document["@graph"] = [{k: v for k, v in each.items() if k != "instrument"} for each in document["@graph"]]
    file.write_text(json.dumps(document))
    assert any("instrument" in message for _, message in validated(crate, "process-run-crate", tmp_path / "http"))


def test_a_crate_reads_back_as_the_lineage(crate: Path, found: Lineage, study: SimpleNamespace) -> None:
    document = json.loads((crate / "ro-crate-metadata.json").read_text())
    descriptor = next(each for each in document["@graph"] if each["@id"] == "ro-crate-metadata.json")
    assert descriptor["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.2"
    read = ROCrate(crate)
    actions = {each.id: each for each in read.contextual_entities if each.type == "CreateAction"}
    for node in found.nodes.values():
        if not node.known:
            continue
        action = actions.pop(node.record["activity"]["id"])
        assert action["result"].id.rstrip("/") == f"urn:emstore:version:{node.id}"
        used = action.get("object", [])
        used = {each.id.rstrip("/") for each in (used if isinstance(used, list) else [used])}
        expected = {_uri(edge.parent, study) for edge in found.inputs.get(node.id, ())}
        assert {each for each in used if ":version:" in each or ":weights:" in each} == expected
        assert {each for each in used if ":file:" in each} == {
            f"urn:emstore:file:{file['digest']}" for file in node.record["sources"]
        }
        record = json.loads((crate / "records" / f"{node.id.partition(':')[2]}.json").read_text())
        assert record["record"] == node.record
        assert record["id"] == node.id
    assert actions == {}
    assert json.loads((crate / "prov.json").read_text()) == json.loads(found.prov())
    assert (crate / "lineage.svg").read_text() == found.svg()
    parameters = {each["name"]: each["value"] for each in document["@graph"] if each["@type"] == "PropertyValue"}
    assert parameters == {"sigma": "1.5", "edge": "nearest", "axes": '["y"]', "mask": "null"}


def test_a_crate_never_goes_over_anything(found: Lineage, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(Conflict):
        found.crate(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("library", ["prov", "rocrate"])
def test_without_the_extra_it_says_what_to_install(
    found: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidInput) as refusal:
        found.crate(tmp_path / "crate")
    assert refusal.value.kind is Kind.MISSING_EXTRA
    assert "emstore[share]" in str(refusal.value.fix)
