"""Questions: what they may do, how long they may take, and what is missing in an answer."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead.domain.errors import FairleadError, InvalidInput, NotFound, Unavailable
from fairlead.telemetry.catalogue import SpoolPosition
from fairlead.telemetry.files import Folder
from fairlead.telemetry.questions import BY, Measure, figures
from fairlead.telemetry.reader import Scope
from fairlead.telemetry.standing import standing

from .conftest import HOUR, NOON, Rig, request, said

AT = {"b1": SpoolPosition(1, 100, complete_until=NOON + 30.0)}


@pytest.fixture
def filled(rig: Rig) -> Rig:
    """Two hours, two services, one failure, one shadow."""
    records = [
        request(f"q{n}", NOON + n * 600, service="bank" if n % 2 else "search") for n in range(12)
    ]
    records[3] = request("q3", NOON + 3 * 600, status=503, error="no_replica", cost_usd=0.25)
    records.append(request("q1.shadow", NOON + 600, arm="shadow", status=500))
    rig.store().take_in(records, [said("f1", "q1"), said("f2", "q2", value=0.0)], AT)
    return rig


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW records",
        "CREATE TABLE x (a INT)",
        "DELETE FROM records",
        "INSERT INTO records SELECT * FROM records",
        "COPY records TO '{outside}'",
        "COPY (SELECT 1) TO '{inside}'",
        "EXPORT DATABASE '{outside}'",
        "ATTACH '{outside}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 4",
        "SET enable_external_access = true",
        "RESET allowed_paths",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW records",
        "",
        ";",
        "-- nothing",
        "SELEC 1",
        "SELECT nothing FROM records",
        "SELECT * FROM nowhere",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_json('{secret}')",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM parquet_metadata('{secret}')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
        "SELECT * FROM secret",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        'SELECT * FROM "arrow_scan"(1, 2, 3)',
        "SELECT * FROM pandas_scan(4)",
        "SELECT * FROM query('SELECT * FROM arr' || 'ow_scan(1, 2, 3)')",
        "SELECT * FROM query_table(['records'])",
        "SELECT * FROM json_execute_serialized_sql('x')",
        "SELECT E'\\'' FROM query('SELECT 1')",
        "SELECT $$ ' $$ FROM main.\"Query\" /* ' */ ('SELECT 1')",
        "SELECT 1 -- '\nFROM query\u00a0\n('SELECT 1')",
        "SELECT\u2003'\u2003\u2003☃'\u2003FROM\u2003\u2003query\u2003('SELECT 1')",
        "SELECT\u2003E'\\'' FROM query('SELECT 1') -- '",
        "SELECT 1 FROM\u200bquery\u200b('SELECT 1')",
        "SELECT getenv('HOME')",
        "FROM enable_logging()",
    ],
)
def test_a_question_can_read_the_store_and_nothing_else(
    filled: Rig, tmp_path: Path, sql: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a\n1\n")
    outside, inside = tmp_path / "outside", filled.data()[0]
    before = inside.read_bytes()
    reader = filled.reader()
    reader.ask("SELECT 1")
    with pytest.raises(InvalidInput):
        reader.ask(sql.format(secret=secret, outside=outside, inside=inside))
    assert not outside.exists()
    assert inside.read_bytes() == before
    assert reader.ask("SELECT count(*) FROM records").rows == [(13,)]


def test_what_people_ask(filled: Rig) -> None:
    reader = filled.reader()
    asked = {
        "FROM records SELECT count(*)": [(13,)],
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x": [(1,)],
        "SELECT 'query(', count(*) AS query FROM records WHERE service <> 'query' -- query(1)": [
            ("query(", 13)
        ],
        "SELECT name FROM (SHOW TABLES)": [("feedback",), ("records",)],
        "SELECT count(*) FROM (DESCRIBE records)": [(29,)],
        "SELECT r.id, f.value FROM records r JOIN feedback f ON f.request = r.id ORDER BY 1": [
            ("q1", 1.0),
            ("q2", 0.0),
        ],
        "SELECT date_trunc('hour', started_at), count(*) FROM records GROUP BY 1 ORDER BY 1": [
            ("2026-09-21 14:00:00", 7),
            ("2026-09-21 15:00:00", 6),
        ],
        "SELECT [1, 2], {'a': DATE '2026-01-02'}, 1.5::DECIMAL(4, 1), INTERVAL 1 HOUR": [
            ([1, 2], {"a": "2026-01-02"}, 1.5, "1:00:00")
        ],
    }
    assert {sql: reader.ask(sql).rows for sql in asked} == asked
    assert reader.ask("SELECT id FROM records WHERE status = $1", [503]).rows == [("q3",)]


def test_now_in_sql_is_the_same_clock_as_the_records(filled: Rig) -> None:
    """Times are in UTC, whatever zone the machine is in."""
    reader = filled.reader()
    rows = reader.ask("SELECT abs(epoch(now()) - epoch(CAST(now() AS TIMESTAMP))) < 1").rows
    assert rows == [(True,)]


def test_a_scope_opens_only_the_files_it_needs(filled: Rig) -> None:
    reader = filled.reader()
    for path in filled.data():
        if "search" in path.parts or "T15" in str(path):
            path.write_bytes(b"would be an error")
    scope = Scope(since=NOON + 600, until=NOON + 1_800, services=("bank",))
    answer = reader.ask("SELECT id FROM records ORDER BY id", scope=scope)
    assert (answer.rows, answer.left_out) == ([("q1",), ("q1.shadow",)], [])


def test_a_question_that_takes_too_long_is_ended(filled: Rig) -> None:
    reader = filled.reader(time_limit_s=0.3)
    with pytest.raises(Unavailable, match=r"longer than 0\.3 s"):
        reader.ask("SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range > 5")
    assert reader.ask("SELECT count(*) FROM records").rows == [(13,)]


def test_an_error_that_a_question_computes_does_not_have_every_file_read(
    filled: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_sound(*_: Any) -> bool:
        raise AssertionError("a file was read")

    monkeypatch.setattr("fairlead.telemetry.files.Folder.is_sound", is_sound)
    for sql, message in (
        ("SELECT (SELECT id FROM records)", "More than one row"),
        ("SELECT strptime(id, '%Y') FROM records", "Could not parse"),
        ("SELECT error(id) FROM records", "q1"),
    ):
        with pytest.raises(InvalidInput, match=message):
            filled.reader().ask(sql)


def test_looking_for_damage_is_part_of_the_time_a_question_has(
    filled: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.data()[0].write_bytes(b"nothing of the kind")
    reader, sound = filled.reader(), Folder.is_sound
    ahead = 0.0

    def is_sound(*given: Any) -> bool:
        nonlocal ahead
        ahead += 20.0
        return sound(*given)

    monkeypatch.setattr("fairlead.telemetry.files.Folder.is_sound", is_sound)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr("fairlead.telemetry.reader.time", clock)
    with pytest.raises(Unavailable, match="longer than 30 s"):
        reader.ask("SELECT * FROM records")
    assert ahead == 40.0


def test_a_question_that_needs_too_much_memory_is_ended(filled: Rig) -> None:
    reader = filled.reader(memory_mb=64)
    with pytest.raises(FairleadError, match=r"[Mm]emory|space"):
        reader.ask("SELECT list(range || 'x') FROM range(50000000)")
    assert reader.ask("SELECT count(*) FROM records").rows == [(13,)]


def test_there_are_at_most_as_many_rows_as_asked_for(filled: Rig) -> None:
    reader = filled.reader()
    for limit, more in ((12, True), (13, False)):
        answer = reader.ask("FROM records", limit=limit)
        assert (len(answer.rows), answer.more) == (limit, more)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "footer", "body"])
def test_a_damaged_file_is_left_out_and_the_answer_says_so(filled: Rig, damage: str) -> None:
    reader = filled.reader()
    assert reader.ask("SELECT count(*) FROM records").left_out == []
    (victim,) = [p for p in filled.data() if "search" in p.parts and "T14" in str(p)]
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "footer":
        victim.write_bytes(content[:-40] + bytes(40))
    else:
        victim.write_bytes(
            content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :]
        )
    answer = filled.reader().ask("SELECT count(*), count(id), count(unit) FROM records")
    assert answer.rows == [(10, 10, 10)]
    assert answer.left_out == [
        "3 records of search between 2026-09-21 14:00:00 and 2026-09-21 14:40:00: 1 damaged file"
    ]
    found = standing(filled.folder, check=True)
    assert found.damaged == answer.left_out


def test_one_flipped_bit_is_found_by_a_check(filled: Rig) -> None:
    victim = filled.data()[-1]
    content = bytearray(victim.read_bytes())
    content[20] ^= 4
    victim.write_bytes(content)
    assert standing(filled.folder).damaged == []
    assert len(standing(filled.folder, check=True).damaged) == 1


def test_damaged_files_are_counted_one_by_one(filled: Rig) -> None:
    victims = [path for path in filled.data() if "bank" in path.parts]
    for path in victims:
        path.write_bytes(b"nothing of the kind")
    found = standing(filled.folder, check=True)
    assert (len(found.damaged), found.damaged_files, len(victims)) == (1, 2, 2)


def test_the_standing_says_what_there_is(filled: Rig) -> None:
    found = standing(filled.folder)
    assert (found.records, found.feedback, found.partitions, found.files) == (13, 2, 4, 4)
    assert (found.oldest, found.newest) == (NOON, NOON + 6_600)
    assert (found.complete_until, found.duplicates, found.expired) == (NOON + 30.0, 0, 0)
    assert found.bytes == sum(path.stat().st_size for path in filled.data())
    assert found.bytes_per_million is not None
    assert found.damaged == []


def test_no_store_is_an_error_that_says_so(rig: Rig) -> None:
    for ask in (rig.reader, lambda: standing(rig.folder)):
        with pytest.raises(NotFound, match="no telemetry store here"):
            ask()
    assert not rig.folder.exists()


def test_an_empty_store_has_empty_tables(rig: Rig) -> None:
    rig.store()
    assert rig.reader().ask("SELECT count(*), sum(cost_usd) FROM records").rows == [(0, None)]
    assert rig.reader().ask("SELECT count(*) FROM feedback").rows == [(0,)]
    found = standing(rig.folder)
    assert (found.records, found.bytes_per_million, found.complete_until) == (0, None, None)


def test_files_of_before_a_column_was_added_have_null_in_it(
    filled: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older version wrote is read, and merged, by a newer one."""
    import sqlite3

    store = filled.store()
    (old, *_) = store.catalogue.files(kind="records")
    narrow = filled.folder / "tmp" / "narrow.parquet"
    store.engine.execute(
        f"COPY (SELECT * EXCLUDE (refused, malformed) FROM"
        f" '{filled.folder}/data/{old.place}') TO '{narrow}'"
    )
    narrow.replace(filled.folder / "data" / old.place)
    connection = sqlite3.connect(filled.folder / "catalogue.db")
    connection.execute("UPDATE files SET columns = columns - 2 WHERE id = ?", [old.id])
    connection.commit()
    connection.close()
    answer = filled.reader().ask("SELECT count(*), count(status), count(malformed) FROM records")
    assert answer.rows == [(13, 13, 0)]


