"""Exchanges, queues and bindings, as data; `broker_config.declaring` makes them. Pure.

Every name is `PREFIX.v1.…`: a change of arguments is a new version, never a 406. Names:

=====================================  ==========================================
`lmaas.v1.work` (direct)               what clients publish; routing key `MODEL.LANE`
`lmaas.v1.copies.MODEL` (direct)       what workers and operators put back into the lanes of a
                                       model, with the same key: the broker says by which exchange
                                       a message came, so that the two can be told apart
`lmaas.v1.work.MODEL.LANE`             one queue a model and lane
`lmaas.v1.any.MODEL.LANE` (x-random)   with the balance "random": one of the workers' own
                                       queues, `lmaas.v1.work.MODEL.LANE.WORKER`
`lmaas.v1.retry.MODEL.DELAY` (fanout)  a queue of the same name a model and delay; its dead
                                       letters go to `copies.MODEL` by their routing key
`lmaas.v1.dead` (fanout)               the dead letter queue, a queue of the same name
`lmaas.v1.results` (topic)             replies; routing key `USER.client.ID` or `USER.job.ID`, the
                                       end of the name of the queue
`lmaas.v1.user.USER.client.ID`         a client's replies, `lmaas.v1.user.USER.job.ID` a job's (its
                                       id and a random part). All of a user of the broker has names
                                       that begin so, and nobody else may have any of them
`lmaas.v1.user.USER.jobs`              the journal of a user's batch jobs
`lmaas.v1.user.USER.own` (direct)      what a user puts into queues of its own; routing key: the
                                       name of the queue
`lmaas.v1.results.client.ID`           names of results queues before there were those of users, and
`lmaas.v1.results.job.ID`              of other programs; workers reach them, and RabbitMQ's direct
                                       reply-to, through the default exchange, if they may
`lmaas.v1.cards` (direct)              what all workers of a model hear: questions for
                                       cards and how they are, packs that were given up;
                                       routing key MODEL, or nothing for all; a queue of
                                       its own for each worker, which ends with its
                                       connection
=====================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Literal
from urllib.parse import quote

from lmaas.broker_config.scheduling import LANES, MAX_PRIORITY

QueueType = Literal["classic", "quorum"]

#: How the names begin that RabbitMQ gives to the callers of its own RPC.
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to."
#: Bytes of a user's name in names; of a longer one its hash is there.
LONGEST_WORD: Final = 64
#: Bytes of a model's name: it is a part of queue names, for which AMQP has 255.
MAX_MODEL_NAME: Final = 200
#: The delays of retries, unless the setting `retry_delays` has others: each is a part
#: of the name of its queue.
RETRY_DELAYS: Final = ("1s", "5s", "30s", "5m")
#: What a delay looks like, and the milliseconds of its units.
RETRY_DELAY: Final = "^[1-9][0-9]{0,3}(ms|s|m)$"
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000}
#: Messages that a consumer may hold unacked, by the type of its queue; 0: any number. A quorum
#: queue takes that for 2,000, and then waits for acks, which those who only look never send.
MOST_HELD: Final = {"classic": 0, "quorum": 65_535}
#: A lane of quorum queues refuses more than this many packs. Classic lanes have no limit at the
#: broker, which would drop what comes back to a full one from a retry queue.
MAX_QUORUM_LENGTH: Final = 1_000_000
#: A lane of quorum queues dead-letters what came back so often. Handing back at a drain counts
#: there, so this is the last resort only, for what ends a worker before it has read the pack.
MAX_DELIVERIES: Final = 100
#: A number that no message comes to. For RabbitMQ 4 that would be -1 as well, but 3.10 takes -1 for
#: less than none, and drops what comes back the first time.
UNLIMITED: Final = 2**31 - 1
#: What a consumer of a quorum queue held is given to others so long after its node is gone. By
#: default RabbitMQ 4.3 waits for a minute, in case the node is only cut off; older ones do not wait
#: at all, and ignore this. A pack that two workers answer is told once.
DISCONNECTED_MS: Final = 2_000
#: With the balance "random", a pack that its worker has not taken within this time goes to the lane
#: that all share: at once, so that nothing waits for a worker that is gone or has no room.
OWN_LANE_MS: Final = 0
#: The own lanes of a worker that is gone are empty, and end after a day.
OWN_LANE_EXPIRES_MS: Final = 24 * 3_600_000
#: Results of a client that is gone are kept this long; those of a job for a week, or shorter
#: (setting keep_results).
CLIENT_RESULTS_MS: Final = 10 * 60_000
JOB_RESULTS_MS: Final = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    type: Literal["direct", "fanout", "topic", "x-random"]


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    source: str
    destination: str
    key: str = ""
    kind: Literal["queue", "exchange"] = "queue"


@lru_cache(maxsize=1024)
def user_word(user: str) -> str:
    """A user's name as a part of names: of letters, digits and `_:-`, and of a bounded length."""
    word = quote(user, safe="").replace(".", "%2E").replace("~", "%7E").replace("%", ":")
    return word if len(word) <= LONGEST_WORD else f"::{sha256(user.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one installation: several can share a broker, each with its prefix."""

    prefix: str = "lmaas"
    #: The user of the broker that makes queues of its own.
    user: str = "guest"

    @property
    def root(self) -> str:
        return f"{self.prefix}.v1"

    @property
    def work(self) -> str:
        return f"{self.root}.work"

    @property
    def dead(self) -> str:
        return f"{self.root}.dead"

    @property
    def results(self) -> str:
        return f"{self.root}.results"

    @property
    def home(self) -> str:
        """How all names of the user begin."""
        return f"{self._users}{user_word(self.user)}"

    @property
    def _users(self) -> str:
        return f"{self.root}.user."

    @property
    def own(self) -> str:
        return f"{self.home}.own"

    @property
    def jobs(self) -> str:
        return f"{self.home}.jobs"

    @property
    def cards(self) -> str:
        return f"{self.root}.cards"

    def copies(self, model: str) -> str:
        return f"{self.root}.copies.{model}"

    def retry(self, model: str, delay: str) -> str:
        return f"{self.root}.retry.{model}.{delay}"

    def work_queue(self, model: str, lane: str) -> str:
        return f"{self.work}.{model}.{lane}"

    def any_worker(self, model: str, lane: str) -> str:
        return f"{self.root}.any.{model}.{lane}"

    def own_lane(self, model: str, lane: str, worker: str) -> str:
        return f"{self.work_queue(model, lane)}.{worker}"

    def client_results(self, client: str) -> str:
        return f"{self.home}.client.{client}"

    def job_results(self, job: str) -> str:
        return f"{self.home}.job.{job}"

    def address(self, queue: str) -> tuple[str, str] | None:
        """Exchange and routing key for a queue with results; None for what is none."""
        if queue.startswith(self._users):
            key = queue.removeprefix(self._users)
            takes = key.partition(".")[2].startswith(("client.", "job."))
            return (self.results, key) if takes else None
        without_user = f"{self.results}.client.", f"{self.results}.job.", DIRECT_REPLY_TO
        return ("", queue) if queue.startswith(without_user) else None

    def is_of(self, queue: str, user: str | None) -> bool:
        """Whether a queue is this user's, or no single user's."""
        if not queue.startswith(self._users):
            return True
        owner = queue.removeprefix(self._users).partition(".")[0]
        return user is not None and owner == user_word(user)

    def are_results_of(self, queue: str, job: str) -> bool:
        """Whether a queue is one that a job has its results in: its id and a random part."""
        return queue.rpartition(".")[0] == self.job_results(job)


