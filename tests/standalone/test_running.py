"""`fairlead gateway run` as users run it: a process, engines, the `openai` client."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import signal
from pathlib import Path

import openai
import pytest

from fairlead.domain.api_keys import api_key_digest
from fairlead.wire.record import Record, RequestRecord, decode_record
from fairlead.wire.spool import MAGIC, frames
from standalone.running_gateway import KEY, KEYS, RunningGateway, StartEngine, running, write
from support.real_server import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


def client(gateway: RunningGateway, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=key,
        timeout=60,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=False),
    )


def ask(client: openai.OpenAI, user: str = "u", model: str = "bank") -> str:
    answer = client.chat.completions.create(
        model=model, user=user, messages=[{"role": "user", "content": "hello"}]
    )
    return str(answer.choices[0].message.content)


def records(spool: Path) -> list[RequestRecord]:
    found: list[Record] = []
    for segment in spool.glob("*/*.seg"):
        data = segment.read_bytes()
        found += [decode_record(payload) for _, payload in frames(data, len(MAGIC))]
    return [record for record in found if isinstance(record, RequestRecord)]


def test_it_serves_the_openai_client_on_two_workers_and_ends_without_a_trace(
    engine: StartEngine, config: Path
) -> None:
    one = engine("one")
    write(
        config,
        f"name: main, replicas: [{one.url}], model: theirs, sampling: {{temperature: 0}}, "
        "prompt: {system: Be brief.}",
        top=KEYS + "workers: 2\nspool: records\n",
    )
    with running(config) as gateway, client(gateway) as asking:
        assert "service bank: main 100 % (127.0.0.1:" in gateway.output
        gateway.until(lambda: len(gateway.workers) == 2)
        raw = asking.chat.completions.with_raw_response.create(
            model="bank", messages=[{"role": "user", "content": "hello"}]
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == "one"
        assert raw.headers["x-fairlead-release"].startswith("sha256:")
        assert one.asked[0]["model"] == "theirs"
        assert one.asked[0]["temperature"] == 0
        assert one.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
        stream = asking.chat.completions.create(
            model="bank", messages=[{"role": "user", "content": "x"}], stream=True
        )
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        assert text == "one"
        assert [model.id for model in asking.models.list()] == ["bank"]
        with pytest.raises(openai.NotFoundError):
            ask(asking, model="other")
        with client(gateway, "fl-wrong") as stranger, pytest.raises(openai.AuthenticationError):
            ask(stranger)
        assert gateway.stop() == 0
        assert "stopped" in gateway.output
        assert "Traceback" not in gateway.output
    kept = records(config.parent / "records")
    assert [r.status for r in kept] == [200, 200]
    assert {(r.service, r.key, r.arm, r.release) for r in kept} == {
        ("bank", "tester", "champion", raw.headers["x-fairlead-release"])
    }
    assert {r.replica for r in kept} == {one.url.removeprefix("http://")}


def test_three_releases_share_the_users_by_weight_and_each_user_stays(
    engine: StartEngine, config: Path
) -> None:
    engines = [engine(name) for name in "abc"]
    write(
        config,
        *(
            f"name: {e.name}, weight: {w}, replicas: [{e.url}]"
            for e, w in zip(engines, (2, 1, 1), strict=True)
        ),
        top=KEYS + "workers: 2\nspool: records\n",
    )
    with running(config) as gateway:
        with client(gateway) as asking, concurrent.futures.ThreadPoolExecutor(4) as pool:
            users = [f"u{n}" for n in range(120)]
            first = list(pool.map(lambda user: ask(asking, user), users))
            second = list(pool.map(lambda user: ask(asking, user), users))
        assert first == second
        counts = collections.Counter(first)
        assert 40 <= counts["a"] <= 80  # 60, within four standard deviations
        assert 11 <= counts["b"] <= 49  # 30
        gateway.stop()
    by_arm = {(r.arm, r.rho) for r in records(config.parent / "records")}
    assert by_arm == {("champion", 0.5), ("canary", 0.25)}


def test_a_release_without_a_living_replica_is_stood_in_for_by_the_heaviest(
    engine: StartEngine, config: Path
) -> None:
    one = engine("one")
    port = free_port()
    write(
        config,
        f"name: a, weight: 2, replicas: [{one.url}]",
        f"name: b, replicas: ['http://127.0.0.1:{port}']",
        f"name: c, replicas: ['http://127.0.0.1:{port}']",
    )
    with running(config) as gateway:
        with client(gateway) as asking:
            assert {ask(asking, f"u{n}") for n in range(20)} == {"one"}
        gateway.stop()


def test_a_reload_is_swapped_in_whole_and_a_bad_one_changes_nothing(
    engine: StartEngine, config: Path
) -> None:
    one, two = engine("one"), engine("two")
    write(config, f"name: main, replicas: [{one.url}]")
    with running(config) as gateway, client(gateway) as asking:
        gateway.until(lambda: ask(asking) == "one")
        config.write_text("keys: none\nservice: []\n")
        gateway.reload()
        gateway.says("not reloaded, the old configuration stays:")
        gateway.says(f'{config}:2: unknown key "service" (did you mean "services"?)')
        assert ask(asking) == "one"
        write(config, f"name: main, replicas: [{two.url}]", top=KEYS + "workers: 3\n")
        gateway.reload()
        gateway.says("not reloaded: workers: a change needs a stop and a start")
        assert "(1 worker, 1 key)" in gateway.output
        assert ask(asking) == "one"
        write(config, f"name: main, replicas: [{two.url}]")
        gateway.reload()
        gateway.says("as version 2")
        gateway.until(lambda: ask(asking) == "two", "the new replica answers")
        other = "fl-other"
        write(
            config,
            f"name: main, replicas: [{two.url}]",
            top=KEYS.replace(api_key_digest(KEY), api_key_digest(other)),
        )
        gateway.reload()

        def is_refused() -> bool:
            try:
                ask(asking)
            except openai.AuthenticationError:
                return True
            return False

        gateway.until(is_refused, "the old key is refused")
        with client(gateway, other) as newcomer:
            assert ask(newcomer) == "two"
        gateway.stop()
        assert "Traceback" not in gateway.output


def test_with_the_spool_off_nothing_is_written_and_feedback_is_refused(
    engine: StartEngine, config: Path
) -> None:
    write(config, f"name: main, replicas: [{engine('one').url}]", top="keys: none\nspool: off\n")
    with running(config) as gateway:
        assert "no key asked for" in gateway.output
        assert "records: off" in gateway.output
        with client(gateway, "anything") as asking:
            raw = asking.chat.completions.with_raw_response.create(
                model="bank", messages=[{"role": "user", "content": "hello"}]
            )
            given = {"request_id": raw.headers["x-request-id"], "name": "good", "value": True}
            with pytest.raises(openai.NotFoundError) as refused:
                asking.post("/feedback", body=given, cast_to=object)
            assert refused.value.code == "nothing_recorded"
        assert gateway.stop(signal.SIGINT) == 0
    assert sorted(p.name for p in config.parent.iterdir()) == ["gateway.yaml", "output.log", "tmp"]


def test_a_providers_key_reaches_the_provider_and_no_one_else(
    engine: StartEngine, config: Path
) -> None:
    provider, replica = engine("provider"), engine("replica")
    write(
        config,
        f"name: a, url: {provider.url}/v1, model: gpt, api_key_env: PROVIDER_KEY",
        more=f"- name: own\n  releases: [{{name: r, replicas: ['{replica.url}']}}]\n"
        "- name: lost\n  releases: [{name: r, url: https://h/v1, api_key_env: NOT_SET}]\n",
    )
    with running(config, PROVIDER_KEY="sk-1") as gateway:
        gateway.says("warning: lost, r: the environment variable NOT_SET is not set")
        with client(gateway) as asking:
            assert ask(asking) == "provider"
            assert ask(asking, model="own") == "replica"
        assert provider.authorizations == ["Bearer sk-1"]
        assert replica.authorizations == [None]
        gateway.stop()
        assert "sk-1" not in gateway.output


def test_sigterm_lets_open_requests_end(engine: StartEngine, config: Path) -> None:
    slow = engine("slow", delay_s=1.0)
    write(config, f"name: main, replicas: [{slow.url}]", top=KEYS + "workers: 2\n")
    threads = concurrent.futures.ThreadPoolExecutor(3)
    with running(config) as gateway, client(gateway) as asking, threads as pool:
        answers = [pool.submit(ask, asking) for _ in range(3)]
        gateway.until(lambda: len(slow.asked) == 3)
        assert gateway.stop() == 0
        assert [answer.result() for answer in answers] == ["slow"] * 3


def test_a_killed_worker_is_started_again(engine: StartEngine, config: Path) -> None:
    write(config, f"name: main, replicas: [{engine('one').url}]")
    with running(config) as gateway, client(gateway) as asking:
        assert ask(asking) == "one"
        [before] = gateway.workers
        os.kill(before, signal.SIGKILL)
        gateway.says("worker 0 ended (SIGKILL); starting it again")
        gateway.until(lambda: gateway.workers not in ([], [before]))
        assert ask(asking) == "one"
        gateway.stop()


def test_if_it_is_killed_itself_its_workers_end_too(engine: StartEngine, config: Path) -> None:
    write(config, f"name: main, replicas: [{engine('one').url}]", top=KEYS + "workers: 2\n")
    with running(config) as gateway, client(gateway) as asking:
        assert ask(asking) == "one"
        workers = gateway.workers
        gateway.process.kill()
        gateway.process.wait()
    wait_until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
