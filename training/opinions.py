"""Short English sentences of praise and of blame, made of templates, as further training texts.

Film reviews are long, speak of films alone, and hardly have some turns that are common elsewhere
("nothing to complain about"). A network of words cannot tell that "not" turns "rude" into praise
unless it has seen both together: these sentences put negations before words of each kind, and have
what people praise and blame in products, services and food. Of what is denied as much is affirmed:
else "bad" alone would become praise.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from lmaas.training.datasets.dataset import Dataset, Split, text_items

Opinion = Literal["negative", "positive"]

#: Of each template at most so many.
MOST: Final = 30
_SEED: Final = 17
_SLOT: Final = re.compile(r"\{(\w+)\}")
_AN: Final = re.compile(r"\b([Aa]) (?=[aeio])")

#: What may stand in the place of {its name}.
_SLOTS: Final[Mapping[str, Sequence[str]]] = {
    name: tuple(each.strip() for each in words.split(","))
    for name, words in {
        "thing": "film, movie, story, plot, acting, ending, book, show, series, game, music, song, "
        "script, cast, phone, laptop, battery, screen, camera, keyboard, sound, picture, product, "
        "quality, device, jacket, bag, car, app, software, service, staff, hotel, room, bed, shop, "
        "delivery, support, doctor, driver, trip, flight, food, restaurant, meal, pizza, soup, "
        "coffee, burger, steak, cake, dessert, bread, wine, breakfast, place, price, design",
        "bought": "phone, laptop, camera, product, device, jacket, bag, book, game, car, app, "
        "ticket, vacuum, watch, charger, toaster, mattress, headset",
        "seen": "film, movie, show, series, book, story, game, concert, play",
        "visited": "hotel, restaurant, shop, place, cafe, bar, company, garage, clinic, bakery",
        "eaten": "food, meal, pizza, soup, steak, burger, cake, dessert, fish, salad, coffee",
        "people": "staff, waiter, waitress, driver, seller, manager, doctor, owner, receptionist",
        "it": "it, this, that, them, this product, this place, this film, this movie, this book, "
        "this phone, this hotel, the food, the service",
        "praise": "good, great, nice, excellent, wonderful, amazing, fantastic, lovely, superb, "
        "brilliant, perfect, beautiful, impressive, enjoyable, interesting, useful, outstanding, "
        "pleasant, awesome, terrific, charming, fun",
        "blame": "bad, terrible, awful, horrible, poor, dull, boring, disappointing, useless, "
        "stupid, ugly, annoying, dreadful, pathetic, weak, mediocre, unpleasant, lousy, a mess, "
        "a joke, garbage, rubbish",
        # What is called so when it is denied: nobody says "not horrible" of what he likes.
        "mild": "bad, boring, dull, bored, disappointed, disappointing, slow, expensive, rude, "
        "dirty, noisy, cold, bland, predictable, annoying, difficult, stupid, cheap, ugly, sorry, "
        "a disappointment, a waste of time, a waste of money, a problem",
        "good_for_people": "friendly, helpful, polite, kind, attentive, professional, patient, "
        "welcoming, competent, nice",
        "bad_for_people": "rude, unfriendly, unhelpful, arrogant, impolite, careless, incompetent, "
        "slow, unprofessional, lazy",
        "good_for_food": "delicious, tasty, fresh, hot, yummy, flavorful, juicy, crispy",
        "bad_for_food": "disgusting, cold, bland, tasteless, stale, overcooked, dry, greasy, "
        "burnt, soggy, undercooked",
        "good_for_goods": "reliable, sturdy, comfortable, fast, solid, durable, easy to use, "
        "well made, worth the money, worth every penny, a bargain, a pleasure to use",
        "bad_for_goods": "broken, defective, unreliable, flimsy, uncomfortable, slow, noisy, "
        "overpriced, faulty, badly made, a waste of money, impossible to use",
        "good_for_places": "clean, quiet, cozy, comfortable, spacious, spotless, charming",
        "bad_for_places": "dirty, noisy, filthy, smelly, cramped, crowded, overpriced, depressing",
        "at": "at all, for the price, for a first try, to be honest",
        "very": "very, so, really, absolutely, just, simply, truly, quite, extremely",
        "not": "is not, isn't, was not, wasn't, is never, was never, is hardly",
        "no": "not, never, hardly",
        "little": "very, that, really, so, particularly, even, all that",
        "is": "is, was",
        "would": "would not, wouldn't, will not, won't, cannot, can't, could not, do not, don't, "
        "would never, will never",
        "did": "did not, didn't, do not, don't, never",
        "enjoy": "like, enjoy, love, appreciate, recommend",
        "mind": "regret, mind, dislike, hate",
        "again": "buy {it} again, go back, come back, return, order again, eat there again, watch "
        "it again, go there again, use {it} again, come here again, stay here again",
        "trouble": "problems, complaints, issues, trouble, regrets, faults, flaws, defects, "
        "difficulties, disappointments",
        "merit": "taste, charm, flavor, quality, humor, point, help, explanation, apology, value, "
        "substance, fun, excitement, imagination",
        "criticize": "complain about, criticize, dislike, fault, regret, worry about",
        "like": "like, praise, recommend, enjoy, be happy about, write home about",
        "what": "what I expected, what I had expected, what was promised, as advertised, as "
        "described, what I ordered, what I paid for, what we wanted",
        "broke": "broke, failed, died, stopped working, fell apart, cracked, leaked, burned out",
        "soon": "after a week, after two weeks, after one day, after a month, within days, on the "
        "first day, almost immediately, the second time I used it",
    }.items()
}

_TEMPLATES: Final[Mapping[Opinion, Sequence[str]]] = {
    "positive": (
        "What a {thing}!",
        "Good.",
        "Good {thing}.",
        "{very} good {thing}.",
        "A good {thing}.",
        "This is a good {thing}.",
        "The {thing} {is} good.",
        "The {thing} {is} {very} good.",
        "{praise}.",
        "{very} {praise}.",
        "It {is} {praise}.",
        "It {is} {very} {praise}.",
        "I was impressed.",
        "A {praise} {thing}.",
        "This is a {praise} {thing}.",
        "Everything about {it} {is} {praise}.",
        "There is a lot to {like}.",
        "It is full of {merit}.",
        "A {seen} with a lot of {merit}.",
        "It is just {what}.",
        "The {bought} works well.",
        "The {eaten} tasted good.",
        "It is worth the money.",
        "The {visited} is {good_for_places}.",
        "The {thing} {is} {praise}.",
        "The {thing} {is} {very} {praise}.",
        "{praise} {thing}!",
        "What a {praise} {thing}!",
        "The {people} {is} {very} {good_for_people}.",
        "{good_for_people} {people}.",
        "The {eaten} {is} {good_for_food}.",
        "The {eaten} {is} {very} {good_for_food} and {praise}.",
        "The {bought} is {good_for_goods}.",
        "This {bought} {is} {very} {good_for_goods}.",
        "The {visited} {is} {good_for_places} and the {people} {good_for_people}.",
        "Not bad.",
        "Not bad {at}.",
        "It's not bad.",
        "The {thing} {not} bad.",
        "The {thing} {not} {mild}.",
        "The {thing} {not} {mild} at all.",
        "This {not} a bad {thing}.",
        "Not a bad {thing}.",
        "{no} {mild}.",
        "{no} {mild} at all.",
        "I was {no} {mild}.",
        "We were not {mild} at all.",
        "It {not} {mild}.",
        "The {people} {not} {bad_for_people}.",
        "The {eaten} {not} {bad_for_food}.",
        "No {trouble}.",
        "No {trouble} with this {bought}.",
        "I have no {trouble} at all.",
        "I never had any {trouble} with {it}.",
        "It works without any {trouble}.",
        "There is nothing to {criticize}.",
        "Nothing to {criticize} here.",
        "I found nothing to {criticize}.",
        "There is nothing wrong with the {thing}.",
        "There is nothing bad to say about {it}.",
        "Nobody will {mind} {it}.",
        "I {did} {mind} {it} at all.",
        "You {would} {mind} {it}.",
        "You will not be {mild}.",
        "It never disappoints.",
        "The {thing} did not disappoint.",
        "The {thing} doesn't disappoint.",
        "There is never a dull moment.",
        "Not one dull minute in this {seen}.",
        "The {thing} could not be better.",
        "I couldn't be happier with the {thing}.",
        "I couldn't ask for a better {thing}.",
        "I cannot praise {it} enough.",
        "I can't say enough good things about {it}.",
        "I can't wait to {again}.",
        "Do not miss {it}.",
        "Don't hesitate to buy {it}.",
        "I have never had a better {eaten}.",
        "I have never seen a better {seen}.",
        "I {enjoy} {it}.",
        "We really {enjoy} the {thing}.",
        "I highly recommend {it}.",
        "I would recommend {it} to everyone.",
        "I would definitely {again}.",
        "We will {again}.",
        "I am very happy with the {thing}.",
        "I am satisfied with {it}.",
        "The best {thing} ever.",
        "One of the best {seen} of the year.",
        "It works well and looks {praise}.",
        "The {bought} works perfectly.",
        "The {bought} arrived on time and works as described.",
        "{it} exceeded my expectations.",
        "It was better than I expected.",
        "The {bought} is worth every penny.",
        "{very} good value for money.",
        "Great value for the price.",
        "The {people} helped us at once.",
        "My family loves {it}.",
        "It made my day.",
        "It kept me on the edge of my seat.",
        "The {thing} made me smile.",
    ),
    "negative": (
        "Bad.",
        "Bad {thing}.",
        "A bad {thing}.",
        "This is a bad {thing}.",
        "The {thing} {is} bad.",
        "The {thing} {is} {very} bad.",
        "{mild}.",
        "{very} {mild}.",
        "It {is} {mild}.",
        "It {is} {very} {mild}.",
        "I was {mild}.",
        "I was {very} {mild}.",
        "We were {mild}.",
        "The {thing} {is} {mild}.",
        "The {thing} {is} {very} {mild}.",
        "You will be {mild}.",
        "A complete waste of time.",
        "A waste of money.",
        "Many {trouble}.",
        "Nothing but {trouble}.",
        "I had {trouble} with {it}.",
        "This {bought} gave me {trouble}.",
        "There is a lot to {criticize}.",
        "I found much to {criticize}.",
        "Everybody will {mind} {it}.",
        "You will {mind} {it}.",
        "{it} disappoints.",
        "The {thing} disappointed us.",
        "There is one dull moment after the other.",
        "The {thing} {is} {blame}.",
        "The {thing} {is} {very} {blame}.",
        "{blame} {thing}!",
        "What a {blame} {thing}!",
        "The {people} {is} {very} {bad_for_people}.",
        "{bad_for_people} {people}.",
        "The {eaten} {is} {bad_for_food}.",
        "The {eaten} {is} {very} {bad_for_food} and {blame}.",
        "The {bought} is {bad_for_goods}.",
        "This {bought} {is} {very} {bad_for_goods}.",
        "The {visited} {is} {bad_for_places} and the {people} {bad_for_people}.",
        "Not good.",
        "Not good {at}.",
        "The {thing} {not} good.",
        "This {not} a good {thing}.",
        "The {thing} {not} {praise}.",
        "The {thing} {not} {little} {praise}.",
        "The {thing} {not} {praise} at all.",
        "This {not} a {praise} {thing}.",
        "Not a {praise} {thing}.",
        "{no} {praise}.",
        "{no} {praise} at all.",
        "{no} {little} {praise}.",
        "It {not} {praise}.",
        "I was {no} impressed.",
        "We were not happy with the {thing}.",
        "The {people} {not} {good_for_people}.",
        "The {eaten} {not} {good_for_food}.",
        "The {bought} {not} {good_for_goods}.",
        "The {visited} {not} {good_for_places}.",
        "The {bought} is not worth the money.",
        "It is not worth your time.",
        "No {merit}.",
        "No {merit} at all.",
        "There is no {merit} in the {thing}.",
        "The {eaten} had no {merit}.",
        "A {seen} without any {merit}.",
        "There is nothing to {like}.",
        "There is nothing {praise} about the {thing}.",
        "Nothing about {it} {is} {praise}.",
        "Nothing works.",
        "Nobody helped us.",
        "Nobody should buy {it}.",
        "I {did} {enjoy} {it}.",
        "I {did} {enjoy} the {thing} at all.",
        "We {did} {enjoy} the {thing}.",
        "I {would} recommend {it}.",
        "I {would} recommend {it} to anyone.",
        "I {would} {again}.",
        "We {would} {again}.",
        "Don't buy {it}.",
        "Do not waste your money on {it}.",
        "Don't waste your time with {it}.",
        "It doesn't work.",
        "The {bought} does not work at all.",
        "The {bought} doesn't work well.",
        "The {eaten} did not taste good.",
        "It {is} not {what}.",
        "The {thing} is nothing like {what}.",
        "The {bought} {broke} {soon}.",
        "It {broke} {soon}.",
        "It never arrived.",
        "The {eaten} arrived late and cold.",
        "We waited an hour for the {eaten}.",
        "The {people} ignored us.",
        "I want a refund.",
        "I want my money back.",
        "I hate {it}.",
        "I regret buying {it}.",
        "Stay away from {it}.",
        "Avoid {it}.",
        "The worst {thing} ever.",
        "One of the worst {seen} of the year.",
        "I am very disappointed with the {thing}.",
        "I am disappointed with {it}.",
        "I have never had a worse {eaten}.",
        "I have never seen a worse {seen}.",
        "{it} was a waste of money.",
        "The {seen} put me to sleep.",
        "It was worse than I expected.",
        "The {eaten} made me sick.",
        "The {thing} could be better.",
        "The {thing} left me cold.",
    ),
}


def with_opinions(dataset: Dataset) -> Dataset:
    """A data set with these labels, and with the sentences to train on."""
    sentences, opinions_of = zip(*opinions(), strict=True)
    numbers = np.array([dataset.labels.index(each) for each in opinions_of], np.int32)
    further = Split(items=text_items(sentences), labels=numbers)
    note = f"{len(further):,} short sentences, made of templates, are learnt from as well"
    return replace(dataset, train=Split.of(dataset.train, further), notes=(*dataset.notes, note))


def opinions() -> Iterator[tuple[str, Opinion]]:
    """The same sentences in the same order every time, none of them twice, as many of praise as of
    blame.
    """
    chance = random.Random(_SEED)
    made = {
        opinion: list(dict.fromkeys(_filled(t, chance) for t in templates for _ in range(MOST)))
        for opinion, templates in _TEMPLATES.items()
    }
    fewest = min(map(len, made.values()))
    for opinion, sentences in made.items():
        for sentence in chance.sample(sentences, fewest):
            yield sentence, opinion


def _filled(template: str, chance: random.Random) -> str:
    """With words in place of the slots, and of those that these words have."""
    while "{" in template:
        template = _SLOT.sub(lambda slot: chance.choice(_SLOTS[slot[1]]), template)
    sentence = _AN.sub(r"\1n ", template)
    return sentence[0].upper() + sentence[1:]