def is_model_name(name: str) -> bool:
    """Whether a model can have this name: a folder's, and a part of queue names."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= MAX_MODEL_NAME and name not in {".", ".."} and not {"/", "\0"} & set(name)


def delay_ms(delay: str) -> int:
    """The milliseconds of a delay like `500ms`, `5s` or `2m`, one that `RETRY_DELAY` matches."""
    digits = delay.rstrip("ms")
    return int(digits) * _UNITS[delay.removeprefix(digits)]


def routing_key(model: str, lane: str) -> str:
    return f"{model}.{lane}"


def any_worker_key(model: str, lane: str) -> str:
    """To one of the workers, chosen at random by the broker."""
    return f"{routing_key(model, lane)}.any"


@dataclass(frozen=True, slots=True)
class Topology:
    """What has to be on the broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def topology(
    names: Names,
    queue_type: QueueType = "classic",
    models: Iterable[str] = (),
    retry_delays: Iterable[str] = RETRY_DELAYS,
) -> Topology:
    """All that workers of `models` and their clients need, apart from what users make."""
    delays = tuple(dict.fromkeys(retry_delays))
    exchanges = [
        Exchange(names.work, "direct"),
        Exchange(names.dead, "fanout"),
        Exchange(names.cards, "direct"),
        Exchange(names.results, "topic"),
    ]
    queues = [Queue(names.dead, {"x-queue-type": queue_type, **_looked_at(queue_type)})]
    bindings = [Binding(names.dead, names.dead)]
    for model in models:
        copies = names.copies(model)
        exchanges.append(Exchange(copies, "direct"))
        for delay in delays:
            retry = names.retry(model, delay)
            exchanges.append(Exchange(retry, "fanout"))
            queues.append(Queue(retry, _retry_arguments(copies, queue_type, delay_ms(delay))))
            bindings.append(Binding(retry, retry))
        for lane in LANES:
            queue, key = names.work_queue(model, lane), routing_key(model, lane)
            queues.append(Queue(queue, _work_arguments(names, queue_type)))
            bindings += [Binding(names.work, queue, key), Binding(copies, queue, key)]
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings))


