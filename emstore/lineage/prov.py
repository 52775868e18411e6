"""A lineage as W3C PROV-JSON, for whoever asks where a figure comes from without having emstore.

After "PROV-DM: The PROV Data Model" (W3C Recommendation, 2013) and "The PROV-JSON Serialization" (W3C Member Submission,
2013). Versions, raw files and weights are entities; what was done is an activity that used some and generated one; programs
are software agents. Names are the digests and the UUIDs of the Records: no host, no user, no path.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from emstore.errors import InvalidInput, Kind
from emstore.lineage.graph import Lineage, refuse_many
from emstore.lineage.web import Node

if TYPE_CHECKING:
    from prov.model import ProvDocument

MOST: Final = 20_000
"""Versions in one document: the library holds it whole."""
SPACES: Final = {
    "emstore": "urn:emstore:terms:",
    "version": "urn:emstore:version:blake3:",
    "file": "urn:emstore:file:blake3:",
    "weights": "urn:emstore:weights:blake3:",
    "version-sha256": "urn:emstore:version:sha256:",
    "file-sha256": "urn:emstore:file:sha256:",
    "weights-sha256": "urn:emstore:weights:sha256:",
    "program": "urn:emstore:program:",
    "uuid": "urn:uuid:",
}


def prov(lineage: Lineage) -> str:
    """Return a lineage as a PROV-JSON text.

    Raises
    ------
    InvalidInput
        There is too much; kind ``missing_extra``: the library `prov` is not installed.
    """
    refuse_many(lineage, MOST, "PROV")
    try:
        from prov.model import ProvDocument
    except ImportError as error:
        fix = "pip install 'emstore[share]'"
        raise InvalidInput("PROV needs the library prov", fix=fix, kind=Kind.MISSING_EXTRA) from error
    document = ProvDocument()
    for prefix, uri in SPACES.items():
        document.add_namespace(prefix, uri)
    known = [node for node in lineage.nodes.values() if node.known]
    for node in lineage.nodes.values():
        kind = "emstore:Weights" if node.kind == "model" and not node.known else "emstore:Version"
        document.entity(name(node), _typed(document, kind, _described(node)))
    for source in {source["digest"]: source for node in known for source in node.record["sources"]}.values():
        facts = {"prov:label": source["name"], "emstore:bytes": source["size"], "emstore:format": source["format"]}
        document.entity(_file(source), _typed(document, "emstore:File", facts))
    for software in {_program(each): each for node in known for each in _programs(node)}.values():
        facts = {"prov:label": software["name"], "emstore:release": software["version"]}
        document.agent(_program(software), _typed(document, "prov:SoftwareAgent", facts))
    for node in known:
        _made(document, lineage, node)
    return str(document.serialize(format="json", indent=1))


def name(node: Node) -> str:
    """Return the qualified name of a version or of weights."""
    return _named("weights" if node.kind == "model" and not node.known else "version", node.id)


def _typed(document: "ProvDocument", kind: str, facts: Mapping[str, Any]) -> Any:
    return {"prov:type": document.valid_qualified_name(kind), **facts}


def _named(what: str, digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return f"{what}{'' if algorithm == 'blake3' else f'-{algorithm}'}:{digits}"


def _file(source: Mapping[str, Any]) -> str:
    return _named("file", source["digest"])


def _program(software: Mapping[str, Any]) -> str:
    return f"program:{software['name']}@{software['version']}"


def _programs(node: Node) -> list[Mapping[str, Any]]:
    record = node.record
    return list({_program(each): each for each in (*record["software"], record["agent"])}.values())


def _described(node: Node) -> dict[str, Any]:
    if not node.known:
        return {"prov:label": node.title}
    volume = node.seal["volume"]
    return {
        "prov:label": node.title,
        "emstore:store": node.store,
        "emstore:kind": node.kind,
        "emstore:shape": json.dumps(volume["shape"]),
        "emstore:dtype": volume["dtype"],
        "emstore:manifest": node.seal["manifest"],
    }


def _made(document: "ProvDocument", lineage: Lineage, node: Node) -> None:
    record, made = node.record, name(node)
    activity = record["activity"]
    step = f"uuid:{activity['id'].removeprefix('urn:uuid:')}"
    started, ended = (datetime.fromisoformat(activity[when]) for when in ("started", "ended"))
    facts = {
        "prov:type": document.valid_qualified_name(f"emstore:{activity['type']}"),
        "prov:label": f"{activity['type']} {activity['name']}",
        "emstore:params": json.dumps(record["params"], sort_keys=True),
        "emstore:params_digest": record["params_digest"],
        "emstore:deterministic": record["random"]["deterministic"],
        "emstore:environment": json.dumps(record["environment"], sort_keys=True),
    }
    document.activity(step, started, ended, facts)
    document.wasGeneratedBy(made, step, ended)
    inputs = [(name(lineage.nodes[edge.parent]), edge.role) for edge in lineage.inputs.get(node.id, ())]
    used = [*inputs, *((_file(source), "source") for source in record["sources"])]
    for what, role in used:
        document.used(step, what, other_attributes={"prov:role": role})
    for what in dict.fromkeys([what for what, _ in used]):  # once, though it may have been used in several roles
        document.wasDerivedFrom(made, what, step)
    for software in _programs(node):
        document.wasAssociatedWith(step, _program(software))
