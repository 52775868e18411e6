"""The verbs ``simulate``, ``train``, ``simulators`` and ``trainers``: versions from parameters, and networks from versions."""

from typing import TYPE_CHECKING, Annotated

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.plugins import NameArgument, show
from emstore.cli.processing import AgainOption, ParamOption, ThreadsOption, made, parameters, say
from emstore.cli.sources import MemoryOption, PyramidOption, TargetArgument

if TYPE_CHECKING:
    from emstore.cli.output import Output
    from emstore.events import Event
    from emstore.store import Version


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("simulate")(simulate)
    app.command("simulators")(simulators)
    app.command("train")(train)
    app.command("trainers")(trainers)


def simulate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A simulator (see `emstore simulators`).")],
    target: TargetArgument,
    param: ParamOption = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = "4GiB",
    pyramid: PyramidOption = True,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make data from parameters alone, its truth beside it in ARRAY-<what it is>. Stopped or killed, the same command resumes."""
    with command(as_json) as out:
        budget, params, sealed = text.parse_size(memory), parameters(param or []), _Sealed(out)
        from emstore.simulation import simulate as make

        versions = make(
            name, target, params=params, memory=budget, threads=threads, pyramid=pyramid, again=again, listener=sealed.listen
        )
        sealed.tell(versions)


def simulators(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the installed simulators, third parties' included; with NAME, its parameters."""
    show("simulator", name, as_json)


def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A trainer (see `emstore trainers`).")],
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="REF...", help="The versions to learn from, in the order it takes them.")
    ] = None,
    *,
    target: TargetArgument,
    param: ParamOption = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    threads: ThreadsOption = None,
    memory: MemoryOption = "4GiB",
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the weights of a network from versions. Stopped or killed, the same command resumes."""
    with command(as_json) as out:
        budget, params, sealed = text.parse_size(memory), parameters(param or []), _Sealed(out)
        from emstore.training import train as make

        version = make(
            name,
            inputs or [],
            target,
            params=params,
            memory=budget,
            threads=threads,
            device=device,
            again=again,
            listener=sealed.listen,
        )
        sealed.tell([version])


def trainers(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the installed trainers, third parties' included; with NAME, what it takes."""
    show("trainer", name, as_json)


class _Sealed:
    """Listens for an output, and knows afterwards which versions are new."""

    def __init__(self, out: "Output") -> None:
        self._out = out
        self._new: set[str] = set()

    def listen(self, event: "Event") -> None:
        """Pass an event on."""
        from emstore.events import Finished

        if isinstance(event, Finished):
            self._new.add(event.version_id)
        self._out.listener(event)

    def tell(self, versions: "list[Version]") -> None:
        """Print what became of all that was asked for."""

        def words() -> None:
            for version in versions:
                say(self._out, version, version.id in self._new)

        self._out.result({"versions": [made(version, version.id in self._new) for version in versions]}, words)
