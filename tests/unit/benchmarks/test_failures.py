"""The pure parts of the failure suite: plans, outputs beside each other, frames that pass by."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pamqp.frame
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header

from benchmarks.failures import faults, outcome, poison, soak
from benchmarks.failures.__main__ import soak_command
from benchmarks.failures.comparison import Row, Verdict, compare
from benchmarks.failures.dead_items import DeadItem
from benchmarks.failures.frames import Held
from benchmarks.failures.job import rows_before
from benchmarks.failures.malformed import malformed, number_of
from benchmarks.failures.outcome import Outcome
from benchmarks.failures.poison import Poison, poison_of
from benchmarks.failures.waits import Span, seconds, waits
from lmaas.broker_config.settings import Settings
from lmaas.workers.pack import read

CALM = [Row(str(number), "positive", f"0.{number}", "") for number in range(5)]
BAD = {2: Poison.SEGFAULT}


def with_poison(error: str = "poison: it ended the process") -> list[Row]:
    return [*CALM[:2], Row("2", "", "", error), *CALM[3:]]


# ------------------------------------------------------------------- comparison


def test_an_output_as_in_the_calm_run_is_right() -> None:
    assert compare(CALM, CALM, {}) == Verdict()
    assert compare(CALM, with_poison(), BAD) == Verdict()


@pytest.mark.parametrize(
    ("output", "lost", "doubled", "wrong"),
    [
        (CALM[:4], 1, 0, 0),
        ([], 5, 0, 0),
        ([*CALM, CALM[4]], 0, 1, 0),
        ([CALM[0], CALM[0], *CALM[2:]], 1, 1, 0),
        ([CALM[1], CALM[0], *CALM[2:]], 0, 0, 1),
        ([Row("0", "negative", "0.0", ""), *CALM[1:]], 0, 0, 1),
        ([Row("0", "positive", "0.9", ""), *CALM[1:]], 0, 0, 1),
        ([Row("0", "", "", "internal: no"), *CALM[1:]], 0, 0, 1),
        ([*CALM, Row("5", "positive", "0.5", "")], 0, 0, 1),
        ([*CALM, Row("x", "positive", "0.5", "")], 0, 0, 1),
    ],
)
def test_every_kind_of_damage_is_counted(
    output: list[Row], lost: int, doubled: int, wrong: int
) -> None:
    verdict = compare(CALM, output, {})
    assert (verdict.lost, verdict.doubled, verdict.wrong) == (lost, doubled, wrong)
    assert len(verdict.examples) == wrong


@pytest.mark.parametrize("error", ["", "time_limit: it ran longer", "poisonous: no"])
def test_a_poison_row_needs_its_error_code(error: str) -> None:
    verdict = compare(CALM, with_poison(error), BAD)
    assert verdict.wrong == 1
    assert "has SEGFAULT, and not the error poison" in verdict.examples[0]


def test_a_poison_row_with_a_label_is_wrong() -> None:
    assert compare(CALM, CALM, BAD).wrong == 1


@pytest.mark.parametrize(
    ("tail", "rows"),
    [
        (b"", 0),
        (b"id,label,score,error\n", 0),
        (b"id,label,score,error\n0,positive,0.9,\n", 1),
        (b"e,0.9,\n41,negative,0.7,\n42,posi", 42),
        (b'7,,,"poison: it ended"\n', 8),
    ],
)
def test_the_rows_of_an_output_are_told_by_its_end(tail: bytes, rows: int) -> None:
    assert rows_before(tail) == rows


# ------------------------------------------------------------------------ plans


@given(st.integers(), st.integers(1, 60))
def test_faults_are_spread_over_the_run_and_over_the_kinds(seed: int, count: int) -> None:
    planned = faults.plan(seed, count)
    assert planned == faults.plan(seed, count)
    assert [fault.at for fault in planned] == sorted(fault.at for fault in planned)
    assert all(faults.FIRST <= fault.at <= faults.LAST for fault in planned)
    slice_ = (faults.LAST - faults.FIRST) / count
    assert all(
        place * slice_ <= fault.at - faults.FIRST + 1e-9 for place, fault in enumerate(planned)
    )
    times = Counter(fault.kind for fault in planned)
    assert max(times.values()) - min(times.get(kind, 0) for kind in faults.Kind) <= 1
    assert all((fault.seconds > 0) == (fault.kind in faults.LASTING) for fault in planned)


@given(st.integers(), st.integers(0, 5))
def test_each_kind_of_poison_has_as_many_rows(seed: int, each: int) -> None:
    found = poison.rows(seed, list(Poison), each, 1_000)
    assert Counter(found.values()) == {kind: each for kind in Poison if each}
    assert all(0 <= row < 1_000 for row in found)


def test_poison_is_known_by_its_word_only() -> None:
    assert all(poison_of(f"a film {kind} indeed") is kind for kind in Poison)
    assert poison_of("jazz, pizzazz and zz top") is None


# ----------------------------------------------------------------------- frames


def delivery(tag: int, *, redelivered: bool = False, channel: int = 1) -> bytes:
    frames = [
        commands.Basic.Deliver("consumer", tag, redelivered, "work", "sentiment.short"),
        header.ContentHeader(body_size=200_000),
        body.ContentBody(b"\xce" * 120_000),
        body.ContentBody(b"\x01" * 80_000),
    ]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


@pytest.mark.parametrize("piece", [1, 7, 100, 4_096, 65_536, 1_000_000])
def test_held_packs_are_counted_in_whatever_pieces_they_come(piece: int) -> None:
    held = Held()
    stream = delivery(1) + delivery(2, redelivered=True) + delivery(3, redelivered=True)
    again = sum(
        held.received(stream[start : start + piece]) for start in range(0, len(stream), piece)
    )
    assert (again, len(held)) == (2, 3)


def test_what_needs_no_ack_is_not_held() -> None:
    held = Held()
    for number, no_ack in ((1, False), (2, True)):
        consume = commands.Basic.Consume(0, "lane", "consumer", no_ack=no_ack, nowait=True)
        held.sent(b"" if number > 1 else b"AMQP\x00\x00\x09\x01")
        held.sent(pamqp.frame.marshal(consume, number))
    assert held.received(delivery(1, channel=1) + delivery(1, redelivered=True, channel=2)) == 0
    assert len(held) == 1


def test_what_is_settled_is_not_held() -> None:
    held = Held()
    held.received(b"".join(map(delivery, range(1, 8))))
    held.sent(b"AMQP\x00\x00\x09\x01")
    for method, left in (
        (commands.Basic.Ack(5), 6),
        (commands.Basic.Ack(3, True), 3),
        (commands.Basic.Nack(4, False, True), 2),
        (commands.Basic.Reject(6, True), 1),
        (commands.Basic.Ack(99), 1),
    ):
        held.sent(pamqp.frame.marshal(method, 1))
        assert len(held) == left


# -------------------------------------------------------------------- malformed


def test_malformed_messages_are_the_same_for_a_seed_and_carry_their_number() -> None:
    made = list(malformed(3, 500, model="sentiment", reply_to="answers"))
    assert made == list(malformed(3, 500, model="sentiment", reply_to="answers"))
    assert [message.number for message in made] == list(range(500))
    assert all(number_of(message.properties) == message.number for message in made)
    assert len({message.kind for message in made}) > 100


def test_most_malformed_bodies_are_refused_and_none_breaks_the_reader() -> None:
    refused = 0
    for message in malformed(4, 2_000, model="sentiment", reply_to="answers"):
        (flags,) = struct.unpack(">H", message.properties[:2])
        assert flags & 1 == 0
        pack = read(message.body, "application/json", Settings())
        refused += pack.error is not None
    assert refused > 1_000


# ------------------------------------------------------------------------- soak


def seen(dead_items: list[DeadItem], **changes: Any) -> Outcome:
    given: dict[str, Any] = {"calm_seconds": 10.0, "seconds": 40.0} | changes
    return Outcome(items=100, seed=1, poison={3: Poison.SLEEP}, dead_items=dead_items, **given)


def dead_item(text: str, code: str) -> DeadItem:
    return DeadItem(text, code, "it ran longer", "", "w")


ASLEEP = dead_item(f"3 a film {Poison.SLEEP}", "time_limit")


@pytest.mark.parametrize(
    ("dead_items", "not_dead_lettered", "misjudged", "twice", "for_nothing"),
    [
        ([ASLEEP], 0, 0, 0, 0),
        ([], 1, 0, 0, 0),
        ([dead_item(ASLEEP.text, "poison")], 1, 1, 0, 0),
        ([ASLEEP, dead_item(ASLEEP.text, "poison")], 0, 1, 1, 0),
        ([ASLEEP, ASLEEP], 0, 0, 1, 0),
        ([ASLEEP, dead_item("4 a film", "poison")], 0, 0, 0, 1),
    ],
)
def test_what_is_dead_lettered_is_judged_row_by_row(
    dead_items: list[DeadItem], not_dead_lettered: int, misjudged: int, twice: int, for_nothing: int
) -> None:
    found = seen(dead_items)
    counts = (
        found.not_dead_lettered,
        found.misjudged,
        found.dead_lettered_twice,
        found.dead_lettered_for_nothing,
    )
    assert tuple(map(len, counts)) == (not_dead_lettered, misjudged, twice, for_nothing)


@pytest.mark.parametrize(
    ("code", "dead_items", "seconds", "ending"),
    [
        (0, [ASLEEP], 14.0, "ok"),
        (0, [ASLEEP], 40.0, "missed"),
        (1, [], 14.0, "missed"),
        (1, None, 0.0, "broken"),
        (4, None, 0.0, "hang"),
        (None, None, 0.0, "hang"),
    ],
)
def test_a_soak_says_how_each_run_ended_and_keeps_what_failed(
    code: int | None, dead_items: list[DeadItem] | None, seconds: float, ending: str
) -> None:
    found = None if dead_items is None else outcome.report(seen(dead_items, seconds=seconds))
    run = soak.judged(7, code, 60.0, found)
    assert (run.ending, run.row[:2]) == (ending, [7, ending])
    summary = soak.report([run], Path("logs"))
    assert all(figure.met for figure in summary.figures) == (ending == "ok")
    titles = [grid.title for grid in summary.tables]
    assert ("Logs of what failed" in titles) == (ending != "ok")


def test_the_ratio_that_is_held_has_no_waits_of_poison() -> None:
    ratios = {
        figure.name: (round(figure.value, 3), figure.at_most)
        for figure in outcome.report(seen([ASLEEP], seconds=16.0, waits=2.25)).figures
    }
    assert ratios[outcome.RATIO] == (1.6, None)
    assert ratios[outcome.RATIO_WITHOUT_WAITS] == (1.375, 1.5)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("retry in 5s after try 1: out_of_memory: MemoryError", [Span(100, 105)]),
        ("retry in 1s after try 1: results_gone: no queue", []),
        ("error: a run did not end within 1 s (setting pack_timeout); ...", [Span(99, 100)]),
        ("an isolated pack, item 7: time_limit: it ran longer than 0.25 s", [Span(99.75, 100)]),
        ("1 items dead-lettered as 3d: time_limit: it ran longer than 1 s", []),
        ("worker process 0 ended with signal SIGALRM, ready for 9 s", [Span(98.5, 100)]),
        ("worker process 0 ended with signal SIGKILL, ready for 9 s", []),
    ],
)
def test_what_workers_say_of_waits(line: str, expected: list[Span]) -> None:
    assert waits([(100.0, line)], alarm=1.5) == expected


def test_waits_are_counted_once_and_not_in_outages_or_after_the_run() -> None:
    waiting = [Span(1, 6), Span(5, 7), Span(9, 14)]
    assert seconds(waiting, without=[Span(2, 3), Span(6.5, 9.5)], within=Span(0, 12)) == 7.0
    assert seconds(waiting, without=[], within=Span(0, 12)) == 9.0
    assert seconds([], without=[], within=Span(0, 12)) == 0.0


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", [7]), ("1-3", [1, 2, 3]), ("7,21-22", [7, 21, 22])]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    context = click.Context(soak_command)
    assert soak_command.get_params(context)[0].process_value(context, text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "1,,2"])
def test_other_seeds_are_refused(text: str) -> None:
    context = click.Context(soak_command)
    with pytest.raises(click.BadParameter, match="neither a number nor a range"):
        soak_command.get_params(context)[0].process_value(context, text)


def test_a_soak_without_its_data_set_says_so_before_the_first_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMAAS_DATASETS", str(tmp_path))
    logs = tmp_path / "logs"
    ended = CliRunner().invoke(soak_command, ["--seeds", "1", "--logs", str(logs)])
    assert ended.exit_code == 1
    assert "IMDB's reviews are missing: set LMAAS_DATASETS" in ended.output
    assert not logs.exists()


async def test_a_run_that_breaks_off_says_its_last_words(tmp_path: Path) -> None:
    told: list[str] = []
    (run,) = await soak.measure([1], ["--items", "nonsense"], tmp_path, tell=told.append)
    assert run.ending == "broken"
    assert "nonsense" in told[0]
    assert "nonsense" in (tmp_path / "seed-1" / soak.OUTPUT).read_text()
