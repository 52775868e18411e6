"""The verbs ``verify`` and ``gc``: is it still what was sealed, and what may be cleared."""

from typing import Annotated

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.stores import Ref


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("verify")(verify)
    app.command("gc")(gc)


def verify(
    ref: Ref,
    data: Annotated[bool, typer.Option("--data", help="Hash every byte, not only look at names and sizes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove that every sealed version at or below REF is exactly what was sealed; name everything that is not."""
    with command(as_json) as out:
        from emstore.errors import Damaged
        from emstore.events import Advanced, Started
        from emstore.store.listing import versions
        from emstore.store.store import resolve
        from emstore.store.verification import verify as check

        store, place = resolve(ref)
        task = f"verify {ref}"
        if data:
            total = sum(state.info.contents.nbytes for state in versions(store, place) if state.info is not None)
            out.listener(Started(task, total))
        found = check(store, place, data=data, advance=lambda n: out.listener(Advanced(task, n)))
        document = [
            {
                "ref": f"{store.url}/{one.place}",
                "id": one.version_id,
                "ok": one.ok,
                "objects": one.objects,
                "bytes": one.nbytes,
                "findings": [{"key": f.key, "problem": str(f.problem), "detail": f.detail or None} for f in one.findings],
            }
            for one in found
        ]
        whole = all(one.ok for one in found)

        def words() -> None:
            how = "every byte hashed" if data else "names and sizes; --data hashes every byte"
            for one in found:
                state = "ok" if one.ok else f"DAMAGED, {len(one.findings)} finding{'s' * (len(one.findings) != 1)}"
                out.say(f"{store.url}/{one.place}  {state}  {one.objects} objects, {text.size(one.nbytes)} ({how})")
                for finding in one.findings:
                    out.say(f"  {finding.key}: {finding.problem}{f' ({finding.detail})' if finding.detail else ''}")
            if not found:
                out.note("there is no sealed version here")

        out.result({"ok": whole, "data": data, "versions": document}, words)
        if not whole:
            raise typer.Exit(Damaged.exit_code)


def gc(
    ref: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="Left out: your own folder of unfinished simulations and trainings.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be cleared.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Clear what stopped or killed work left behind at or below REF. Sealed versions are never touched.

    Without REF, delete what simulations and trainings had kept to be taken up again and nobody went on with for 30 days.
    """
    with command(as_json) as out:
        if ref is None:
            from emstore.making import collect_scratch

            found = collect_scratch(dry_run=dry_run)
        else:
            from emstore.store import collect, resolve

            found = collect(*resolve(ref), dry_run=dry_run)
        document = {
            "dry_run": dry_run,
            "cleared": [{"key": one.key, "what": one.what, "bytes": one.nbytes} for one in found],
            "bytes": sum(one.nbytes for one in found),
        }

        def words() -> None:
            for one in found:
                out.say(f"{one.key}  {one.what}  {text.size(one.nbytes)}")
            verb = "would be" if dry_run else "were"
            things = f"{len(found)} leftover{'s' * (len(found) != 1)}, {text.size(sum(one.nbytes for one in found))},"
            out.say(f"{things} {verb} cleared" if found else "nothing to clear")

        out.result(document, words)
