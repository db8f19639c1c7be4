"""Limits of a gateway that runs alone: they hold over its workers, and over its restarts."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from standalone.running_gateway import KEY, KEYS, RunningGateway, StartEngine, running, write
from support.load import Connection, Reply

pytestmark = pytest.mark.timeout(400)

USED = 40
"""Tokens that an answer of the engine uses; no more than a request reserves, so that what is left
unused is known."""
RESERVED_MAX = 60
ASK = {"model": "bank", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}


def limited(limits: str) -> str:
    return KEYS.replace("}]", f", limits: {{{limits}}}}}]")


async def _ask(gateway: RunningGateway, clients: int, enough: int) -> list[Reply]:
    """Ask over so many connections until all that is left is refused, or enough are answered.

    Nothing may happen but an answer or a refusal.
    """
    replies: list[Reply] = []

    def answered() -> int:
        return sum(reply.status == 200 for reply in replies)

    async def client() -> None:
        connection = Connection(gateway.address, KEY)
        final = 0
        try:
            while final < 3 and answered() < enough:
                reply = await connection.post("/v1/chat/completions", ASK)
                replies.append(reply)
                assert reply.status in (200, 429), reply
                is_final = reply.status == 429 and "Try again in 1 s." not in reply.text
                final = final + 1 if is_final else 0
                if reply.status == 429:
                    await asyncio.sleep(0.02)
        finally:
            connection.close()
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(client() for _ in range(clients))), 240)
    return replies


def answers(gateway: RunningGateway, clients: int = 8, enough: int = 10**9) -> int:
    """How many were let through."""
    replies = asyncio.run(_ask(gateway, clients, enough))
    return sum(reply.status == 200 for reply in replies)


@pytest.mark.slow
def test_over_two_workers_a_limit_is_used_to_98_percent_and_never_exceeded(
    engine: StartEngine, config: Path
) -> None:
    """Also while the workers are replaced, when one is killed, and after a stop and a start."""
    limit = 12_000
    one = engine("one", usage=(20, 20))
    write(
        config,
        f"name: main, replicas: [{one.url}]",
        top=limited(f"tokens_per_day: {limit}") + "workers: 2\nspool: records\n",
    )
    let = 0
    with running(config) as gateway:
        let += answers(gateway, enough=80)
        gateway.process.send_signal(signal.SIGUSR2)
        let += answers(gateway, enough=60)
        gateway.says("restarted; ")
        let += answers(gateway, enough=30)
        assert gateway.stop() == 0
    assert 170 <= let < 200
    with running(config) as gateway:
        let += answers(gateway)
        assert 0.98 * limit <= let * USED <= limit
        assert gateway.stop() == 0
    with running(config) as gateway:
        let += answers(gateway, clients=2)
        assert let * USED <= limit
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.output


def test_what_a_worker_used_just_before_it_was_replaced_is_used(
    engine: StartEngine, config: Path
) -> None:
    """It has not told of it when it is asked to go."""
    one = engine("one", usage=(20, 20))
    write(
        config,
        f"name: main, replicas: [{one.url}]",
        top=limited("tokens_per_day: 2000") + "workers: 1\nspool: records\n",
    )
    let = 0
    with running(config) as gateway:
        for replaced in range(3):
            let += answers(gateway, clients=1, enough=10)
            gateway.process.send_signal(signal.SIGUSR2)
            gateway.until(
                lambda: gateway.output.count("restarted; ") == replaced + 1,  # noqa: B023 - now
                "a new worker",
            )
        let += answers(gateway, clients=1)
        assert gateway.stop() == 0
    assert 0.98 * 2_000 <= let * USED <= 2_000


@pytest.mark.slow
def test_a_budget_on_one_worker_is_exact_and_with_the_spool_off_a_new_start_forgets_it(
    engine: StartEngine, config: Path
) -> None:
    one = engine("one", usage=(20, 20))
    price = "price: {input_per_million: 1000, output_per_million: 1000}"
    write(
        config,
        f"name: main, replicas: [{one.url}], {price}",
        # 40 tokens are 0.04 USD; a request reserves no more than 0.06.
        more="  limits: {usd_per_month: 0.42}\n",
    )
    with running(config) as gateway:
        assert answers(gateway, clients=1) == 10
        refused = asyncio.run(_ask(gateway, 1, 1))[-1]
        error = json.loads(refused.text)["error"]
        assert error["code"] == "insufficient_quota"
        assert "of 0.42 USD per month of the service `bank`" in error["message"]
        gateway.stop()
    with running(config) as gateway:
        assert answers(gateway, clients=1) == 10
        gateway.stop()


def test_limits_can_come_change_and_go_while_it_runs(engine: StartEngine, config: Path) -> None:
    one = engine("one")
    release = f"name: main, replicas: [{one.url}]"
    top = "keys: none\nallow_hosts: [gateway]\nspool: records\n"
    write(config, release, top=top)
    with running(config) as gateway:
        assert answers(gateway, clients=1, enough=5) == 5
        assert not (config.parent / "records" / "limits" / "limits.db").exists()
        write(config, release, top=top + "limits: {tokens_per_day: 200}\n")
        gateway.reload()
        gateway.says("as version 2")
        refused = ""
        while "200 tokens per day of this gateway" not in refused:
            refused = asyncio.run(_ask(gateway, 1, 1))[-1].text
        write(config, release, top=top)
        gateway.reload()
        gateway.says("as version 3")
        gateway.until(lambda: answers(gateway, clients=1, enough=3) == 3, "no limit any more")
        gateway.stop()
        assert "Traceback" not in gateway.output


def test_two_gateways_do_not_count_in_one_folder(engine: StartEngine, config: Path) -> None:
    one = engine("one")
    write(
        config,
        f"name: main, replicas: [{one.url}]",
        top=limited("tokens_per_day: 200") + "spool: records\n",
    )
    with running(config) as gateway:
        second = RunningGateway(config, log="second.log")
        assert second.process.wait(60) == 7
        assert "another gateway counts the use of limits here" in second.output
        gateway.stop()
