"""Asks the workers which models they serve, and what is to be known of them."""

from __future__ import annotations

from lmaas.broker_config.connection import Session
from lmaas.broker_config.messages import CARDS, ModelCard, decode_cards
from lmaas.broker_config.settings import Settings
from lmaas.producer.questions import answers


async def cards(
    session: Session, settings: Settings, model: str | None = None, *, first: bool = False
) -> list[ModelCard]:
    """Of every version of a model, or of all models, that answers somewhere; none without a worker.

    Workers may differ while they switch to a new version; with `first` the first answer will do.
    Raises BrokerUnavailable.
    """
    found: dict[tuple[str, str], ModelCard] = {}
    for body in await answers(session, settings, CARDS, model, first=first):
        for card in decode_cards(body):
            found.setdefault((card.model, card.version), card)
    # Versions are whole numbers, of which any answer may have made something else.
    return sorted(found.values(), key=lambda card: (card.model, len(card.version), card.version))
