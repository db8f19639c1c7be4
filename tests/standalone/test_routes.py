"""What a gateway file declares is what the workers are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.app.standalone.routes import lacking_keys, snapshot_of, unpriced
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.quota import NO_QUOTA, Price, Quota
from fairlead.gateway.replicas.routing import assign, assign_by_weight, unit_of
from fairlead.manifest.gateway_file import GatewayFile, parse_gateway_file
from fairlead.wire.snapshot import (
    ServiceRoute,
    Snapshot,
    declared_limits,
    decode_snapshot,
    encode_snapshot,
)

UNITS = [unit_of("k", f"s{n}".encode(), None) for n in range(20_000)]


GUARDED = "guardrails: [{name: g, on: prompt, action: block, deny: [x]}]"


def file_of(*releases: str, more: str = "") -> GatewayFile:
    lines = "".join(f"  - {{{release}}}\n" for release in releases)
    return parse_gateway_file(
        f"keys: none\nservices:\n- name: bank\n  releases:\n{lines}{more}", Path("g.yaml")
    )


def snapshot(*releases: str, more: str = "", version: int = 1) -> Snapshot:
    return snapshot_of(file_of(*releases, more=more), version=version, request_id_key="00")


def bank(*releases: str) -> ServiceRoute:
    return snapshot(*releases).services["bank"]


def one(name: str, weight: float) -> str:
    return f"name: {name}, weight: {weight}, replicas: [http://{name}:1]"


def test_one_release_takes_all() -> None:
    route = bank(one("a", 3))
    assert [r.name for r in route.releases.values()] == ["a"]
    assert (route.canary, route.canary_share, route.weights) == (None, 0.0, ())


def test_of_two_the_lighter_is_the_canary() -> None:
    route = bank(one("light", 1), one("heavy", 3))
    assert route.champion is not None
    assert route.canary is not None
    assert route.releases[route.champion].name == "heavy"
    assert route.releases[route.canary].name == "light"
    assert (route.canary_share, route.weights) == (0.25, ())


def test_a_release_of_weight_0_gets_nothing() -> None:
    route = bank(one("a", 1), one("b", 0))
    assert [r.name for r in route.releases.values()] == ["a"]


@pytest.mark.parametrize("weights", [(5, 3, 2), (1, 1, 1, 1), (0.01, 98.99, 1), (7, 0, 2, 1)])
def test_units_are_split_by_weight(weights: tuple[float, ...]) -> None:
    route = bank(*(one(f"r{i}", weight) for i, weight in enumerate(weights)))
    assert sum(share for _, share in route.weights) == pytest.approx(1.0)
    shares = {f"r{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    counts = dict.fromkeys(shares, 0)
    for unit in UNITS:
        assigned = assign_by_weight(route, unit, is_usable=lambda _: True)
        assert assigned is not None
        name = route.releases[assigned.release].name
        counts[name] += 1
        assert assigned.rho == pytest.approx(shares[name])
        assert assigned.arm == ("champion" if assigned.release == route.champion else "canary")
    for name, share in shares.items():
        sd = (len(UNITS) * share * (1 - share)) ** 0.5
        assert abs(counts[name] - len(UNITS) * share) <= 4.5 * sd


def test_a_unit_stays_with_its_release() -> None:
    """From worker to worker, after a restart, and when another release's replicas fail."""
    before, after = (bank(one("a", 5), one("b", 3), one("c", 2)) for _ in range(2))
    (_, _), (second, share), (third, _) = before.weights
    moved = 0
    for unit in UNITS[:2000]:
        whole = assign_by_weight(before, unit, is_usable=lambda _: True)
        later = assign_by_weight(after, unit, is_usable=lambda _: True)
        partly = assign_by_weight(before, unit, is_usable=lambda digest: digest != second)
        assert whole is not None
        assert later is not None
        assert partly is not None
        assert (whole.arm, whole.release, whole.rho) == (later.arm, later.release, later.rho)
        if whole.release == second:
            moved += 1
            assert (partly.arm, partly.release) == ("champion", before.champion)
        else:
            assert partly.release == whole.release
        if partly.release == before.champion:
            assert partly.rho == pytest.approx(0.8)
        assert partly.release in (before.champion, third)
    assert moved == pytest.approx(2000 * share, rel=0.2)


