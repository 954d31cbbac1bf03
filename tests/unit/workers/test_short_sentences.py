"""The model that ships on what people write into a form: a sentence, of anything, half of them with
a negation.

It has not learnt from any of these, but from sentences that are made of templates; the templates
were written with half of these at hand.
"""

from __future__ import annotations

from lmaas.broker_config.messages import Item
from lmaas.workers.runtime import Runtime

BLAME = (
    "The movie is not funny.",
    "I would never go back to that place.",
    "It was not what I had hoped for.",
    "This isn't a good product.",
    "None of the dishes was worth its price.",
    "This is the worst film I have ever seen.",
    "Customer service was horrible.",
    "A boring, predictable mess.",
    "The screen cracked within a week, very disappointing.",
    "My parcel came two weeks late and the lid was broken.",
)
PRAISE = (
    "It is not a bad film.",
    "There is nothing wrong with this laptop.",
    "I could not be happier with my purchase.",
    "No complaints, everything worked.",
    "You will not be disappointed by the desserts.",
    "Great movie!",
    "The best coffee in town.",
    "Excellent service, we will come back.",
    "A touching and brilliant film.",
    "Our guide was kind and knew everything.",
)


def test_most_short_sentences_are_understood(runtime: Runtime) -> None:
    items = [Item(id="", text=text) for text in (*BLAME, *PRAISE)]
    expected = [0] * len(BLAME) + [1] * len(PRAISE)
    assert runtime.labels == ["negative", "positive"]
    found = runtime.scores(items).argmax(axis=1).tolist()
    wrong = [
        item.text
        for item, label, right in zip(items, found, expected, strict=True)
        if label != right
    ]
    assert len(wrong) <= 2, wrong
