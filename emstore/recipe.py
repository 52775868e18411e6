"""Recipes: several steps of processing, written down in one TOML or YAML file.

    name = "porosity"
    inputs = ["scan"]                   # the REFs given with the recipe, in this order

    [steps.smooth]
    processor = "denoise.gaussian"
    inputs = ["scan"]                   # an input, another step, or a REF
    params = { sigma = 1.5 }

    [steps.mask]
    processor = "segment.otsu"
    inputs = ["smooth"]
    output = "pores"                    # name of the array; the step's own when left out

A recipe is checked whole, down to what every step would plan for what the steps before it promise, before anything runs.
Then each step is one call of `emstore.processing.process`: a finished identical one is used again, so a recipe resumes.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from emstore import registry
from emstore.arguments import check_count, checked, roles
from emstore.blocks.compute import CPU
from emstore.blocks.executors import Executor
from emstore.blocks.weights import used
from emstore.errors import EmstoreError, InvalidInput, Kind, NotFound
from emstore.events import Listener, silent
from emstore.processing import DEFAULT_MEMORY, Processed, check_fits, operation_of, process, promised
from emstore.provenance.record import Step
from emstore.store import Version, canonical, digest, open_version, resolve
from emstore.store.layout import check_name
from emstore.table import Table
from emstore.volume import Volume

LARGEST: Final = 1 << 18
"""Longest file that is read as a recipe, bytes."""
DEEPEST: Final = 32
"""Most brackets within brackets of a YAML file: its reader gets slow on many."""
TOML: Final = (".toml",)
YAML: Final = (".yaml", ".yml")


class _StepModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    processor: str
    inputs: list[str]
    params: dict[str, Any] = Field(default_factory=dict)
    output: str | None = None


class _FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(None, pattern=r"^[^/\\\x00]+$", max_length=255)
    inputs: list[str] = Field(default_factory=list)
    steps: dict[str, _StepModel] = Field(min_length=1)


@dataclass(frozen=True)
class RecipeStep:
    """One step."""

    name: str
    processor: str
    inputs: tuple[str, ...]
    """Each the name of an input or of another step, or a REF."""
    params: Mapping[str, Any]
    output: str
    """Name of the array it makes."""


@dataclass(frozen=True)
class Recipe:
    """Steps of processing, each after those it needs."""

    name: str
    inputs: tuple[str, ...]
    steps: tuple[RecipeStep, ...]
    file: str
    """Base name of the file it was read from."""
    text: str

    @cached_property
    def digest(self) -> str:
        """``blake3:hex`` of all that it says; comments, layout and the order of steps do not count."""
        steps = {
            step.name: {
                "processor": step.processor,
                "inputs": list(step.inputs),
                "params": to_jsonable_python(dict(step.params)),
                "output": step.output,
            }
            for step in self.steps
        }
        return digest(canonical({"name": self.name, "inputs": list(self.inputs), "steps": steps}))

    def where(self, step: str, word: str | None = None) -> str:
        """Return where a step stands, and in it the first line with a word, as far as the text tells."""
        line = _line(self.text, step, word)
        return f"{self.file}, {'' if line is None else f'line {line}, '}step {step!r}"


@dataclass(frozen=True)
class StepDone:
    """What became of a step."""

    step: str
    version: Version
    created: bool
    """``False`` when exactly this had been made before."""


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe's file and not of a processor."""
    return name.lower().endswith((*TOML, *YAML))


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe and check what can be checked without its inputs.

    Raises
    ------
    NotFound
        There is no such file, or no such processor.
    InvalidInput
        It is no recipe, or makes no sense; says what, in which line and step.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST:
            raise InvalidInput("it is too long for a recipe", where=file.name)
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("it is not text in UTF-8", where=file.name) from error
    except OSError as error:
        raise NotFound(f"the recipe cannot be read: {error.strerror}", where=str(path)) from error
    content = _parse_yaml(text, file.name) if file.name.lower().endswith(YAML) else _parse_toml(text, file.name)
    try:
        told = _FileModel.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(
            "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the file'}: {_words(each)}" for each in error.errors()),
            where=file.name,
            fix="a recipe has name, inputs and steps; a step has processor, inputs, params and output",
        ) from None
    steps = {
        name: RecipeStep(name, step.processor, tuple(step.inputs), step.params, name if step.output is None else step.output)
        for name, step in told.steps.items()
    }
    recipe = Recipe(told.name or file.stem, tuple(told.inputs), tuple(steps.values()), file.name, text)
    _check_names(recipe)
    order = _order(recipe)
    _check_use(recipe)
    return Recipe(recipe.name, recipe.inputs, tuple(steps[name] for name in order), file.name, text)


