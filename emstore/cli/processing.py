"""The verbs ``process``, ``processors`` and ``reproduce``: new versions from others, and from the Record of one."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.plugins import NameArgument, show
from emstore.cli.sources import MemoryOption, PyramidOption

if TYPE_CHECKING:
    from emstore.blocks.executors import Executor
    from emstore.cli.output import Output
    from emstore.store import Version

ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="KEY=VALUE", help="A parameter: a number, true, a [list], or text. Repeat for more."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto for the GPU where that can be used.")]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster: tcp://HOST:PORT, or local:N.")
]
ProcessesOption = Annotated[int | None, typer.Option("--processes", min=1, help="Work in so many processes of this machine.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Work in so many threads; one per core by default.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Make a new version even if exactly this is there.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("process")(process)
    app.command("processors")(processors)
    app.command("reproduce")(reproduce)


def process(
    name: Annotated[
        str, typer.Argument(metavar="NAME|RECIPE", help="A processor (see `emstore processors`), or a .toml or .yaml.")
    ],
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="REF...", help="The versions to read, in the order it takes them.")
    ] = None,
    *,
    target: Annotated[
        str, typer.Argument(metavar="STORE/DATASET[/ARRAY]", help="Where the new version goes; of a recipe, the dataset.")
    ],
    param: ParamOption = None,
    device: DeviceOption = "cpu",
    cluster: ClusterOption = None,
    processes: ProcessesOption = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = "1GiB",
    pyramid: PyramidOption = True,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new version from others, by a processor or a recipe of several. Stopped or killed, the same command resumes."""
    with command(as_json) as out:
        from emstore.errors import InvalidInput

        budget, params = text.parse_size(memory), parameters(param or [])
        executor = _executor(cluster, processes, threads)
        from emstore import processing, recipe

        how: dict[str, Any] = {
            "memory": budget,
            "executor": executor,
            "device": device,
            "pyramid": pyramid,
            "again": again,
            "listener": out.listener,
        }
        if recipe.is_recipe(name):
            if params:
                raise InvalidInput("a recipe holds its parameters itself", where="-p", fix=f"write them into {name}")
            found = recipe.read_recipe(name)
            steps = recipe.run_recipe(found, inputs or [], target, **how)
            done = [{**made(one.version, one.created), "step": one.step} for one in steps]
            document: dict[str, Any] = {"recipe": found.name, "recipe_digest": found.digest, "versions": done}
        else:
            one = processing.process(name, inputs or [], target, params=params, **how)
            steps = [recipe.StepDone(name, one.version, one.created)]
            document = {"versions": [made(one.version, one.created)]}

        def words() -> None:
            for one in steps:
                say(out, one.version, one.created)

        out.result(document, words)


def processors(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the installed processors, third parties' included; with NAME, what it takes."""
    show("processor", name, as_json)


def reproduce(
    ref: Annotated[str, typer.Argument(metavar="REF", help="STORE/DATASET/ARRAY[/vN]")],
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE...]", help="The files, where it was made by an ingest.")
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option("--store", metavar="STORE", help="Look for the inputs in this store, too. Repeat for more."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; as it was then when left out.")] = None,
    memory: MemoryOption = "1GiB",
    as_json: JsonOption = False,
) -> None:
    """Make a version again from its Record and say whether it comes out the same, bit for bit; exit code 4 if not."""
    with command(as_json) as out:
        budget = text.parse_size(memory)
        from emstore.errors import Conflict
        from emstore.reproduction import reproduce as again

        found = again(ref, sources or [], stores=store or [], memory=budget, device=device, listener=out.listener)
        version = found.version
        document = {
            "ref": version.ref,
            "id": version.id,
            "identical": found.identical,
            "deterministic": found.deterministic,
            "objects": version.info.contents.objects,
            "differences": [asdict(difference) for difference in found.differences],
            "changes": [asdict(change) for change in found.changes],
        }

        def words() -> None:
            size = f"{version.info.contents.objects} objects, {text.size(version.info.contents.nbytes)}"
            out.say(f"{version.ref}  {'identical, bit for bit' if found.identical else 'DIFFERS'}  {size}")
            for difference in found.differences:
                out.say(f"  {difference.what}: {difference.detail}")
            if not found.identical and not found.deterministic:
                out.say("  the Record says that chance takes part in it")
            for change in found.changes:
                out.say(f"  {change.what} was {change.then or 'not there'}, now {change.now or 'not there'}")

        out.result(document, words)
        if not found.identical:
            raise typer.Exit(Conflict.exit_code)


def parameters(given: list[str]) -> dict[str, Any]:
    """Return the parameters of ``KEY=VALUE`` arguments: JSON where a value is JSON, else its text.

    Raises
    ------
    InvalidInput
        An argument without ``=``, or a parameter given twice.
    """
    from emstore.errors import InvalidInput

    params: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise InvalidInput("a parameter needs a name and a value", where=f"-p {each}", fix="write -p KEY=VALUE")
        if key in params:
            raise InvalidInput(f"the parameter {key!r} is given twice", where=f"-p {each}")
        params[key] = _value(value)
    return params


def _value(given: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(given, parse_constant=refuse)
    except (ValueError, RecursionError):
        return given


def _executor(cluster: str | None, processes: int | None, threads: int | None) -> "Executor | None":
    from emstore.errors import InvalidInput

    chosen = [name for name, value in (("--cluster", cluster), ("--processes", processes), ("--threads", threads)) if value]
    if len(chosen) > 1:
        raise InvalidInput(f"{' and '.join(chosen)} exclude each other", fix="choose where the work is done")
    if not chosen:
        return None
    from emstore.blocks.executors import Cluster, Processes, Threads

    # A command that is stopped may leave at once; Python's own clearing up after it is nothing to tell the user.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    if cluster is not None:
        if cluster.partition(":")[0] not in ("local", "tcp", "tls"):
            raise InvalidInput(
                "this is no cluster's address", where=f"--cluster {cluster}", fix="write tcp://HOST:PORT or local:N"
            )
        return Cluster(cluster)
    return Threads(threads) if processes is None else Processes(processes)  # type: ignore[arg-type]


def made(version: "Version", created: bool) -> dict[str, Any]:
    """Return what ``--json`` says of a version that was asked for."""
    from emstore.cli.stores import summary

    return {
        **summary(version.store, version.place, version.info),
        "created": created,
        "notes": list(version.record.notes),
    }


def say(out: "Output", version: "Version", created: bool) -> None:
    """Say in one line what became of a version that was asked for."""
    volume = version.info.volume
    what = f"{text.shape(volume.shape, volume.dims)} {volume.dtype}"
    out.say(f"{version.ref}  {'sealed' if created else 'was there already'}  {what}  {version.id}")
