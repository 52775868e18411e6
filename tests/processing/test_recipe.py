"""Recipes: done in the right order, used again, checked whole before anything runs, told in every step's Record."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import emstore
from emstore.errors import EmstoreError, InvalidInput, NotFound
from emstore.geometry import Axis
from emstore.recipe import Recipe, read_recipe, run_recipe
from sealed import seal, volume

VALUES = np.random.default_rng(3).integers(0, 255, (12, 20, 24)).astype(np.uint8)

TOML = """
name = "pores"
inputs = ["scan"]

[steps.mask]
processor = "segment.threshold"
inputs = ["smooth"]
params = { thresholds = [128.0] }
output = "pores"

[steps.smooth]
processor = "denoise.gaussian"
inputs = ["scan"]
params.sigma = 1.5
params.dtype = "float64"
"""

YAML = """
name: pores
inputs: [scan]
steps:
  smooth:
    processor: denoise.gaussian
    inputs: [scan]
    params: {sigma: 1.5, dtype: float64}
  mask:
    processor: segment.threshold
    inputs: [smooth]
    params: {thresholds: [128.0]}
    output: pores
"""


@pytest.fixture
def scan(lab: str) -> str:
    axes = [Axis(name, size, spacing=2.0, unit="nanometer") for name, size in zip("zyx", VALUES.shape, strict=True)]
    return seal(volume("scan", VALUES, *axes), f"{lab}/em/scan").ref


def written(folder: Path, text: str, name: str = "pores.toml") -> Recipe:
    (folder / name).write_text(text)
    return read_recipe(folder / name)


def arrays(lab: str) -> list[str]:
    return sorted(path.parent.relative_to(lab).as_posix() for path in Path(lab).glob("*/*/v*/zarr.json"))


@pytest.mark.parametrize(("text", "name"), [(TOML, "pores.toml"), (YAML, "pores.yaml")])
def test_steps_are_done_in_order_and_used_again(tmp_path: Path, lab: str, scan: str, text: str, name: str) -> None:
    recipe = written(tmp_path, text, name)
    assert [step.name for step in recipe.steps] == ["smooth", "mask"]
    first = run_recipe(recipe, [scan], f"{lab}/work")
    assert [(each.step, str(each.version.place), each.created) for each in first] == [
        ("smooth", "work/smooth/v1", True),
        ("mask", "work/pores/v1", True),
    ]
    smooth = ndimage.gaussian_filter(VALUES.astype(float), 1.5)
    np.testing.assert_array_equal(first[1].version.xarray()["image"].values > 0, smooth >= 128)
    again = run_recipe(recipe, [scan], f"{lab}/work")
    assert [(each.version.id, each.created) for each in again] == [(each.version.id, False) for each in first]
    assert all(each.created for each in run_recipe(recipe, [scan], f"{lab}/work", again=True))


def test_every_record_says_which_step_of_which_recipe_it_was(tmp_path: Path, lab: str, scan: str) -> None:
    recipe = written(tmp_path, TOML)
    smooth, mask = run_recipe(recipe, [scan], f"{lab}/work")
    for done in (smooth, mask):
        step = emstore.open(done.version.ref).record.step
        assert step is not None
        assert (step.recipe, step.name, step.digest) == ("pores", done.step, recipe.digest)
    assert mask.version.record.inputs[0].id == smooth.version.id


def test_the_digest_is_of_what_a_recipe_says(tmp_path: Path) -> None:
    one = written(tmp_path, TOML).digest
    assert written(tmp_path, YAML, "other.yml").digest == one
    assert written(tmp_path, f"# a remark\n{TOML}").digest == one
    assert written(tmp_path, TOML.replace("1.5", "1.6")).digest != one
    assert written(tmp_path, TOML.replace('"pores"\ninputs', '"holes"\ninputs')).digest != one


def test_a_step_that_fails_keeps_those_before_it(tmp_path: Path, lab: str, scan: str) -> None:
    # The planted fault is in the values, which no check beforehand can see.
    text = TOML.replace('"segment.threshold"', '"engine.fault"').replace("{ thresholds = [128.0] }", '{ fault = "raise" }')
    recipe = written(tmp_path, text)
    with pytest.raises(EmstoreError, match="a planted fault"):
        run_recipe(recipe, [scan], f"{lab}/work")
    assert arrays(lab) == ["em/scan/v1", "work/smooth/v1"]
    with pytest.raises(EmstoreError, match="a planted fault"):
        run_recipe(recipe, [scan], f"{lab}/work")
    assert arrays(lab) == ["em/scan/v1", "work/smooth/v1"]


@pytest.mark.parametrize(
    ("before", "after", "said", "line"),
    [
        ("segment.threshold", "segment.treshold", "there is no processor 'segment.treshold'", 6),
        ('inputs = ["smooth"]', 'inputs = ["smoth"]', "there is no step or input 'smoth'", 5),
        ('inputs = ["smooth"]', 'inputs = ["smooth", "scan"]', "it takes 1 input", 6),
        ("thresholds =", "treshold =", "treshold: there is no such parameter", 8),
        ("params.sigma = 1.5", 'params.sigma = "wide"', "sigma", 14),
        ('output = "pores"', 'output = "smooth"', "makes the array 'smooth'", 11),
        ('output = "pores"', 'output = "Pores!"', "cannot name a array", 9),
        ('inputs = ["scan"]\nparams.sigma', 'inputs = ["mask"]\nparams.sigma', "wait for each other", None),
        ("[steps.mask]", "[steps.mask", "it is not TOML", 5),
        ('output = "pores"', 'outputs = "pores"', "steps.mask.outputs: there is no such key", None),
        ('processor = "denoise.gaussian"\n', "", "steps.smooth.processor: it is missing", None),
        ('inputs = ["scan"]\n\n', 'inputs = ["scan", "other"]\n\n', "no step takes the input other", None),
        ('inputs = ["scan"]\n\n', 'inputs = ["scan", "mask"]\n\n', "an input cannot be called 'mask'", None),
        ('name = "pores"', 'name = "/a/b"', "name", None),
        ("params.sigma = 1.5", "params.sigma = nan", "sigma", 14),
    ],
)
def test_what_makes_no_sense_is_named_with_its_line(tmp_path: Path, before: str, after: str, said: str, line: int | None) -> None:
    assert before in TOML
    with pytest.raises((InvalidInput, NotFound)) as caught:
        written(tmp_path, TOML.replace(before, after, 1))
    assert said in str(caught.value)
    assert "pores.toml" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    if line is not None:
        assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YAML.replace("  mask:", "  smooth:"), "'smooth' is there twice"),
        (YAML.replace("inputs: [scan]\nsteps", "inputs: &a [scan]\nother: *a\nsteps"), "aliases"),
        (YAML.replace("{sigma: 1.5", "!!python/object/apply:os.getcwd {sigma: 1.5"), "not YAML"),
        ("steps: [", "not YAML"),
        ("just words", "the file"),
        ("", "the file"),
        ("[" * 100_000, "nested too deep"),
        ("a: 1\x00", "not YAML"),
    ],
)
def test_yaml_is_read_safely(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        written(tmp_path, text, "bad.yaml")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_recipe(tmp_path / "binary.toml")
    (tmp_path / "long.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(InvalidInput, match="too long"):
        read_recipe(tmp_path / "long.toml")


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        # The second step would only fail once the first is done: everything is planned before.
        (("{ thresholds = [128.0] }", "{ thresholds = [128.0], per = 1 }"), {}, "per"),
        (('processor = "segment.threshold"', 'processor = "interpolate.linear"'), {}, "no axis 'w'"),
        (("", ""), {"memory": 1 << 20}, "memory"),
    ],
)
def test_nothing_runs_where_a_later_step_cannot(
    tmp_path: Path, lab: str, scan: str, change: tuple[str, str], options: dict[str, int], said: str
) -> None:
    text = TOML.replace(*change)
    if "interpolate.linear" in text:
        text = text.replace("{ thresholds = [128.0] }", '{ axis = "w", factor = 2 }')
    with pytest.raises(EmstoreError, match=said):
        run_recipe(written(tmp_path, text), [scan], f"{lab}/work", **options)  # type: ignore[arg-type]
    assert arrays(lab) == ["em/scan/v1"]


def test_a_table_feeds_no_step(tmp_path: Path, lab: str, scan: str) -> None:
    text = TOML.replace('"denoise.gaussian"', '"measure.statistics"').replace('params.sigma = 1.5\nparams.dtype = "float64"', "")
    with pytest.raises(InvalidInput, match="'smooth' is a table"):
        run_recipe(written(tmp_path, text), [scan], f"{lab}/work")
    assert arrays(lab) == ["em/scan/v1"]


def test_refs_inside_and_targets(tmp_path: Path, lab: str, scan: str) -> None:
    inside = TOML.replace('inputs = ["scan"]\n\n', "inputs = []\n\n").replace('inputs = ["scan"]', f'inputs = ["{scan}"]')
    assert len(run_recipe(written(tmp_path, inside), [], f"{lab}/work")) == 2
    recipe = written(tmp_path, TOML)
    for inputs, target, said in [
        ([], f"{lab}/work", r"it takes 1 input \(scan\), not 0"),
        ([scan, scan], f"{lab}/work", "not 2"),
        ([scan], f"{lab}/work/array", "STORE/DATASET"),
        ([scan], lab, "STORE/DATASET"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            run_recipe(recipe, inputs, target)
    with pytest.raises(NotFound):
        run_recipe(recipe, [f"{lab}/em/nothing"], f"{lab}/work")