def run_recipe(
    recipe: Recipe,
    inputs: Sequence[str],
    target: str,
    *,
    memory: int = DEFAULT_MEMORY,
    executor: Executor | None = None,
    device: str = CPU,
    pyramid: bool = True,
    again: bool = False,
    listener: Listener = silent,
) -> list[StepDone]:
    """Carry out a recipe.

    Parameters
    ----------
    recipe : Recipe
        From `read_recipe`.
    inputs : sequence of str
        One REF per input of the recipe, in its order.
    target : str
        ``STORE/DATASET``; every step makes a version of the array it names there.
    memory, executor, device, pyramid, again, listener
        As in `emstore.processing.process`, for every step.

    Returns
    -------
    list of StepDone
        In the order in which they were done.

    Raises
    ------
    EmstoreError
        As `emstore.processing.process`. What is wrong with the recipe is found before its first step begins.
    """
    store, place = resolve(target)
    if place.dataset is None or place.array is not None:
        raise InvalidInput("the target of a recipe must be STORE/DATASET", where=target, kind=Kind.BAD_REF)
    if len(inputs) != len(recipe.inputs):
        needed = f"{len(recipe.inputs)} input{'s' * (len(recipe.inputs) != 1)} ({', '.join(recipe.inputs) or 'none'})"
        raise InvalidInput(f"it takes {needed}, not {len(inputs)}", where=recipe.file)
    # The versions are settled once: what is sealed meanwhile does not get between two steps.
    given = {name: open_version(ref) for name, ref in zip(recipe.inputs, inputs, strict=True)}
    for step in recipe.steps:
        for name in step.inputs:
            if "/" in name and name not in given:
                with _at(recipe.where(step.name, name)):
                    given[name] = open_version(name)
    _rehearse(recipe, given, memory=memory, pyramid=pyramid)
    done: list[StepDone] = []
    for step in recipe.steps:
        made: Processed = process(
            step.processor,
            [given[name].ref for name in step.inputs],
            f"{store.url}/{place.dataset}/{step.output}",
            params=step.params,
            memory=memory,
            executor=executor,
            device=device,
            pyramid=pyramid,
            again=again,
            step=Step(recipe=recipe.name, digest=recipe.digest, name=step.name),
            listener=listener,
        )
        given[step.name] = made.version
        done.append(StepDone(step.name, made.version, made.created))
    return done


def _check_names(recipe: Recipe) -> None:
    """Check names, processors and parameters: everything but the order of the steps."""
    steps = {step.name for step in recipe.steps}
    for name in recipe.inputs:
        if "/" in name or not name or name in steps or recipe.inputs.count(name) > 1:
            raise InvalidInput(
                f"an input cannot be called {name!r}",
                where=recipe.file,
                fix="give every input and step a name of its own, without a /",
                kind=Kind.BAD_NAME,
            )
    known = sorted({*steps, *recipe.inputs})
    makers: dict[str, str] = {}
    for step in recipe.steps:
        with _at(recipe.where(step.name, "output")):
            check_name(step.output, "array")
            if (other := makers.setdefault(step.output, step.name)) != step.name:
                raise InvalidInput(
                    f"the step {other!r} makes the array {step.output!r}, too", fix="give one of them another output"
                )
        with _at(recipe.where(step.name)):
            if "/" in step.name:
                raise InvalidInput("a step's name must not hold a /", kind=Kind.BAD_NAME)
            for name in step.inputs:
                if "/" not in name and name not in known:
                    raise InvalidInput(
                        f"there is no step or input {name!r}", fix=f"there are {', '.join(known)}; a REF is STORE/DATASET/ARRAY"
                    )
        with _at(recipe.where(step.name, "processor")):
            processor = registry.processor(step.processor)
            check_count(processor, len(step.inputs))
        with _at(recipe.where(step.name, "params")):
            checked(processor, step.params)


def _check_use(recipe: Recipe) -> None:
    """Refuse inputs that nothing takes, and what no digest can be made of."""
    unused = set(recipe.inputs) - {name for step in recipe.steps for name in step.inputs}
    if unused:
        raise InvalidInput(f"no step takes the input {', '.join(sorted(unused))}", where=recipe.file)
    try:
        assert recipe.digest
    except ValueError as error:
        raise InvalidInput("a parameter is not a finite value", where=recipe.file) from error