def test_figures_are_those_of_the_records(filled: Rig) -> None:
    reader = filled.reader()
    answer = figures(reader, Scope(), ["service"], [Measure.TTFT])
    assert [(g.by, g.requests, g.failed) for g in answer.groups] == [
        ({"service": "bank"}, 6, 1),
        ({"service": "search"}, 6, 0),
    ]
    assert (answer.groups[0].cost_usd, answer.groups[0].costed) == (0.25, 1)
    assert (answer.groups[0].prompt_tokens, answer.groups[0].completion_tokens) == (600, 300)
    (whole,) = figures(reader, Scope()).groups
    assert (whole.by, whole.requests, whole.failed, whole.quantiles) == ({}, 12, 1, {})
    hours = figures(reader, Scope(services=("bank",)), ["hour", "release"]).groups
    assert [(g.by["hour"], g.requests) for g in hours] == [(NOON, 3), (NOON + HOUR, 3)]
    assert figures(reader, Scope(services=("none",)), ["key"], list(Measure)).groups == []
    for name in BY:
        assert sum(g.requests for g in figures(reader, Scope(), [name]).groups) == 12
    with pytest.raises(InvalidInput, match="there is only service, release"):
        figures(reader, Scope(), ["1; DROP VIEW records"])


def test_quantiles_are_those_of_the_requests_that_have_the_measure(rig: Rig) -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(0, 2) for _ in range(3_001)]
    records = [request(f"q{n}", NOON + n * 1e-3, ttft_ms=value) for n, value in enumerate(values)]
    rig.store().take_in([*records, request("none", NOON, ttft_ms=-1.0)], [], AT)
    (whole,) = figures(rig.reader(), Scope(), [], list(Measure)).groups
    found = whole.quantiles["ttft_ms"]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert found.count == 3_001
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx(
        [cuts[49], cuts[89], cuts[94], cuts[98]], rel=1e-6
    )
    assert whole.quantiles["itl_ms"].p50 == 15.5
