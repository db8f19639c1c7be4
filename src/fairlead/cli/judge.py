"""`fairlead judge`: how often a judge model is right."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from fairlead.app.state import StatePaths
from fairlead.cli.judging import judge_of
from fairlead.cli.options import (
    MANIFEST_DEFAULT,
    STATE_DEFAULT,
    JsonOption,
    ManifestOption,
    StateOption,
    client,
    print_json,
    say,
)
from fairlead.control.judging.asking import Asker, Reply, Seat
from fairlead.control.views import Noted
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.evaluation.judge_model import (
    Agreement,
    JudgeModel,
    Labelled,
    agreement,
    read_labelled,
)

LABELLED_BYTES_MAX = 64 * 1024 * 1024
app = typer.Typer(help="Models that judge sampled answers.", no_args_is_help=True)


@app.command()
def check(
    labelled: Annotated[
        Path,
        typer.Argument(help='JSON lines: {"prompt": "...", "answer": "...", "good": true}.'),
    ],
    file: ManifestOption = MANIFEST_DEFAULT,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="FAIRLEAD_API_KEY", help="An API key of the gateway, for judge.service."
        ),
    ] = None,
    note: Annotated[
        bool, typer.Option(help="Let control show the result beside what the judge says.")
    ] = True,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Ask the manifest's judge about answers of which people have said whether they are good."""
    from fairlead.manifest import load_manifest

    manifest = load_manifest(file)
    judge = judge_of(manifest)
    if judge is None:
        raise InvalidInput(f"{file}: it declares no judge", hint="see docs/judging.md")
    items = read_labelled(_lines(labelled), str(labelled))
    seat = _seat(judge, key, state)
    replies = asyncio.run(_ask(Asker(judge, lambda: seat), items))
    if all(reply.is_outage for reply in replies):
        raise Unavailable(f"the judge cannot be asked: {replies[0].why}")
    found = agreement(judge, items, [reply.verdict for reply in replies], time.time())
    if note:
        client(state).put(Noted, "services", manifest.service, "judge", "error", body=found)
    if as_json:
        print_json(found)
        return
    _say(found, sum(reply.usd for reply in replies))


def _lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            data = file.read(LABELLED_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    if len(data) > LABELLED_BYTES_MAX:
        raise InvalidInput(f"{path}: larger than {LABELLED_BYTES_MAX} bytes")
    return data.splitlines()


def _seat(judge: JudgeModel, key: str | None, state: Path) -> Seat:
    if judge.provider is not None:
        return Seat.of_provider(judge.provider)
    if not key:
        raise InvalidInput("judge.service is asked through the gateway, which needs --key")
    url = StatePaths(state).require_up().gateway_url
    return Seat((f"{url}/v1",), judge.service or "", key)


async def _ask(asker: Asker, items: list[Labelled]) -> list[Reply]:
    """One reply for each, `concurrency` at a time; asked again as a sample would be."""
    free = asyncio.Semaphore(asker.judge.concurrency)

    async def one(item: Labelled) -> Reply:
        async with free:
            for _ in range(asker.judge.attempts):
                reply = await asker(item.exchange)
                if reply.verdict is not None:
                    break
        return reply

    return list(await asyncio.gather(*(one(item) for item in items)))


def _say(found: Agreement, usd: float) -> None:
    say(("the judge is ", "bold"), found.sentence, whole=True)
    if usd:
        say((f"that has cost {usd:.4f} USD", "dim"))