def _order(recipe: Recipe) -> list[str]:
    """Return the names of the steps, each after those it needs, otherwise as they stand in the file."""
    names = {step.name for step in recipe.steps}
    needs = {step.name: names & set(step.inputs) for step in recipe.steps}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = [str(name) for name in error.args[1]]
        raise InvalidInput(
            f"the steps {' -> '.join(circle)} wait for each other",
            where=recipe.where(circle[0]),
            fix="let one of them take another",
        ) from None
    order: list[str] = []
    while len(order) < len(needs):
        order.append(next(name for name in needs if name not in order and needs[name] <= set(order)))
    return order


def _rehearse(recipe: Recipe, given: Mapping[str, Version], *, memory: int, pyramid: bool) -> None:
    """Plan every step for what it will be given, so that no hour of work goes before an error that could be known."""
    known: dict[str, Volume | Version | _Later] = {name: v if v.is_table else v.volume() for name, v in given.items()}
    for step in recipe.steps:
        processor = registry.processor(step.processor)
        with _at(recipe.where(step.name)):
            taken: list[Volume | Table] = []
            later = False
            for role, name in zip(roles(processor, len(step.inputs)), step.inputs, strict=True):
                each = known[name]
                if isinstance(each, Version | _Later) and each is not _Later.ANYTHING:
                    if role not in getattr(processor, "tables", ()):
                        raise InvalidInput(
                            f"{name!r} is a table, which {processor.name} does not read as its {role}",
                            fix="take what it was measured on",
                        )
                if isinstance(each, _Later):
                    later = True
                else:
                    taken.append(each.table() if isinstance(each, Version) else each)
            params = checked(processor, step.params)
            weights = used(processor, params)
            if later:  # what it makes of a table that is not there yet cannot be known
                known[step.name] = _Later.ANYTHING if any(_read_by_block(known[name]) for name in step.inputs) else _Later.TABLE
                continue
            operation = operation_of(processor, taken, params, weights)
            volumes = tuple(each for each in taken if isinstance(each, Volume))
            if volumes:
                check_fits(operation, volumes, memory=memory, pyramid=pyramid)
            known[step.name] = _Later.TABLE if operation.result is None else promised(operation, operation.result, volumes)


class _Later(Enum):
    """What is not made yet, so that what is made of it cannot be planned."""

    TABLE = "a table"
    ANYTHING = "a table or an image"


def _read_by_block(each: "Volume | Version | _Later") -> bool:
    return isinstance(each, Volume) or each is _Later.ANYTHING


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Say of an error where in the recipe it is."""
    try:
        yield
    except EmstoreError as error:
        error.where = where if error.where is None else f"{where}: {error.where}"
        raise


def _parse_toml(text: str, file: str) -> Any:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is not TOML: {error}", where=file) from None


def _parse_yaml(text: str, file: str) -> Any:
    """Read YAML safely: no tags that make objects, no aliases (few of which can stand for gigabytes), no key twice."""
    import yaml

    def refuse(what: str, mark: Any) -> InvalidInput:
        return InvalidInput(what, where=f"{file}, line {mark.line + 1}" if mark is not None else file)

    def check(node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1:
                    raise refuse(f"{key.value!r} is there twice", key.start_mark)
                check(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                check(value)

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise refuse("it is not YAML for a recipe: nested too deep", event.start_mark)
            if isinstance(event, yaml.AliasEvent):
                raise refuse("aliases (*name) are not for recipes", event.start_mark)
        check(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise refuse(f"it is not YAML: {error.problem or error.context}", error.problem_mark) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"it is not YAML: {error}", where=file) from None


def _line(text: str, step: str, word: str | None) -> int | None:
    """Return the number of the line in which a step begins, or of the first one after it with a word; ``None`` if not found."""
    quoted = rf"[\"']?{re.escape(step)}[\"']?"
    begins = re.compile(rf"\s*\[\s*steps\s*\.\s*{quoted}\s*[\].]|\s+{quoted}\s*:")
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if begins.match(line)), None)
    if start is None:
        return None
    if word is not None:
        for number in range(start, len(lines)):
            if number > start and re.match(r"\s*\[\s*steps\s*\.", lines[number]):
                break
            if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", lines[number]):
                return number + 1
    return start + 1


def _words(error: Mapping[str, Any]) -> str:
    return {"extra_forbidden": "there is no such key", "missing": "it is missing"}.get(error["type"], str(error["msg"]))
