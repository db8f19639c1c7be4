"""Metrics: right numbers, right text, and one sum over all workers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from gateway_rig import CHAT, A, Engine, Rig, route, snapshot, streams
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.outcomes import FELL_BACK, STOOD_IN, failed_by_server
from fairlead.domain.release import short
from fairlead.gateway.records import metric_families
from fairlead.gateway.records.gen_ai import with_gen_ai
from fairlead.gateway.records.metric_families import Family, add_up, render
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.metrics_share import MetricsShare, Published
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (li.rpartition(" ") for li in lines)}


async def test_a_request_shows_up_in_every_metric_that_counts_it(
    engine: StartEngine, serve: Serve
) -> None:
    rig = await serve(snapshot(route(A, await engine(streams("a", "b", gap=0.02)))))
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        await client.post("/v1/chat/completions", json={"model": "nobody"})
        answer = await client.get("/metrics", headers={"authorization": ""})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    got = samples(answer.text)
    where = 'service="bank",release="aaaaaaaaaaaa"'
    assert got[f'fairlead_gateway_requests_total{{{where},code="200"}}'] == 1
    chat = f'{where},operation="chat"'
    named = 'gen_ai_request_model="bank",gen_ai_response_model="aaaaaaaaaaaa",'
    named += 'gen_ai_operation_name="chat",'
    provider = 'gen_ai_provider_name="fairlead"'
    for own, convention in (
        ("fairlead_gateway_request_duration", "gen_ai_server_request_duration"),
        ("fairlead_gateway_time_to_first_token", "gen_ai_server_time_to_first_token"),
        ("fairlead_gateway_inter_token_latency", "gen_ai_server_time_per_output_token"),
    ):
        assert got[f"{own}_seconds_count{{{chat}}}"] == 1
        for what in ("count", "sum"):
            mine = got[f"{own}_seconds_{what}{{{chat}}}"]
            error = 'error_type="",' if "duration" in own else ""
            theirs = f"{named}{error}{provider}"
            assert got[f"{convention}_seconds_{what}{{{theirs}}}"] == mine
    inputs = f'{named}gen_ai_token_type="input",{provider}'
    assert got[f"gen_ai_client_token_usage_count{{{inputs}}}"] == 1
    assert got[f"gen_ai_client_token_usage_sum{{{inputs}}}"] == 7
    assert got[f'gen_ai_client_token_usage_bucket{{{inputs},le="4"}}'] == 0
    assert got[f'gen_ai_client_token_usage_bucket{{{inputs},le="16"}}'] == 1
    assert got[f'fairlead_gateway_tokens_total{{{where},kind="prompt"}}'] == 7
    assert got['fairlead_gateway_rejected_total{reason="model_not_found"}'] == 1
    assert got['fairlead_gateway_snapshot_version{worker="0"}'] == 1
    assert got['fairlead_gateway_connections{worker="0"}'] == 1
    assert got["fairlead_spool_records_total"] == 1
    assert got["fairlead_spool_lost_records_total"] == 0


def test_the_text_form_has_help_type_escapes_and_cumulative_buckets() -> None:
    counter = Family("c_total", "counter", "Back\\slash\nline.", ("a",))
    counter.inc(('q"\\\n',), 2)
    histogram = Family("h_seconds", "histogram", "H.", (), (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe((), value)
    assert render([counter.state(), histogram.state()]).decode() == (
        "# HELP c_total Back\\\\slash\\nline.\n"
        "# TYPE c_total counter\n"
        'c_total{a="q\\"\\\\\\n"} 2\n'
        "# HELP h_seconds H.\n"
        "# TYPE h_seconds histogram\n"
        'h_seconds_bucket{le="0.1"} 2\n'
        'h_seconds_bucket{le="1"} 3\n'
        'h_seconds_bucket{le="+Inf"} 4\n'
        "h_seconds_sum 7.65\n"
        "h_seconds_count 4\n"
    )


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))), max_size=4))
def test_the_sum_over_workers_is_the_sum_of_what_each_counted(
    workers: list[list[tuple[str, int]]],
) -> None:
    groups = []
    for counted in workers:
        family = Family("x_total", "counter", "X.", ("l",))
        for label, by in counted:
            family.inc((label,), by)
        groups.append([family.state()])
    total = {k: v[0] for state in add_up(groups) for k, v in state.series}
    for label in "abc":
        expected = sum(by for counted in workers for name, by in counted if name == label)
        assert total.get((label,), 0) == expected


def test_label_combinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_families, "SERIES_MAX", 3)
    family = Family("x_total", "counter", "X.", ("l",))
    times = Family("x_seconds", "histogram", "X.", ("l",), (1.0,))
    for number in range(10):
        family.inc((str(number),))
        times.observe((str(number),), 0.5)
    for bounded in (family, times):
        assert len(bounded.state().series) == 4
        assert bounded.get(("other",)) == 7


def counted(requests: float) -> GatewayMetrics:
    metrics = GatewayMetrics()
    metrics.spool_records.inc((), requests)
    metrics.connections.set(("w",), 1)
    return metrics


def total(share: MetricsShare, own: GatewayMetrics) -> tuple[float, float]:
    states = {s.name: s for s in share.total(own.states())}
    gauges = states["fairlead_gateway_connections"].series
    return (
        states["fairlead_spool_records_total"].series[0][1][0],
        sum(v[0] for _, v in gauges),
    )


def age(folder: Path, boot: str, seconds: float) -> None:
    path = folder / f"{boot}.metrics"
    published = msgspec.json.decode(path.read_bytes(), type=Published)
    old = msgspec.structs.replace(published, at=time.time() - seconds)
    path.write_bytes(msgspec.json.encode(old))


def test_counters_of_ended_workers_stay_in_the_sum_and_their_gauges_do_not(
    tmp_path: Path,
) -> None:
    one, two = MetricsShare(tmp_path, "one"), MetricsShare(tmp_path, "two")
    one.publish(counted(10).states())
    assert total(two, counted(5)) == (15, 2)
    age(tmp_path, "one", 10)
    assert total(two, counted(5)) == (15, 1)
    age(tmp_path, "one", 100)
    for _ in range(3):
        MetricsShare(tmp_path, "three").fold_dead()
        assert total(two, counted(5)) == (15, 1)
    assert sorted(os.listdir(tmp_path)) == ["lock", "retired.metrics", "two.metrics"]


def test_no_counter_is_ever_lower_than_what_a_worker_that_was_killed_had_shown(
    tmp_path: Path,
) -> None:
    one, two = MetricsShare(tmp_path, "one"), MetricsShare(tmp_path, "two")
    one.publish(counted(10).states())
    assert total(one, counted(17))[0] == 17
    # It is killed before it publishes again.
    assert total(two, counted(5))[0] == 22


def test_while_the_disk_refuses_all_workers_show_the_same_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = MetricsShare(tmp_path, "one"), MetricsShare(tmp_path, "two")
    alone = MetricsShare(tmp_path, "alone")
    for share in (one, two):
        share.publish(counted(10).states())

    def full(*_given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsShare, "_write", full)
        shown = [total(share, counted(15))[0] for share in (one, two, one, two)]
        assert shown == [20, 20, 20, 20]
        assert total(alone, counted(3))[0] == 23
    assert total(one, counted(16))[0] == 26


def test_a_fold_that_was_killed_before_it_cleaned_up_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    one = MetricsShare(tmp_path, "one")
    one.publish(counted(10).states())
    age(tmp_path, "one", 100)
    left = (tmp_path / "one.metrics").read_bytes()
    three = MetricsShare(tmp_path, "three")
    three.fold_dead()
    (tmp_path / "one.metrics").write_bytes(left)
    assert total(three, counted(0))[0] == 10
    three.fold_dead()
    assert not (tmp_path / "one.metrics").exists()
    assert total(three, counted(0))[0] == 10


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b'{"at":1,"families":[],"folded":["\xff"]}',
        b'{"at":1,"families":[{"name":"fairlead_spool_records_total","kind":"counter","help":"",'
        b'"labels":[],"buckets":[],"series":[[[],[1,2]]]}]}',
    ],
)
def test_a_damaged_file_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.metrics").write_bytes(content)
    (tmp_path / "retired.metrics").write_bytes(content)
    share = MetricsShare(tmp_path, "one")
    share.fold_dead()
    assert total(share, counted(3))[0] == 3


def test_a_folder_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").write_text("in the way")
    share = MetricsShare(tmp_path / "m", "one")
    for _ in range(3):
        share.publish([])
    assert caplog.text.count("cannot be shared") == 1
    assert total(share, counted(3))[0] == 3


def finished(status: int, error: str = "", cost_usd: float = -1.0) -> RequestRecord:
    return RequestRecord(
        "r", "bank", A, "champion", "r1", "k", "u", 0.0, "", 0, "chat", False, status, error,
        1.0, 5.0, -1.0, 10.0, 3, 4, 1, cost_usd,
    )  # fmt: skip


def test_failures_are_counted_by_the_rule_that_everything_goes_by() -> None:
    """They begin at zero with the first request, so that no first failure is overlooked."""
    metrics = GatewayMetrics()
    where = ("bank", short(A))
    metrics.tallies.count(finished(200))
    (state,) = [one for one in metrics.states() if one.name.endswith("requests_failed_total")]
    assert state.series == [(where, [0.0])]
    outcomes = [(200, ""), (404, ""), (499, "client_left"), (500, ""), (429, "queue_full"),
                (200, "upstream_cut"), (200, FELL_BACK), (200, STOOD_IN)]  # fmt: skip
    for status, error in outcomes:
        metrics.tallies.count(finished(status, error))
    failed = sum(failed_by_server(status, error) for status, error in outcomes)
    assert metrics.failed.get(where) == failed == 3


def test_what_answers_cost_is_counted_where_it_is_known() -> None:
    metrics = GatewayMetrics()
    for cost_usd in (0.5, -1.0, 0.25):
        metrics.tallies.count(finished(200, cost_usd=cost_usd))
    assert metrics.cost.get(("bank", short(A))) == 0.75


def test_durations_tell_failures_apart_under_the_conventions_name_alone() -> None:
    metrics = GatewayMetrics()
    for status, error in (
        (200, ""),
        (404, ""),
        (500, ""),
        (429, "queue_full"),
        (499, "client_left"),
    ):
        metrics.tallies.count(finished(status, error))
    by_name = {state.name: state for state in with_gen_ai(metrics.states())}
    own = by_name["fairlead_gateway_request_duration_seconds"]
    assert own.labels == ("service", "release", "operation")
    (((*_,), values),) = own.series
    assert (sum(values[:-1]), values[-1]) == (5, pytest.approx(0.05))
    theirs = by_name["gen_ai_server_request_duration_seconds"]
    at = theirs.labels.index("error_type")
    assert {labels[at]: sum(found[:-1]) for labels, found in theirs.series} == {
        "": 3, "500": 1, "queue_full": 1,
    }  # fmt: skip
    tokens = by_name["gen_ai_client_token_usage"]
    assert {labels[-2]: found[-1] for labels, found in tokens.series} == {
        "input": 15.0, "output": 20.0,
    }  # fmt: skip
    assert tokens.buckets == (
        1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
    )  # fmt: skip


def test_a_histogram_of_another_version_without_kinds_of_failure_is_shown_as_it_is() -> None:
    name = "fairlead_gateway_request_duration_seconds"
    old = Family(name, "histogram", "x", ("service",), (1.0,))
    old.observe(("bank",), 0.5)
    shown, *_ = with_gen_ai([old.state()])
    assert (shown.name, shown.labels) == (name, ("service",))
