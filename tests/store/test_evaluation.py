from __future__ import annotations

import msgspec

from fairlead.domain.verdicts import GateOutcome
from fairlead.store.evaluation import ANSWER_BYTES_MAX, CaseResultRow, GateResultRow
from fairlead.store.interface import Store


def result(case_id: str, score: float | None = 1.0, **changes: str | None) -> CaseResultRow:
    return CaseResultRow(
        release="sha256:a",
        case_id=case_id,
        scorer="exact",
        score=score,
        error=changes.get("error"),
        answer=changes.get("answer") or "yes",
        latency_ms=4.0,
        at=1.0,
    )


def test_a_newer_result_replaces_the_older_one_of_the_same_release_case_and_scorer(
    store: Store,
) -> None:
    store.put_case_results([result("c1", 0.0), result("c2", None, error="timeout")])
    store.put_case_results([result("c2", 1.0)])
    store.put_case_results([])
    assert store.case_results("sha256:a", "exact") == [result("c1", 0.0), result("c2", 1.0)]
    assert store.case_results("sha256:a", "regex") == []
    assert store.case_results("sha256:b", "exact") == []


def test_results_of_named_cases_only_however_many_are_named(store: Store) -> None:
    store.put_case_results([result(f"c{n:04d}") for n in range(1500)])
    wanted = [f"c{n:04d}" for n in range(100, 1300)]
    found = store.case_results("sha256:a", "exact", [*wanted, "c0100", "unknown"])
    assert [r.case_id for r in found] == wanted
    assert store.case_results("sha256:a", "exact", []) == []


def test_results_of_scorers_whose_names_begin_alike_are_deleted(store: Store) -> None:
    rows = [
        msgspec.structs.replace(result("c1"), release=f"sha256:{release}", scorer=scorer)
        for release in "abc"
        for scorer in ("exact", "suite ro-1 x", "suite ro-1 y", "suite ro-10 x", "suite ro-% x")
    ]
    store.put_case_results(rows)
    store.delete_case_results(("sha256:a", "sha256:b"), "suite ro-1 ")
    store.delete_case_results(("sha256:a",), "suite ro-% ")
    left = [row for row in rows if store.case_results(row.release, row.scorer)]
    gone = {(row.release[-1], row.scorer) for row in rows if row not in left}
    assert gone == {
        ("a", "suite ro-1 x"), ("a", "suite ro-1 y"), ("a", "suite ro-% x"),
        ("b", "suite ro-1 x"), ("b", "suite ro-1 y"),
    }  # fmt: skip


def test_a_long_answer_is_cut_between_characters_and_a_broken_one_is_kept_readable(
    store: Store,
) -> None:
    long = "x" + "é" * ANSWER_BYTES_MAX
    store.put_case_results([result("c1", answer=long), result("c2", answer="a\ud800b")])
    kept = store.case_results("sha256:a", "exact")
    assert kept[0].answer == long[: 1 + (ANSWER_BYTES_MAX - 1) // 2]
    assert kept[1].answer == "a?b"


def test_gate_results_come_back_in_order_by_rollout_or_release(store: Store) -> None:
    rows = [
        GateResultRow("r1", "sha256:a", "min", GateOutcome.PASS, b'{"n":1}', 1.0),
        GateResultRow("r1", "sha256:a", "vs", GateOutcome.INCONCLUSIVE, b"{}", 2.0),
        GateResultRow("r2", "sha256:b", "min", GateOutcome.FAIL, b"{}", 3.0),
    ]
    store.put_gate_results(rows)
    store.put_gate_results([])
    found = store.gate_results(rollout="r1")
    assert [(r.gate, r.outcome, r.document) for r in found] == [
        ("min", GateOutcome.PASS, b'{"n":1}'),
        ("vs", GateOutcome.INCONCLUSIVE, b"{}"),
    ]
    assert [r.gate for r in store.gate_results(release="sha256:b")] == ["min"]
    assert [r.id for r in store.gate_results(limit=2)] == [2, 3]
