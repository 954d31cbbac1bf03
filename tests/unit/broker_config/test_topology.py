"""The queues as data: the tables that RabbitMQ 3.10 to 4.3 accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from lmaas.broker_config.definitions import definitions
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.topology import (
    RETRY_DELAYS,
    Binding,
    Exchange,
    Names,
    QueueType,
    client_results,
    job_results,
    routing_key,
    topology,
    user_word,
)

NAMES = Names("p")
both_types = pytest.mark.parametrize("queue_type", get_args(QueueType))

WORK = {
    "classic": {
        "x-queue-type": "classic",
        "x-max-priority": 4,
        "x-dead-letter-exchange": "p.v1.dead",
    },
    "quorum": {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "p.v1.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": 1_000_000,
        "x-delivery-limit": 100,
        "x-consumer-disconnected-timeout": 2_000,
    },
}
RETRY = {
    "classic": {"x-queue-type": "classic", "x-dead-letter-exchange": "p.v1.copies.m"},
    "quorum": {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "p.v1.copies.m",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": 2**31 - 1,
        "x-consumer-disconnected-timeout": 2_000,
    },
}
UNLIMITED = {
    "classic": {"x-queue-type": "classic"},
    "quorum": {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2**31 - 1,
        "x-consumer-disconnected-timeout": 2_000,
    },
}
LANE_NAMES = ("instant", "short", "medium", "long", "huge")
WEEK = 7 * 24 * 3600 * 1000


@both_types
def test_every_queue_and_its_arguments(queue_type: QueueType) -> None:
    queues = topology(NAMES, queue_type, ["m"]).queues
    assert {queue.name: queue.arguments for queue in queues} == {
        "p.v1.dead": UNLIMITED[queue_type],
        "p.v1.retry.m.1s": {**RETRY[queue_type], "x-message-ttl": 1_000},
        "p.v1.retry.m.5s": {**RETRY[queue_type], "x-message-ttl": 5_000},
        "p.v1.retry.m.30s": {**RETRY[queue_type], "x-message-ttl": 30_000},
        "p.v1.retry.m.5m": {**RETRY[queue_type], "x-message-ttl": 300_000},
        **{f"p.v1.work.m.{lane}": WORK[queue_type] for lane in LANE_NAMES},
    }


def test_each_delay_that_is_set_has_one_queue() -> None:
    wanted = topology(NAMES, models=["m"], retry_delays=["50ms", "2m", "50ms"])
    delays = {
        queue.name: queue.arguments["x-message-ttl"]
        for queue in wanted.queues
        if ".retry." in queue.name
    }
    assert delays == {"p.v1.retry.m.50ms": 50, "p.v1.retry.m.2m": 120_000}
    retries = [exchange for exchange in wanted.exchanges if ".retry." in exchange.name]
    assert retries == [Exchange(name, "fanout") for name in delays]
    assert {binding.source for binding in wanted.bindings if ".retry." in binding.source} == {
        *delays
    }


@both_types
def test_exchanges_and_bindings_do_not_depend_on_the_type(queue_type: QueueType) -> None:
    wanted = topology(NAMES, queue_type, ["m"])
    assert set(wanted.exchanges) == {
        Exchange("p.v1.work", "direct"),
        Exchange("p.v1.dead", "fanout"),
        Exchange("p.v1.cards", "direct"),
        Exchange("p.v1.results", "topic"),
        Exchange("p.v1.copies.m", "direct"),
        Exchange("p.v1.retry.m.1s", "fanout"),
        Exchange("p.v1.retry.m.5s", "fanout"),
        Exchange("p.v1.retry.m.30s", "fanout"),
        Exchange("p.v1.retry.m.5m", "fanout"),
    }
    assert set(wanted.bindings) == {
        Binding("p.v1.dead", "p.v1.dead"),
        Binding("p.v1.retry.m.1s", "p.v1.retry.m.1s"),
        Binding("p.v1.retry.m.5s", "p.v1.retry.m.5s"),
        Binding("p.v1.retry.m.30s", "p.v1.retry.m.30s"),
        Binding("p.v1.retry.m.5m", "p.v1.retry.m.5m"),
        *(
            Binding(exchange, f"p.v1.work.m.{lane}", f"m.{lane}")
            for lane in LANE_NAMES
            for exchange in ("p.v1.work", "p.v1.copies.m")
        ),
    }


@both_types
def test_what_some_versions_refuse_or_drop_is_nowhere(queue_type: QueueType) -> None:
    wanted = topology(NAMES, queue_type, ["a", "b"])
    for queue in (
        *wanted.queues,
        *client_results(NAMES, "c", queue_type).queues,
        *job_results(NAMES, "j", queue_type).queues,
    ):
        kind = queue.arguments["x-queue-type"]  # never left to the broker's default
        given = set(queue.arguments)
        assert not given & {"x-queue-mode", "x-queue-version", "x-dead-letter-routing-key"}
        if kind == "quorum":
            assert "x-max-priority" not in given
        else:
            assert not given & {
                "x-delivery-limit",
                "x-dead-letter-strategy",
                "x-max-length",
                "x-consumer-disconnected-timeout",
            }


@both_types
def test_models_have_lanes_of_their_own(queue_type: QueueType) -> None:
    one, two = (topology(NAMES, queue_type, models) for models in (["a"], ["a", "b"]))
    added = {queue.name for queue in two.queues} - {queue.name for queue in one.queues}
    lanes = {NAMES.work_queue("b", lane) for lane in LANES}
    assert added == lanes | {NAMES.retry("b", delay) for delay in RETRY_DELAYS}


@both_types
def test_prefixes_share_nothing(queue_type: QueueType) -> None:
    mine, theirs = (topology(Names(prefix), queue_type, ["m"]) for prefix in ("a", "b"))
    assert not {queue.name for queue in mine.queues} & {queue.name for queue in theirs.queues}
    assert not set(mine.exchanges) & set(theirs.exchanges)


def test_every_binding_joins_what_is_declared() -> None:
    wanted = topology(NAMES, "classic", ["m"])
    exchanges = {exchange.name for exchange in wanted.exchanges}
    queues = {queue.name for queue in wanted.queues}
    dead_letters = {queue.arguments.get("x-dead-letter-exchange") for queue in wanted.queues}
    # The queues for questions are their workers' own, those for results their users'.
    others = {NAMES.cards, NAMES.results}
    assert {binding.source for binding in wanted.bindings} == exchanges - others
    assert {binding.destination for binding in wanted.bindings} == queues
    assert dead_letters - {None} <= exchanges


@both_types
def test_results_queues_end_by_themselves(queue_type: QueueType) -> None:
    (client,) = client_results(NAMES, "c", queue_type).queues
    (job,) = job_results(NAMES, "j", queue_type).queues
    assert (client.name, job.name) == ("p.v1.user.guest.client.c", "p.v1.user.guest.job.j")
    assert client.arguments == UNLIMITED[queue_type] | {"x-expires": 600_000}
    assert job.arguments == UNLIMITED[queue_type] | {"x-expires": WEEK}


@pytest.mark.parametrize(
    ("user", "word"),
    [
        ("shop", "shop"),
        ("a.b", "a:2Eb"),
        ("a:2Eb", "a:3A2Eb"),
        ("*.#~", ":2A:2E:23:7E"),
        ("ü", ":C3:BC"),
        ("x" * 64, "x" * 64),
    ],
)
def test_a_user_is_one_word_of_names(user: str, word: str) -> None:
    assert user_word(user) == word
    assert Names("p", user).jobs == f"p.v1.user.{word}.jobs"


def test_users_with_long_names_have_words_that_differ() -> None:
    words = {user_word("x" * 65), user_word("x" * 66), user_word("." * 22)}
    assert len(words) == 3
    assert max(map(len, words)) < 64


def test_workers_reach_results_of_users_and_of_programs_without_one() -> None:
    names = Names("p", "a.b")
    assert names.address(names.client_results("c")) == ("p.v1.results", "a:2Eb.client.c")
    assert names.address(names.job_results("j.1")) == ("p.v1.results", "a:2Eb.job.j.1")
    for queue in ("p.v1.results.client.c", "p.v1.results.job.j", "amq.rabbitmq.reply-to.x"):
        assert names.address(queue) == ("", queue)
        assert names.is_of(queue, None)
    for queue in (names.jobs, names.own, names.dead, "p.v1.user.client.c", "q.v1.results.client.c"):
        assert names.address(queue) is None


def test_a_queue_is_of_its_user_alone() -> None:
    queue = Names("p", "a.b").client_results("c")
    assert NAMES.is_of(queue, "a.b")
    assert not [
        other for other in ("a", "a.b.client", "a:2Eb", "", None) if NAMES.is_of(queue, other)
    ]


def test_a_routing_key_is_a_model_and_a_lane() -> None:
    assert routing_key("sentiment", "short") == "sentiment.short"


def test_the_committed_definitions_are_those_of_the_topology() -> None:
    path = Path(definitions.__code__.co_filename).with_name("definitions.json")
    wanted = definitions(topology(Names(), "classic", ["sentiment"]))
    assert json.loads(path.read_text()) == wanted, (
        "run: lmaas broker definitions --model sentiment > broker_config/definitions.json"
    )


def test_definitions_are_in_their_virtual_host() -> None:
    made = definitions(topology(NAMES, "quorum", ["m"]), "staging")
    assert made["vhosts"] == [{"name": "staging"}]
    for kind in ("exchanges", "queues", "bindings"):
        assert {one["vhost"] for one in made[kind]} == {"staging"}
    assert not {"users", "permissions"} & set(made)
