"""A hook in the settings: `[gateway.hooks.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from lmaas.broker_config.messages import MinScore, TopK
from lmaas.producer.gateway.secret import WithSecrets


class Callback(WithSecrets, frozen=True, kw_only=True):
    """Where the events of a hook's jobs go: `[gateway.hooks.NAME.callback]`."""

    url: str


class Hook(WithSecrets, frozen=True, kw_only=True):
    """Who may send, and how what is sent becomes items of a model."""

    #: Standard Webhooks, GitHub's `X-Hub-Signature-256`, a timestamped HMAC as Stripe's, a bearer
    #: token; "none": whoever reaches it.
    scheme: Literal["standard", "github", "stripe", "bearer", "none"]
    #: The header with the signature or token, where it is not the scheme's own.
    header: str | None = None
    #: JMESPath, over the body: the items, or one; false or an empty list: there is nothing to do.
    items: str = "@"
    #: JMESPath, over an item: its text, and its id (without: its place, from 0).
    text: str
    id: str | None = None
    model: str
    version: str | None = None
    top_k: TopK = 0
    #: Below this score the label is `unsure`; of a multi-label model each label needs it. What the
    #: model says when left out.
    min_score: MinScore | None = None
    #: "wait": the answer has the results. "job": the answer has the id of a job.
    reply: Literal["wait", "job"] = "wait"
    #: With reply = "job": whom to tell of its end, and whose it is: the owner of an API key.
    callback: Callback | None = None
    owner: str = ""
    #: Seconds for which a delivery is known, so that it is not done again.
    remember: Annotated[float, msgspec.Meta(ge=600)] = 30 * 86_400.0
