"""What a gateway file says of serving happens: fallbacks, continued streams, browsers kept out."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path

import pytest
import trustme

from fairlead.app.standalone.scraping import metrics_access
from fairlead.domain.errors import InvalidInput
from fairlead.manifest.gateway_file.scraping import Metrics
from standalone.running_gateway import KEY, KEYS, RunningGateway, StartEngine, running, write
from support.real_server import free_port

pytestmark = pytest.mark.timeout(400)

ASK = json.dumps({"model": "bank", "messages": [{"role": "user", "content": "hello"}]})


def post(
    gateway: RunningGateway, body: str = ASK, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection(*gateway.address, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        "POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}", **names}
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text


def test_another_service_answers_when_the_primary_is_dead(
    engine: StartEngine, config: Path
) -> None:
    spare = engine("spare")
    write(
        config,
        f"name: main, replicas: ['http://127.0.0.1:{free_port()}']",
        more="  fallbacks: [worse, other]\n"
        f"- {{name: worse, releases: [{{name: r, url: 'http://127.0.0.1:{free_port()}'}}]}}\n"
        f"- {{name: other, releases: [{{name: r, url: '{spare.url}/v1', model: gpt}}]}}\n",
    )
    with running(config) as gateway:
        for _ in range(5):
            status, headers, text = post(gateway)
            assert (status, headers["x-fairlead-fallback"]) == (200, "other")
            assert json.loads(text)["choices"][0]["message"]["content"] == "spare"
        assert {asked["model"] for asked in spare.asked} == {"gpt"}
        gateway.stop()


def test_without_a_key_browsers_pages_and_rebound_names_are_kept_out(
    engine: StartEngine, config: Path
) -> None:
    one = engine("one")
    top = "keys: none\nallow_hosts: [llm.internal]\nallow_origins: ['https://chat.example']\n"
    write(config, f"name: main, replicas: [{one.url}]", top=top)
    with running(config) as gateway:
        port = gateway.address[1]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:80", "llm.internal"):
            assert post(gateway, host=host)[0] == 200, host
        assert post(gateway, origin="https://chat.example")[0] == 200
        assert post(gateway, origin=f"http://127.0.0.1:{port}")[0] == 200
        served = len(one.asked)
        for origin in ("https://evil.example", "null", "http://localhost:3000"):
            status, _, text = post(gateway, origin=origin)
            assert (status, json.loads(text)["error"]["code"]) == (403, "foreign_origin"), origin
            assert "allow_origins" in text
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1"):
            status, _, text = post(gateway, host=host)
            assert (status, json.loads(text)["error"]["code"]) == (403, "foreign_host"), host
        assert len(one.asked) == served
        # A connection whose head is known already is no way around a stricter file.
        connection = http.client.HTTPConnection(*gateway.address, timeout=60)

        def again() -> int:
            connection.request(
                "POST", "/v1/chat/completions", ASK, {"origin": "https://chat.example"}
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status

        assert [again() for _ in range(3)] == [200] * 3
        write(config, f"name: main, replicas: [{one.url}]", top="keys: none\n")
        gateway.reload()
        gateway.says("as version 2")
        gateway.until(lambda: again() == 403, "the origin is not allowed any more")
        connection.close()
        gateway.stop()


def test_with_keys_every_host_and_origin_is_served(engine: StartEngine, config: Path) -> None:
    write(config, f"name: main, replicas: [{engine('one').url}]")
    with running(config) as gateway:
        assert post(gateway, host="gateway.example", origin="https://chat.example")[0] == 200
        gateway.stop()


def test_https_is_served_with_the_files_that_are_named(engine: StartEngine, config: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(config.parent / "ca.pem"))
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(config.parent / "gateway.pem"))
    made.private_key_pem.write_to_path(str(config.parent / "gateway.key"))
    write(
        config,
        f"name: main, replicas: [{engine('one').url}]",
        top=KEYS + "tls: {cert: gateway.pem, key: gateway.key}\n",
    )
    with running(config) as gateway:
        assert gateway.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(config.parent / "ca.pem"))
        connection = http.client.HTTPSConnection(*gateway.address, timeout=60, context=trusting)
        connection.request("POST", "/v1/chat/completions", ASK, {"authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "one"
        connection.close()
        gateway.stop()


@pytest.mark.parametrize("kind", ["llama.cpp", "other"])
def test_a_broken_stream_goes_on_where_the_engine_can(
    engine: StartEngine, config: Path, kind: str
) -> None:
    breaking, whole = engine("first half"), engine(" and the rest")
    breaking.breaks_after = 5
    write(
        config,
        f"name: main, engine: {kind}, replicas: ['{breaking.url}', '{whole.url}']",
        more="  balance: least_loaded\n",
    )
    body = json.dumps({**json.loads(ASK), "stream": True})
    with running(config) as gateway:
        broken = ""
        while breaking.broken == 0:
            _, _, broken = post(gateway, body)
        has_ended = broken.rstrip().endswith("data: [DONE]") and '"error"' not in broken
        assert has_ended is (kind == "llama.cpp"), broken
        gateway.stop()


def scraped(gateway: RunningGateway, **headers: str) -> int:
    """The status of a scrape."""
    connection = http.client.HTTPConnection(*gateway.address, timeout=60)
    connection.request("GET", "/metrics", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_metrics_are_for_this_machine_or_by_their_token(
    engine: StartEngine, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = f"name: main, replicas: ['{engine('one').url}']"
    write(config, release)
    with running(config) as gateway:
        assert scraped(gateway) == 200
        assert scraped(gateway, **{"x-forwarded-for": "10.0.0.7"}) == 401
        gateway.stop()
    token = config.with_name("metrics.token")
    token.write_text("a-token-of-enough-length\n")
    write(config, release, top=f"{KEYS}metrics: {{access: token, token_file: {token.name}}}\n")
    with running(config) as gateway:
        assert scraped(gateway) == 401
        assert scraped(gateway, authorization=f"Bearer {KEY}") == 401
        assert scraped(gateway, authorization="Bearer a-token-of-enough-length") == 200
        gateway.stop()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (Metrics(access="token", token_env="NO_SUCH"), "environment variable NO_SUCH"),
        (Metrics(access="token", token_env="SHORT"), "environment variable SHORT"),
        (Metrics(access="token", token_env="SPACED"), "no usable token"),
    ],
)
def test_a_token_that_cannot_be_used_is_an_error_at_the_start(declared: Metrics, said: str) -> None:
    environ = {"SHORT": "s3cret", "SPACED": "s3cret of some words"}
    with pytest.raises(InvalidInput, match=said) as refused:
        metrics_access(declared, environ)
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"
