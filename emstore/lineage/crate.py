"""A lineage as an RO-Crate, for repositories and workflow tools: a folder that tells how every version came to be.

After RO-Crate 1.2 (https://w3id.org/ro/crate/1.2) and the Process Run Crate profile 0.5
(https://w3id.org/ro/wfrun/process/0.5): every version is a Dataset and every step a CreateAction. The crate holds the Records,
the picture and the PROV document; the voxels stay in their stores, so versions and raw files are named by URNs of their
digests.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from emstore.errors import Conflict, InvalidInput, Kind
from emstore.lineage import prov
from emstore.lineage.graph import Lineage, refuse_many
from emstore.lineage.records import settings
from emstore.lineage.svg import MOST, svg
from emstore.lineage.tree import short
from emstore.lineage.web import Node

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
FORMAT: Final = "https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html"
DONE: Final = "http://schema.org/CompletedActionStatus"


def crate(lineage: Lineage, folder: Path) -> None:
    """Write a lineage as an RO-Crate into a new or empty folder.

    Raises
    ------
    Conflict
        There is something in the folder.
    InvalidInput
        There is too much; kind ``missing_extra``: the library `rocrate` is not installed.
    """
    refuse_many(lineage, prov.MOST, "an RO-Crate")
    try:
        from rocrate.model import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        fix = "pip install 'emstore[share]'"
        raise InvalidInput("an RO-Crate needs the library rocrate", fix=fix, kind=Kind.MISSING_EXTRA) from error
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("there is something already", where=str(folder), fix="name a new folder")
    root = lineage.nodes[lineage.root]
    made = ROCrate(version="1.2")
    made.name = f"Lineage of {root.title}"
    made.description = f"How {root.title} ({root.id}) came to be: versions, steps, programs and raw files, by their digests."
    if root.known:
        made.datePublished = root.record["activity"]["ended"]
    made.license = made.add(
        ContextEntity(
            made,
            "#licence",
            properties={
                "@type": "CreativeWork",
                "name": "No licence stated",
                "description": "The store states no licence for these data; ask whoever gave you this crate.",
            },
        )
    )
    profile = {"@type": ["CreativeWork", "Profile"], "name": "Process Run Crate", "version": "0.5"}
    made.root_dataset["conformsTo"] = made.add(ContextEntity(made, PROFILE, properties=profile))
    _Writer(made, lineage).write()
    folder.mkdir(parents=True, exist_ok=True)
    made.write(folder)


class _Writer:
    """Puts the entities of one crate together."""

    def __init__(self, made: "ROCrate", lineage: Lineage) -> None:
        self.made = made
        self.lineage = lineage

    def write(self) -> None:
        lineage = self.lineage
        versions = {node.id: self.version(node) for node in lineage.nodes.values()}
        actions = [self.action(node, versions) for node in lineage.nodes.values() if node.known]
        if actions:
            self.made.root_dataset["mentions"] = _one_or_more(actions)
        self.document("prov.json", prov.prov(lineage), "application/json", "The lineage as W3C PROV-JSON")
        if len(lineage.nodes) <= MOST:
            self.document("lineage.svg", svg(lineage), "image/svg+xml", "The lineage as a picture")

    def document(self, name: str, text: str, media: str, description: str) -> Any:
        """Add a text as a file of the crate."""
        from io import StringIO

        properties = {"name": name, "description": description, "encodingFormat": media, "contentSize": str(len(text.encode()))}
        return self.made.add_file(StringIO(text), name, properties=properties)

    def context(self, id_: str, **properties: Any) -> Any:
        """Add an entity about something, once."""
        from rocrate.model import ContextEntity

        found = self.made.get(id_)
        return found if found is not None else self.made.add(ContextEntity(self.made, id_, properties=properties))

    def version(self, node: Node) -> Any:
        """Add a version, or weights, with its Record."""
        if not node.known:
            what = "weights" if node.kind == "model" else "version"
            unseen = {"name": node.title, "description": f"{what.capitalize()} that the crate's maker could not see."}
            return self.dataset(f"urn:emstore:{what}:{node.id}", unseen)
        volume = node.seal["volume"]
        shape = " x ".join(map(str, volume["shape"]))
        text = json.dumps({"id": node.id, "store": node.store, "ref": node.ref, "record": node.record}, indent=1)
        file = f"records/{node.id.partition(':')[2]}.json"
        record = self.document(file, text, "application/json", f"The Record of {node.title}")
        properties: dict[str, Any] = {
            "name": node.title,
            "description": f"{volume['name']}: {node.kind} of {shape}, {volume['dtype']}",
            "identifier": node.id,
            "dateCreated": node.record["activity"]["ended"],
            "encodingFormat": FORMAT,
            "subjectOf": {"@id": record.id},
        }
        return self.dataset(f"urn:emstore:version:{node.id}", properties)

    def dataset(self, id_: str, properties: dict[str, Any]) -> Any:
        """Add data that are elsewhere."""
        from rocrate.model import DataEntity

        return self.made.add(DataEntity(self.made, id_, properties={"@type": "Dataset", **properties}))

    def file(self, source: dict[str, Any]) -> Any:
        """Add a raw file that is elsewhere."""
        from rocrate.model import DataEntity

        id_ = f"urn:emstore:file:{source['digest']}"
        found = self.made.get(id_)
        if found is not None:
            return found
        properties = {
            "@type": "File",
            "name": source["name"],
            "identifier": source["digest"],
            "contentSize": str(source["size"]),
            "encodingFormat": source["format"],
        }
        return self.made.add(DataEntity(self.made, id_, properties=properties))

    def program(self, software: dict[str, Any]) -> Any:
        """Add a program."""
        id_ = f"urn:emstore:program:{software['name']}@{software['version']}"
        properties: dict[str, Any] = {
            "@type": "SoftwareApplication",
            "name": software["name"],
            "version": software["version"],
            "url": {"@id": id_},
        }
        return self.context(id_, **properties)

    def action(self, node: Node, versions: dict[str, Any]) -> Any:
        """Add the step that made a version."""
        record = node.record
        activity = record["activity"]
        inputs = {used.parent: versions[used.parent] for used in self.lineage.inputs.get(node.id, ())}
        params = [
            self.context(
                f"#{short(node.id).partition(':')[2]}-{name}",
                **{"@type": "PropertyValue", "name": name, "value": value if isinstance(value, str) else json.dumps(value)},
            )
            for name, value in settings(record).items()
        ]
        return self.context(
            activity["id"],
            **{
                "@type": "CreateAction",
                "name": f"{activity['type']} {activity['name']}",
                "description": f"{activity['type']} {activity['name']} made {node.title}",
                "startTime": activity["started"],
                "endTime": activity["ended"],
                "actionStatus": DONE,
                "instrument": _one_or_more([self.program(each) for each in record["software"]]),
                "object": _one_or_more([*inputs.values(), *(self.file(each) for each in record["sources"]), *params]),
                "result": versions[node.id],
            },
        )


def _one_or_more(values: list[Any]) -> Any:
    """Return a single value as it is, which the compact form of JSON-LD asks for."""
    return values[0] if len(values) == 1 else values