def test_two_releases_are_split_as_in_a_rollout() -> None:
    route = bank(one("a", 3), one("b", 1))
    on_canary = [assign(route, unit, canary_is_usable=True) for unit in UNITS]
    assert sum(a is not None and a.arm == "canary" for a in on_canary) == pytest.approx(
        0.25 * len(UNITS), rel=0.05
    )


def test_the_digest_names_what_answers_and_nothing_else() -> None:
    def digest(release: str) -> str:
        return str(bank(release).champion)

    plain = digest("name: a, replicas: [http://h:1]")
    assert plain.startswith("sha256:")
    for same in (
        "name: a, replicas: [http://h:1, http://h:2], weight: 7",
        "name: a, replicas: [https://other:1], slots: 2, api_key_env: K",
    ):
        assert digest(same) == plain
    for other in (
        "name: b, replicas: [http://h:1]",
        "name: a, replicas: [http://h:1], model: m",
        "name: a, replicas: [http://h:1], sampling: {temperature: 0}",
        'name: a, replicas: [http://h:1], prompt: {system: "Be brief."}',
        f"name: a, replicas: [http://h:1], {GUARDED}",
        "name: a, url: https://h/v1",
    ):
        assert digest(other) != plain


def test_replicas_are_named_by_their_address_each_by_a_name_of_its_own() -> None:
    route = bank(
        "name: a, weight: 3, replicas: [http://h:1, {url: https://p/v1, api_key_env: A}]",
        "name: b, replicas: [http://h:1, {url: https://p/v1, api_key_env: B}]",
    )
    names = [[e.replica for e in release.endpoints] for release in route.releases.values()]
    assert names == [["h:1", "p"], ["h:1", "p#2"]]


def test_all_of_a_release_and_its_limits_is_carried_over_and_survives_the_file() -> None:
    made = snapshot(
        'name: a, url: "openai://h/v1?model=m", api_key_env: K, slots: 9, '
        "sampling: {temperature: 0.5, stop: x}, prompt: {system: S, user: 'U{input}'}",
        more="  limits: {queue: 1, queue_timeout_seconds: 2, request_timeout_seconds: 3, "
        "body_bytes: 4kB, attempts: 5}\n",
    )
    assert decode_snapshot(encode_snapshot(made)) == made
    assert made.open
    route = made.services["bank"]
    [release] = route.releases.values()
    [endpoint] = release.endpoints
    assert (endpoint.base_url, endpoint.slots, endpoint.api_key_env) == ("https://h/v1", 9, "K")
    assert (release.upstream_model, release.prompt.system) == ("m", "S")
    assert release.sampling == {"temperature": 0.5, "stop": ["x"]}
    limits = route.limits
    assert (limits.queue, limits.queue_timeout_s, limits.request_timeout_s) == (1, 2.0, 3.0)
    assert (limits.body_bytes_max, limits.attempts) == (4000, 5)


def test_guardrails_are_carried_over() -> None:
    made = snapshot(f"name: a, replicas: [http://h:1], {GUARDED}")
    [release] = made.services["bank"].releases.values()
    assert release.guardrails == (Guardrail("g", "prompt", "block", phrases=("x",)),)
    assert decode_snapshot(encode_snapshot(made)) == made


