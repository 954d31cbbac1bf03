"""Why a pack failed, as logs and headers may tell it."""

from __future__ import annotations

from lmaas.broker_config.headers import shortened
from lmaas.broker_config.messages import ItemError
from lmaas.broker_config.redaction import Redaction
from lmaas.workers.delivery import Delivery


class Reasons:
    """Of one worker, by its name."""

    def __init__(self, worker: str, redaction: Redaction) -> None:
        self._worker = worker
        self._redaction = redaction

    def shown(self, delivery: Delivery, error: ItemError) -> ItemError:
        """What may be said of an error: nothing that was sealed, and what the redaction leaves."""
        return self._redaction.error(delivery.told(error))

    def headers(self, delivery: Delivery, error: ItemError) -> dict[str, str]:
        """What went wrong, as fields of Headers."""
        error = self.shown(delivery, error)
        return {
            "first_error": delivery.headers.first_error or shortened(str(error)),
            "error": str(error.code),
            "reason": shortened(error.message),
            "worker": self._worker,
        }