def journal(names: Names, queue_type: QueueType = "classic") -> Topology:
    """What a user needs who has batch jobs."""
    arguments = {"x-queue-type": queue_type, "x-message-ttl": JOB_RESULTS_MS}
    return Topology(
        (Exchange(names.own, "direct"),),
        (Queue(names.jobs, arguments | _looked_at(queue_type)),),
        (Binding(names.own, names.jobs, names.jobs),),
    )


#: Routing key of a question for the cards of all models: none of them has an empty name.
ALL_MODELS: Final = ""


def own_lanes(names: Names, models: Iterable[str], worker: str) -> Topology:
    """What the balance "random" needs besides: a worker's own lanes, chosen among at random.

    They outlive the worker: until then its packs go on to the shared lanes.
    """
    exchanges, queues, bindings = [], [], []
    for model in models:
        for lane in LANES:
            chooser = names.any_worker(model, lane)
            queue = names.own_lane(model, lane, worker)
            arguments = {
                "x-queue-type": "classic",
                "x-max-priority": MAX_PRIORITY,
                "x-message-ttl": OWN_LANE_MS,
                "x-dead-letter-exchange": names.work,
                "x-dead-letter-routing-key": routing_key(model, lane),
                "x-expires": OWN_LANE_EXPIRES_MS,
            }
            exchanges.append(Exchange(chooser, "x-random"))
            queues.append(Queue(queue, arguments))
            key = any_worker_key(model, lane)
            bindings.append(Binding(names.work, chooser, key, kind="exchange"))
            bindings.append(Binding(chooser, queue))
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings))


def client_results(names: Names, client: str, queue_type: QueueType = "classic") -> Topology:
    """A client's results queue: it outlives a lost connection, not a client that stays away."""
    return _results(names, names.client_results(client), queue_type, CLIENT_RESULTS_MS)


def job_results(
    names: Names, job: str, queue_type: QueueType = "classic", expires_ms: int = JOB_RESULTS_MS
) -> Topology:
    """A job's results queue: kept so long after its last use. It needs a `journal`, too."""
    queue = names.job_results(job)
    results = _results(names, queue, queue_type, expires_ms)
    sealed = Binding(names.own, queue, queue)
    return Topology((), results.queues, (*results.bindings, sealed))


def _results(names: Names, queue: str, queue_type: QueueType, expires_ms: int) -> Topology:
    # Quorum queues are not made for one a client, but a classic queue ends with its node.
    arguments = {"x-queue-type": queue_type, "x-expires": expires_ms} | _looked_at(queue_type)
    address = names.address(queue)
    assert address is not None
    exchange, key = address
    return Topology((), (Queue(queue, arguments),), (Binding(exchange, queue, key),))


def _looked_at(queue_type: QueueType) -> dict[str, Any]:
    """For queues whose readers look and put back: a limit would drop what is looked at often."""
    return _handed_out(UNLIMITED) if queue_type == "quorum" else {}


def _handed_out(times: int) -> dict[str, Any]:
    """How a quorum queue hands out what comes back."""
    return {"x-delivery-limit": times, "x-consumer-disconnected-timeout": DISCONNECTED_MS}


_AT_LEAST_ONCE: Final = {
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def _work_arguments(names: Names, queue_type: QueueType) -> dict[str, Any]:
    if queue_type == "classic":
        return {
            "x-queue-type": "classic",
            "x-max-priority": MAX_PRIORITY,
            "x-dead-letter-exchange": names.dead,
        }
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": names.dead,
        **_AT_LEAST_ONCE,
        "x-max-length": MAX_QUORUM_LENGTH,
        **_handed_out(MAX_DELIVERIES),
    }


def _retry_arguments(copies: str, queue_type: QueueType, milliseconds: int) -> dict[str, Any]:
    arguments = {
        "x-queue-type": queue_type,
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": copies,
    }
    return arguments | (_AT_LEAST_ONCE | _looked_at(queue_type) if queue_type == "quorum" else {})