def test_all_that_a_service_says_of_serving_is_carried_over() -> None:
    made = snapshot(
        "name: a, weight: 2, engine: vllm, price: {input_per_million: 1, output_per_million: 2}, "
        "url: https://h/v1, outbound: {ca_file: /ca.pem, proxy: 'http://p:3128', "
        "proxy_auth_env: P, link_local: true}",
        "name: t, weight: 0, engine: other, replicas: [http://t:1]",
        more="  fallbacks: [spare]\n  balance: least_loaded\n"
        "  shadow: {release: t, share: 10%, concurrent: 3}\n"
        "  limits: {attempt_timeout_seconds: 4, hedge_after_ms: 50, requests_per_minute: 6,\n"
        "    tokens_per_minute: 7, tokens_per_day: 8, tokens_per_month: 9, usd_per_day: 9.5}\n"
        "- {name: spare, releases: [{name: s, engine: llama.cpp, replicas: [http://s:1]}]}\n"
        "workers: 3\nallow_hosts: [LLM.internal]\nallow_origins: ['https://Chat.example']\n",
    )
    assert decode_snapshot(encode_snapshot(made)) == made
    assert made.workers == 3
    assert made.allow_hosts == ("127.0.0.1", "llm.internal")
    assert made.allow_origins == ("https://chat.example",)
    route = made.services["bank"]
    assert (route.fallbacks, route.balance) == (("spare",), "least_loaded")
    assert (route.limits.attempt_timeout_s, route.limits.hedge_after_ms) == (4.0, 50.0)
    assert route.limits.quota == Quota(
        requests_per_minute=6, tokens_per_minute=7, tokens_per_day=8, tokens_per_month=9,
        usd_per_day=9.5,
    )  # fmt: skip
    assert route.champion is not None
    main = route.releases[route.champion]
    assert (main.continues, main.price) == ("vllm", Price(1.0, 2.0))
    assert main.endpoints[0].outbound == Outbound("/ca.pem", "http://p:3128", "P", True)
    assert route.shadow is not None
    assert (route.shadow.share, route.shadow.concurrent) == (0.1, 3)
    trial = route.releases[route.shadow.release]
    assert (trial.name, trial.continues, trial.endpoints[0].outbound) == ("t", None, DIRECT)
    assert (route.canary, route.weights) == (None, ())
    spare = made.services["spare"]
    assert [r.continues for r in spare.releases.values()] == ["llama.cpp"]
    assert (spare.balance, spare.limits.quota) == ("prefix", NO_QUOTA)


def test_limits_priority_and_tenant_of_keys_are_carried_over() -> None:
    file = parse_gateway_file(
        f"keys:\n- {{name: a, sha256: {'ab' * 32}, priority: 5, tenant: acme, "
        f"limits: {{usd_per_month: 20}}}}\n- {{name: b, sha256: {'cd' * 32}}}\n"
        "tenants: [{name: acme, limits: {tokens_per_day: 9}}]\n"
        "services: [{name: s, releases: [{name: r, replicas: [http://h:1]}]}]\n",
        Path("g.yaml"),
    )
    made = snapshot_of(file, version=1, request_id_key="00")
    a, b = made.keys
    assert (a.id, a.priority, a.tenant, a.quota) == ("a", 5, "acme", Quota(usd_per_month=20.0))
    assert (b.id, b.priority, b.tenant, b.quota) == ("b", 0, None, NO_QUOTA)
    assert made.tenants == {"acme": Quota(tokens_per_day=9)}
    assert set(declared_limits(made)) == {"key:a:usd_per_month", "tenant:acme:tokens_per_day"}
    assert unpriced(file) == ["s, r: has no price, so it costs nothing in limits in USD"]


def test_a_snapshot_that_names_no_keys_is_open_only_when_the_file_says_so() -> None:
    assert not Snapshot(version=1, request_id_key="").open


def test_keys_of_providers_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    file = file_of(
        "name: a, url: https://h/v1, api_key_env: HERE",
        "name: b, url: https://h/v1, api_key_env: GONE",
        f"name: c, url: https://h/v1, api_key_file: {tmp_path / 'key'}",
        "name: d, url: https://h/v1, api_key_file: /gone",
    )
    assert lacking_keys(file, {"HERE": "x"}) == [
        "bank, b: the environment variable GONE is not set",
        "bank, d: the key file /gone is not there",
    ]
