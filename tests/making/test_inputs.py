"""What a processor may be given besides images: weights, by name or REF; tables; and any number of a last input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
import emstore_schemas
from command_line import call, result
from emstore import networks
from emstore.blocks.executors import Cluster, Executor, Processes, Threads
from emstore.errors import Damaged, InvalidInput, NotFound
from emstore.table import Column, Table
from emstore.weights import Weights
from sealed import seal_a_table, seal_some_weights


def learnt(mean: float = 2.5, architecture: str = "planted") -> Weights:
    return Weights("planted-two", architecture, {}, {"layer/mean": np.array([mean], "f4")}, "CC0-1.0")


@pytest.fixture
def model(lab: str) -> str:
    return seal_some_weights(learnt(), f"{lab}/nets/two").ref


def columns(lab: str, name: str, heights: list[float]) -> str:
    return seal_a_table(Table(name, {"y": Column(np.array(heights), "angstrom")}), f"{lab}/tables/{name}").ref


@pytest.mark.parametrize("executor", [Threads(2), Processes(2), Cluster("local:2")], ids=["threads", "processes", "cluster"])
def test_weights_by_ref(lab: str, crops: list[str], model: str, executor: Executor) -> None:
    made = emstore.process(
        "planted.add", crops[:1], f"{lab}/out/a", params={"weights": model.rpartition("/")[0]}, executor=executor, memory=4 << 30
    ).version
    np.testing.assert_array_equal(made.xarray()["image"], emstore.open(crops[0]).xarray()["image"] + np.float32(2.5))
    record = made.record
    assert [(i.role, i.ref, i.id, i.store) for i in record.inputs] == [
        ("image", "crops/training/v1", emstore.open(crops[0]).id, None),
        ("weights", "nets/two/v1", emstore.open(model).id, None),
    ]
    assert [(m.name, m.digest, m.licence) for m in record.models] == [("planted-two", learnt().digest, "CC0-1.0")]
    assert record.params["params"]["weights"] == "nets/two/v1"
    emstore_schemas.validate("record", record.model_dump(mode="json"))


def test_weights_of_another_store_are_cited_by_its_id_and_no_path(lab: str, crops: list[str], tmp_path: Path) -> None:
    other = emstore.create_store(str(tmp_path / "elsewhere.zarr"))
    model = seal_some_weights(learnt(), f"{other.url}/nets/two")
    made = emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": model.ref}).version
    assert [(i.role, i.ref, i.store) for i in made.record.inputs][1] == ("weights", "nets/two/v1", other.id)
    assert "elsewhere" not in json.dumps(made.document)
    assert str(tmp_path) not in json.dumps(made.document)
    found = result("reproduce", made.ref, "--store", other.url)
    assert found["identical"] is True


def test_the_same_weights_from_elsewhere_are_the_same(lab: str, crops: list[str], model: str) -> None:
    copy = seal_some_weights(learnt(), f"{lab}/nets/copy").ref
    first = emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": model})
    again = emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": copy})
    assert (first.created, again.created, again.version.id) == (True, False, first.version.id)
    other = seal_some_weights(learnt(3.5), f"{lab}/nets/copy").ref
    assert emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": other}).created


def test_shipped_weights(lab: str, crops: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "shipped_weights", {"planted-shipped": learnt(1.0)}.__getitem__)
    made = emstore.process("planted.add", crops[:1], f"{lab}/out/a").version
    np.testing.assert_array_equal(made.xarray()["image"], emstore.open(crops[0]).xarray()["image"] + np.float32(1))
    assert [i.role for i in made.record.inputs] == ["image"]
    assert [m.digest for m in made.record.models] == [learnt(1.0).digest]


def test_weights_that_do_not_fit_are_refused(lab: str, crops: list[str], model: str) -> None:
    strange = seal_some_weights(learnt(architecture="other"), f"{lab}/nets/other").ref
    cases: list[tuple[str, type[Exception], str]] = [
        (strange, InvalidInput, "for the network 'other', not for planted"),
        (crops[0], InvalidInput, "holds an image, not a model"),
        (f"{lab}/nets/nothing", NotFound, "nothing"),
        ("no-such-weights", NotFound, "no-such-weights"),
    ]
    for given, kind, words in cases:
        with pytest.raises(kind, match=words):
            emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": given})
    chunk = Path(lab, "nets/two/v1/s0/layer/mean/c/0")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(Damaged, match="layer/mean"):
        emstore.process("planted.add", crops[:1], f"{lab}/out/a", params={"weights": model})
    assert result("ls", lab)["versions"][-1]["ref"].startswith(f"{lab}/nets")


def test_lineage_goes_through_a_network(lab: str, crops: list[str], done: Path) -> None:
    model = emstore.train("planted.mean", crops, f"{lab}/nets/mean")
    made = result("process", "planted.add", crops[1], f"{lab}/out/denoised", "-p", f"weights={lab}/nets/mean")["versions"][0]
    up = call("lineage", made["ref"]).stdout
    for each in ("nets/mean/v1", "crops/training/v1", "crops/validation/v1"):
        assert each in up, up
    down = call("lineage", crops[0], "--down").stdout
    assert "nets/mean/v1" in down
    assert "out/denoised/v1" in down
    assert "out/denoised/v1" in call("lineage", model.ref, "--down").stdout
    digest = model.weights().digest
    assert [one["ref"] for one in result("find", f'model == "{digest}"', lab)["found"]] == [made["ref"]]
    assert [one["ref"] for one in result("find", 'made_with("nets/mean/v1")', lab)["found"]] == [made["ref"]]
    graph = result("lineage", made["ref"], "--format", "json")
    assert digest not in json.dumps([node.get("id") for node in graph["nodes"]])


def test_tables_alone(lab: str, crops: list[str]) -> None:
    refs = [columns(lab, "one", [1, 2, 3]), columns(lab, "two", [4.0])]
    for count in (2, 1):
        made = emstore.process("planted.tally", refs[:count], f"{lab}/out/tally").version
        assert made.table().columns["rows"].values.tolist() == [3, 1][:count]
        assert [(i.role, i.ref) for i in made.record.inputs] == [
            ("columns", f"tables/{name}/v1") for name in ("one", "two")[:count]
        ]
        assert not emstore.process("planted.tally", refs[:count], f"{lab}/out/tally").created
        assert result("reproduce", made.ref)["identical"] is True
    with pytest.raises(InvalidInput, match="1 or more inputs"):
        emstore.process("planted.tally", [], f"{lab}/out/tally")


@pytest.mark.parametrize(("executor", "counts"), [(Threads(2), (1, 3)), (Processes(2), (2,))], ids=["threads", "processes"])
def test_images_and_a_table_and_any_number_of_others(
    lab: str, crops: list[str], executor: Executor, counts: tuple[int, ...]
) -> None:
    table = columns(lab, "one", [1, 2, 3])
    image = emstore.open(crops[0]).xarray()["image"].values
    for count in counts:
        others = [crops[0]] * count
        made = emstore.process("planted.marked", [crops[0], table, *others], f"{lab}/out/m", executor=executor).version
        np.testing.assert_allclose(made.xarray()["image"], image * (1 + len(others)) + 6, rtol=1e-6)
        assert [i.role for i in made.record.inputs] == ["image", "columns", *["others"] * len(others)]
    with pytest.raises(InvalidInput, match=r"3 or more inputs \(image, columns, others \.\.\.\), not 2"):
        emstore.process("planted.marked", [crops[0], table], f"{lab}/out/m")
    for wrong in ([table, table, crops[0]], [crops[0], table, table]):
        with pytest.raises(InvalidInput, match="does not read as its"):
            emstore.process("planted.marked", wrong, f"{lab}/out/m")
    with pytest.raises(InvalidInput, match="does not read as its image"):
        emstore.process("denoise.gaussian", [table], f"{lab}/out/m", params={"sigma": 1})


def test_a_recipe_of_all_these(lab: str, crops: list[str], model: str, tmp_path: Path) -> None:
    recipe = tmp_path / "all.toml"
    recipe.write_text(
        f"""
        inputs = ["image"]
        [steps.added]
        processor = "planted.add"
        inputs = ["image"]
        params = {{ weights = "{model}" }}
        [steps.figures]
        processor = "measure.statistics"
        inputs = ["added"]
        [steps.tally]
        processor = "planted.tally"
        inputs = ["figures", "figures"]
        """
    )
    made = result("process", recipe, crops[0], f"{lab}/run")["versions"]
    assert [one["step"] for one in made] == ["added", "figures", "tally"]
    tally = emstore.open(made[2]["ref"])
    rows = emstore.open(made[1]["ref"]).table().rows
    assert tally.table().columns["rows"].values.tolist() == [rows, rows]
    recipe.write_text(
        recipe.read_text().replace(
            '"planted.tally"\n        inputs = ["figures", "figures"]', '"planted.tally"\n        inputs = []'
        )
    )
    assert "1 or more inputs" in str(result("process", recipe, crops[0], f"{lab}/run", code=2)["what"])


def listed(name: str) -> dict[str, Any]:
    return next(one for one in result("processors")["processors"] if one["name"] == name)


def test_the_list_shows_what_they_take() -> None:
    assert listed("planted.marked")["inputs"] == ["image", "columns", "others*"]
    assert "columns ..." in call("processors", "planted.tally").stdout
