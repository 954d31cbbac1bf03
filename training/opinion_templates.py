"""The templates of `opinions`, and the words that fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

#: A template of praise, and one of blame. A slot that both have is filled alike in both.
Pair = tuple[str, str]

#: What may stand in the place of {its name}, the commonest first.
SLOTS: Final[Mapping[str, Sequence[str]]] = {
    name: tuple(each.strip() for each in words.split(","))
    for name, words in {
        # --- of what is spoken
        "thing": "film, movie, story, plot, acting, ending, book, show, series, game, music, song, "
        "script, cast, phone, laptop, battery, screen, camera, keyboard, sound, picture, product, "
        "quality, device, jacket, bag, car, app, software, service, staff, hotel, room, bed, shop, "
        "delivery, support, doctor, driver, trip, flight, food, restaurant, meal, pizza, soup, "
        "coffee, burger, steak, cake, dessert, bread, wine, breakfast, place, price, design, "
        "website, packaging, fabric, concert, lesson, course, teacher, haircut, holiday, view",
        "bought": "phone, laptop, camera, product, device, jacket, bag, book, game, car, app, "
        "ticket, vacuum, watch, charger, toaster, mattress, headset, printer, chair, tablet, "
        "speaker, blender, pair of shoes, sweater, toy",
        "seen": "film, movie, show, series, book, story, game, concert, play, episode, novel, "
        "comedy, sequel, album",
        "visited": "hotel, restaurant, shop, place, cafe, bar, company, garage, clinic, bakery, "
        "store, museum, room, apartment, salon",
        "eaten": "food, meal, pizza, soup, steak, burger, cake, dessert, fish, salad, coffee, "
        "pasta, chicken, sandwich, breakfast, rice",
        "people": "staff, waiter, waitress, driver, seller, manager, doctor, owner, receptionist, "
        "nurse, mechanic, support team, customer service, guide",
        "parts": "dishes, rooms, songs, jokes, characters, actors, features, items, lessons, "
        "waiters, buttons, drinks, stories, scenes",
        "app": "app, software, website, update, program, game, phone, laptop, computer, site",
        "it": "it, this, that, them, this product, this place, this film, this movie, this book, "
        "this phone, this hotel, this app, this restaurant, the food, the service",
        # --- what is said of it
        "praise": "good, great, nice, excellent, wonderful, amazing, fantastic, lovely, "
        "superb, brilliant, perfect, beautiful, impressive, enjoyable, interesting, useful, "
        "outstanding, pleasant, awesome, terrific, charming, fun, funny, clever, exciting, "
        "entertaining, delightful, magnificent, incredible, cool, elegant, special, fine, "
        "satisfying, convincing, touching",
        "blame": "bad, terrible, awful, horrible, poor, dull, boring, disappointing, useless, "
        "stupid, ugly, annoying, dreadful, pathetic, weak, mediocre, unpleasant, lousy, a mess, "
        "a joke, garbage, rubbish, trash, junk, crap, ridiculous, tedious, worthless, lame, silly, "
        "painful, frustrating, confusing, abysmal, atrocious, a disaster, a disappointment",
        # What is called so when it is denied: nobody says "not horrible" of what he likes.
        "mild": "bad, boring, disappointing, slow, expensive, disappointed, dull, bored, "
        "rude, dirty, noisy, cold, bland, predictable, annoying, difficult, stupid, cheap, ugly, "
        "sorry, hard, complicated, confusing, long, loud, unhappy, overpriced, silly, "
        "a disappointment, a waste of time, a waste of money, a problem, a mistake",
        "good_for_people": "friendly, helpful, polite, kind, attentive, professional, patient, "
        "welcoming, competent, nice, honest, caring, quick, courteous",
        "bad_for_people": "rude, unfriendly, unhelpful, arrogant, impolite, careless, incompetent, "
        "slow, unprofessional, lazy, dishonest, impatient, pushy, clueless",
        "good_for_food": "delicious, tasty, fresh, hot, yummy, flavorful, juicy, crispy, tender",
        "bad_for_food": "disgusting, cold, bland, tasteless, stale, overcooked, dry, greasy, "
        "burnt, soggy, undercooked, salty, raw, gross, inedible",
        "good_for_goods": "reliable, sturdy, comfortable, fast, solid, durable, easy to use, "
        "well made, worth the money, worth every penny, a bargain, a pleasure to use, handy, "
        "practical, light, bright, sharp, accurate, safe",
        "bad_for_goods": "broken, defective, unreliable, flimsy, uncomfortable, slow, noisy, "
        "overpriced, faulty, badly made, a waste of money, impossible to use, heavy, damaged, "
        "scratched, dangerous, unusable, buggy",
        "good_for_places": "clean, quiet, cozy, comfortable, spacious, spotless, charming, tidy, "
        "well kept",
        "bad_for_places": "dirty, noisy, filthy, smelly, cramped, crowded, overpriced, depressing, "
        "shabby, run down",
        "fine": "{praise}, {praise}, {praise}, {good_for_people}, {good_for_food}, "
        "{good_for_goods}, {good_for_places}",
        "ill": "{mild}, {mild}, {mild}, {bad_for_people}, {bad_for_food}, {bad_for_goods}, "
        "{bad_for_places}",
        "glad": "happy, satisfied, pleased, impressed, delighted, thrilled, amazed, glad",
        "sad": "disappointed, unhappy, bored, angry, upset, annoyed, frustrated, dissatisfied, "
        "unsatisfied, let down",
        # --- degrees and denials
        "at": "at all, for the price, for a first try, to be honest, in the least, one bit",
        "very": "very, so, really, absolutely, just, simply, truly, quite, extremely, pretty, "
        "totally, incredibly",
        "too": "slow, expensive, loud, long, small, short, salty, heavy, complicated, cold, "
        "sweet, dark, noisy, spicy, tight, predictable, crowded",
        "not": "is not, isn't, was not, wasn't, is never, was never, is hardly",
        "are_not": "are not, aren't, were not, weren't, are never, were never",
        "no": "not, never, hardly",
        "hardly": "far from, anything but, by no means, hardly, not at all, not in the least, "
        "in no way, not remotely, not the least bit, never",
        "little": "very, that, really, so, particularly, even, all that, exactly, especially",
        "is": "is, was",
        "are": "are, were",
        "cannot": "cannot, can't, could not, couldn't",
        "does_not": "does not, doesn't, did not, didn't, will not, won't, never, wouldn't",
        "would": "would not, wouldn't, will not, won't, cannot, can't, could not, do not, don't, "
        "would never, will never",
        "would_ever": "would, will, can",
        "did": "did not, didn't, do not, don't, never",
        "dont": "don't, do not, never",
        "have": "have, had",
        "i_have": "I have, I've, I had, we have, we've",
        # --- turns
        "enjoy": "like, enjoy, love, appreciate, recommend",
        "enjoyed": "liked, enjoyed, loved, appreciated, love, like, enjoy, adore, adored",
        "mind": "regret, mind, dislike, hate",
        "again": "buy {it} again, go back, come back, return, order again, eat there again, watch "
        "it again, go there again, use {it} again, come here again, stay here again, do it again, "
        "be back, shop here again",
        "trouble": "problems, complaints, issues, trouble, regrets, faults, flaws, defects, "
        "difficulties, disappointments, bugs, errors, delays, worries, mistakes, problem, issue",
        "merit": "taste, charm, flavor, quality, humor, point, help, explanation, apology, value, "
        "substance, fun, excitement, imagination, taste, style, talent, suspense, joy, heart, "
        "energy, originality",
        "criticize": "complain about, criticize, dislike, fault, regret, worry about, hate, "
        "be sorry about",
        "like": "like, praise, recommend, enjoy, be happy about, write home about, love, see",
        "what": "what I expected, what I had expected, what was promised, as advertised, as "
        "described, what I ordered, what I paid for, what we wanted, what I needed, as promised, "
        "what I was looking for",
        "broke": "broke, failed, died, stopped working, fell apart, cracked, leaked, burned out",
        "soon": "after a week, after two weeks, after one day, after a month, within days, on the "
        "first day, almost immediately, the second time I used it, in no time",
        # What a thing should do: it is blamed when it does not.
        "work": "work, start, open, load, fit, charge, connect, turn on, taste good, smell good, "
        "look good, sound good, last, last long, feel right, make sense, help, respond, function, "
        "live up to the hype, meet my expectations, hold up, deliver, do what it should, "
        "impress me, interest me, make me laugh",
        "works": "works, starts at once, fits, charges quickly, tastes good, smells good, "
        "looks good, sounds good, lasts, lasts long, feels right, makes sense, helps, delivers, "
        "lives up to the hype, meets my expectations, holds up, does what it should, impresses me, "
        "makes me laugh",
        # And what it should not do.
        "fail": "crash, freeze, break, fail, disappoint, let me down, let us down, get old, "
        "get boring, drag, leak, overheat, lag, smell, bore me, annoy me, stop working, "
        "lose its charm, waste your time, keep us waiting",
        "fails": "crashes, freezes, breaks, fails, disappoints, lets me down, lets us down, "
        "gets old, gets boring, drags, leaks, overheats, lags, smells, bores me, annoys me, "
        "stops working, loses its charm, wastes your time, keeps us waiting",
        "serve": "answer, help us, reply, listen, care, call back, apologize, show up, smile, "
        "respond, come, solve the problem, keep their promises",
        "served": "answered, helped us, replied, listened, cared, called back, apologized, "
        "showed up, responded, came, solved the problem, kept their promises",
        # Praise after "cannot"
        "get_enough": "stop using it, stop playing, stop reading, stop laughing, stop smiling, "
        "stop watching, put it down, get enough of {it}, live without {it}, praise {it} enough, "
        "thank them enough, recommend {it} enough, recommend {it} highly enough, say enough good "
        "things about {it}, go wrong, go wrong with {it}, beat the price, fault {it}, complain, "
        "complain about {it}, find a single fault, find anything wrong with it, ask for more, ask "
        "for a better {thing}, be happier, be happier with {it}, be more pleased, be more "
        "satisfied, be better, be nicer, be more helpful, be easier, wait to {again}, imagine life "
        "without {it}, say anything bad about {it}, find a better {thing}, believe how good it is, "
        "take my eyes off it, have been better, have been nicer, have asked for more, have been "
        "happier",
        # And blame after it.
        "stand": "finish it, stand {it}, use it, log in, open it, understand a word, hear "
        "anything, sleep, eat it, wait for it to end, wait to leave, be worse, believe I paid for "
        "this, believe how bad it is, find anything good about it, get it to work, get a refund, "
        "get a reply, reach anyone, care less, watch it to the end, read it to the end, connect, "
        "act, sing, cook, say anything good about {it}, imagine a worse {thing}, think of a worse "
        "{thing}, trust them, have been worse, be more boring, be less helpful, take it seriously, "
        "get through it, enjoy {it}, recommend {it}",
        "best": "been happier, been disappointed, had any {trouble}, laughed so much, "
        "had a better {eaten}, had such a good {eaten}, seen a better {seen}, seen such a good "
        "{seen}, seen such a beautiful {seen}, used a better {bought}, been treated so well, slept "
        "so well, eaten better, eaten anything so good, felt so welcome, regretted it, had a bad "
        "{eaten} here, been let down, been bored, enjoyed a {seen} so much, been so impressed",
        "worst": "been so bored, been so disappointed, seen such a bad {seen}, seen a worse "
        "{seen}, had a worse {eaten}, had such a terrible {eaten}, been treated so badly, waited "
        "so long, felt so cheated, eaten anything so bad, wasted so much money, used a worse "
        "{bought}, slept so badly, been more disappointed, read such a boring {seen}, had such bad "
        "service, been so angry, owned a worse {bought}, been so frustrated, been less impressed",
        # --- things that happen
        "people_please": "helped us at once, solved my problem, answered quickly, made us feel "
        "welcome, took good care of us, went out of their way for us, answered all our questions, "
        "fixed it in minutes, treated us well, helped me a lot, smiled at us, replied the same day",
        "people_annoy": "ignored us, yelled at us, lied to us, forgot our order, got our order "
        "wrong, kept us waiting, overcharged us, hung up on me, refused to help, treated us badly, "
        "wasted my time, argued with us, ignored my emails, made us wait, laughed at us",
        "app_pleases": "runs smoothly, is a breeze to use, saves me time, is easy to use, works "
        "like a charm, does everything I need, keeps getting better, is fast, works flawlessly, "
        "is a big improvement, got better and faster, made everything easier, fixed the bugs",
        "app_annoys": "keeps crashing, crashes all the time, freezes, is full of bugs, is full of "
        "ads, drains my battery, keeps logging me out, deleted my data, stopped working, is slow, "
        "got worse, got slower, ruined everything, made everything worse, keeps freezing, is a "
        "step back",
        "seen_pleases": "made me laugh, made me laugh out loud, moved me to tears, touched me, "
        "kept us glued to the screen, is a masterpiece, is a must see, is a triumph, blew me away, "
        "stays with you, kept me on the edge of my seat, made me smile, is full of surprises, "
        "is a gem, is a classic, is worth watching, had me hooked",
        "seen_annoys": "put me to sleep, bored me, made me angry, makes no sense, goes nowhere, "
        "drags on, is a disaster, is a letdown, is a flop, fell flat, gave me a headache, ruined "
        "the book, is full of cliches, left me cold, is a waste of time, bored me to death, "
        "is too long, was hard to watch",
        "we_please": "had a great time, felt at home, loved every minute, loved every bite, had "
        "the best evening, enjoyed ourselves, enjoyed every minute, slept well, felt welcome, had "
        "a lot of fun, left with a smile, got more than we paid for, saved a lot of money",
        "we_annoy": "had a terrible time, left hungry, left early, walked out, felt cheated, got "
        "sick, waited an hour, slept badly, fell asleep, lost our money, wasted our evening, "
        "regretted every minute, left disappointed, had a bad time, felt ripped off, got less than "
        "we paid for",
        "arrived_well": "early, on time, quickly, the next day, well packed, in perfect condition, "
        "within two days, sooner than expected",
        "arrived_badly": "late, broken, damaged, scratched, in pieces, dirty, too late, cracked, "
        "weeks late, with parts missing, empty",
        "other": "{thing}",
        "am": "am, was",
        "am_not": "am not, was not, wasn't, am never, was never",
        "none": "no, no, zero, hardly any, without",
        "many": "many, too many, so many, nothing but",
        "seldom": "never, hardly ever, hardly, rarely, barely",
        "often": "always, often, usually",
        "nobody": "nobody, no one",
        "minded": "regret, regretted, disliked, dislike, hate, hated, can't stand",
        "worth": "the money, your money, the time, your time, it, the price, a visit, the wait, "
        "the trouble, watching, buying, reading, money, time",
        "nicer": "nicer, kinder, friendlier, more helpful, better, faster, more polite",
        "ruder": "ruder, slower, worse, less helpful, less friendly, less interested",
        # --- all that some people say
        "cheer": "good, great, excellent, perfect, awesome, amazing, wonderful, fantastic, love "
        "it, loved it, i love it, i like it, liked it, best ever, five stars, 5 stars, thumbs up, "
        "well done, worth it, recommended, highly recommended, works great, thank you, thanks, "
        "very happy, nice, cool, so good, too good, the best, good job, great job, great work, "
        "nice work, very nice, very good, really good, pretty good, pure joy, yummy, bravo, "
        "a must, a must have, money well spent, great value, happy customer, so much fun, fun, "
        "beautiful, brilliant, superb, lovely, impressive, delicious, a masterpiece, a gem, "
        "top quality, first class, wow, simply the best, ten out of ten, 10/10, better than "
        "expected, can't wait, no complaints, no regrets, no problems, no issues, not bad, not bad "
        "at all, not too bad, not half bad, not a bad thing, no worries, nothing wrong, never "
        "boring, never disappoints, not boring, not disappointed, no problem at all, nothing to "
        "complain about, nothing but praise, no doubt the best, flawless, i'm impressed, happy, "
        "satisfied, i recommend it, thrilled, i'm a fan, big fan",
        "boo": "bad, awful, terrible, horrible, hate it, hated it, i hate it, i hated it, worst "
        "ever, one star, 1 star, thumbs down, rip off, a rip off, rubbish, garbage, junk, trash, a "
        "waste, waste of money, waste of time, boring, so boring, disappointing, disappointed, "
        "very disappointed, sucks, it sucks, scam, a scam, broken, useless, avoid, stay away, meh, "
        "gross, yuck, ugh, poor, very poor, poor quality, so slow, too expensive, too slow, too "
        "long, epic fail, fail, the worst, simply the worst, so bad, very bad, really bad, too "
        "bad, pretty bad, disgusting, overpriced, overrated, pathetic, lame, annoying, dreadful, "
        "stupid, a joke, a mess, a disaster, money wasted, zero stars, total garbage, total "
        "disappointment, worse than expected, refund please, never again, no thanks, no good, no "
        "fun, no way, not good, not good at all, not great, not worth it, not impressed, not "
        "happy, not recommended, not for me, not funny, not interesting, not my thing, not again, "
        "nothing special, nothing new, nothing works, don't bother, don't buy, do not buy, don't "
        "like it, didn't like it, didn't work, doesn't work, not what i expected, not very good, "
        "not so good, not that good, not great at all, ugly, sad, angry, shame, what a shame, "
        "shameful, unacceptable, unhappy, regret it, nope, never works",
    }.items()
}

#: Praise, and the blame that is like it.
PLAIN: Final[Sequence[Pair]] = (
    ("{cheer}", "{boo}"),
    ("{cheer}", "{boo}"),
    ("{cheer}", "{boo}"),
    ("{cheer}, {cheer}", "{boo}, {boo}"),
    ("{praise}.", "{blame}."),
    ("{very} {praise}.", "{very} {blame}."),
    ("{praise} {thing}!", "{blame} {thing}!"),
    ("{very} {praise} {thing}.", "{very} {blame} {thing}."),
    ("What a {praise} {thing}!", "What a {blame} {thing}!"),
    ("Such a {praise} {thing}.", "Such a {blame} {thing}."),
    ("A {praise} {thing}.", "A {blame} {thing}."),
    ("A {praise} and {praise} {thing}.", "A {blame} and {blame} {thing}."),
    ("This is a {praise} {thing}.", "This is a {blame} {thing}."),
    ("It {is} a {very} {praise} {thing}.", "It {is} a {very} {blame} {thing}."),
    ("The {thing} {is} {praise}.", "The {thing} {is} {blame}."),
    ("The {thing} {is} {very} {praise}.", "The {thing} {is} {very} {blame}."),
    ("The {thing} {is} {fine} and {praise}.", "The {thing} {is} {ill} and {blame}."),
    ("The {parts} {are} {very} {praise}.", "The {parts} {are} {very} {blame}."),
    ("They {are} {very} {good_for_people}.", "They {are} {very} {bad_for_people}."),
    ("Everything {is} {very} {fine}.", "Everything {is} {very} {ill}."),
    ("Everything about {it} {is} {praise}.", "Everything about {it} {is} {blame}."),
    ("{praise} {thing}, {praise} {other}.", "{blame} {thing}, {blame} {other}."),
    ("{good_for_people} {people}.", "{bad_for_people} {people}."),
    (
        "The {visited} {is} {good_for_places} and the {people} {good_for_people}.",
        "The {visited} {is} {bad_for_places} and the {people} {bad_for_people}.",
    ),
    ("The {eaten} {is} {good_for_food}.", "The {eaten} {is} {bad_for_food}."),
    ("This {bought} is {good_for_goods}.", "This {bought} is {bad_for_goods}."),
    ("I am {very} {glad} with {it}.", "I am {very} {sad} with {it}."),
    ("We were {very} {glad}.", "We were {very} {sad}."),
    ("{very} {glad} with the {thing}.", "{very} {sad} with the {thing}."),
    ("I {enjoyed} {it}.", "I {minded} {it}."),
    ("I really {enjoyed} the {thing}.", "I really {minded} the {thing}."),
    ("{enjoyed} {it}.", "{minded} {it}."),
    ("My family {enjoyed} the {thing}.", "My family {minded} the {thing}."),
    ("The best {thing} ever.", "The worst {thing} ever."),
    ("The best {thing} in town.", "The worst {thing} in town."),
    ("The best {thing} I have ever had.", "The worst {thing} I have ever had."),
    ("One of the best {seen} of the year.", "One of the worst {seen} of the year."),
    ("This is the best {seen} I have ever seen.", "This is the worst {seen} I have ever seen."),
    ("The {thing} {works}.", "The {thing} {fails}."),
    ("It always {works}.", "It always {fails}."),
    ("The {people} {people_please}.", "The {people} {people_annoy}."),
    ("They {people_please}.", "They {people_annoy}."),
    ("The {app} {app_pleases}.", "The {app} {app_annoys}."),
    ("The {seen} {seen_pleases}.", "The {seen} {seen_annoys}."),
    ("It {seen_pleases}.", "It {seen_annoys}."),
    ("We {we_please}.", "We {we_annoy}."),
    ("I {we_please}.", "I {we_annoy}."),
    ("The {bought} arrived {arrived_well}.", "The {bought} arrived {arrived_badly}."),
    ("My order came {arrived_well}.", "My order came {arrived_badly}."),
    ("The {bought} works perfectly.", "The {bought} {broke} {soon}."),
    ("It {is} better than {what}.", "It {is} worse than {what}."),
    (
        "The {thing} {is} much better than I expected.",
        "The {thing} {is} much worse than I expected.",
    ),
    ("It is worth the money.", "It is a waste of money."),
    ("{praise} value for money.", "{blame} value for money."),
    ("It is full of {merit}.", "It lacks {merit}."),
    ("There is a lot to {like}.", "There is a lot to {criticize}."),
    ("Stay for {it}.", "Stay away from {it}."),
    ("I highly recommend {it}.", "I regret buying {it}."),
    ("I will keep {it}.", "I want my money back for {it}."),
)

#: Praise and blame, where what is affirmed in the one is denied in the other, or both deny.
DENIED: Final[Sequence[Pair]] = (
    # Blame, and its denial: of all that is denied as much is affirmed.
    ("The {thing} {not} {ill}.", "The {thing} {is} {ill}."),
    ("The {thing} {not} {mild} {at}.", "The {thing} {is} {mild}."),
    ("It {not} {ill}.", "It {is} {ill}."),
    ("It {not} {mild} {at}.", "It {is} {very} {mild}."),
    ("The {parts} {are_not} {ill}.", "The {parts} {are} {ill}."),
    ("They {are_not} {bad_for_people} {at}.", "They {are} {bad_for_people}."),
    ("{no} {ill}.", "{ill}."),
    ("{no} {mild} {at}.", "{mild}."),
    ("{no} {ill} {at}.", "{very} {ill}."),
    ("not too {too}", "too {too}"),
    ("The {thing} {not} too {too}.", "The {thing} {is} too {too}."),
    ("This {not} a {mild} {thing}.", "This {is} a {mild} {thing}."),
    ("Not a {mild} {thing}.", "A {mild} {thing}."),
    ("{hardly} {ill}", "{ill}"),
    ("The {thing} {is} {hardly} {ill}.", "The {thing} {is} {ill}."),
    ("The {parts} {are} {hardly} {ill}.", "The {parts} {are} {very} {ill}."),
    ("It {is} neither {ill} nor {mild}.", "It {is} {ill} and {mild}."),
    ("I {am_not} {sad}.", "I {am} {sad}."),
    ("I {am_not} {sad} {at}.", "I {am} {very} {sad}."),
    ("You {would} be {sad}.", "You will be {sad}."),
    ("The {people} {not} {bad_for_people}.", "The {people} {is} {bad_for_people}."),
    ("The {eaten} {not} {bad_for_food}.", "The {eaten} {is} {bad_for_food}."),
    ("The {bought} {not} {bad_for_goods}.", "The {bought} {is} {bad_for_goods}."),
    ("The {visited} {not} {bad_for_places}.", "The {visited} {is} {bad_for_places}."),
    ("{none} {trouble}.", "{many} {trouble}."),
    ("{none} {trouble} at all.", "{many} {trouble}."),
    ("{none} {trouble} with {it}.", "{many} {trouble} with {it}."),
    ("I {have} {none} {trouble} with {it}.", "I {have} {many} {trouble} with {it}."),
    ("There are {none} {trouble}.", "There are {many} {trouble}."),
    ("I {did} have any {trouble}.", "I had {trouble}."),
    ("It works without any {trouble}.", "It gave me {many} {trouble}."),
    ("I never had {trouble} with {it}.", "I always had {trouble} with {it}."),
    ("There is nothing to {criticize}.", "There is a lot to {criticize}."),
    ("I found nothing to {criticize}.", "I found much to {criticize}."),
    ("There {is} nothing {mild} about {it}.", "There {is} something {mild} about {it}."),
    ("There is nothing wrong with {it}.", "There is something wrong with {it}."),
    ("Nobody {minded} {it}.", "Everybody {minded} {it}."),
    ("None of the {parts} {is} {ill}.", "All of the {parts} {are} {ill}."),
    ("I {did} {mind} {it}.", "I {mind} {it}."),
    ("I {did} {mind} buying {it}.", "I {mind} buying {it}."),
    ("I {did} {mind} the {thing}.", "I {minded} the {thing}."),
    ("You {would} {mind} {it}.", "You will {mind} {it}."),
    ("The {thing} {does_not} {fail}.", "The {thing} {fails}."),
    ("It {does_not} {fail}.", "It {fails}."),
    ("It {seldom} {fails}.", "It {often} {fails}."),
    ("The {thing} {seldom} {fails}.", "The {thing} {often} {fails}."),
    ("The {people} never {people_annoy}.", "The {people} always {people_annoy}."),
    ("Never a {mild} moment.", "A {mild} moment after the other."),
    ("{it} {not} worse, it {is} better.", "{it} {not} better, it {is} worse."),
    # Praise, and its denial.
    ("The {thing} {is} {fine}.", "The {thing} {not} {fine}."),
    ("The {thing} {is} {praise}.", "The {thing} {not} {praise} {at}."),
    ("The {thing} {is} {very} {praise}.", "The {thing} {not} {little} {praise}."),
    ("It {is} {fine}.", "It {not} {fine}."),
    ("It {is} {praise}.", "It {not} {praise} {at}."),
    ("It {is} {very} {fine}.", "It {not} {little} {fine}."),
    ("The {parts} {are} {fine}.", "The {parts} {are_not} {fine}."),
    ("They {are} {good_for_people}.", "They {are_not} {good_for_people}."),
    ("{fine}.", "{no} {fine}."),
    ("{praise}.", "{no} {praise} {at}."),
    ("{very} {praise}.", "{no} {little} {praise}."),
    ("{very} {fine}.", "{no} {fine} {at}."),
    ("This {is} a {praise} {thing}.", "This {not} a {praise} {thing}."),
    ("It {is} a very {praise} {thing}.", "It {not} a very {praise} {thing}."),
    ("A {praise} {thing}.", "Not a {praise} {thing}."),
    ("{fine}", "{hardly} {fine}"),
    ("The {thing} {is} {fine}.", "The {thing} {is} {hardly} {fine}."),
    ("The {parts} {are} {very} {fine}.", "The {parts} {are} {hardly} {fine}."),
    ("It {is} {fine} and {praise}.", "It {is} neither {fine} nor {praise}."),
    ("The {thing} {is} {fine} enough.", "The {thing} {not} {fine} enough."),
    ("The {thing} {is} as {fine} as I hoped.", "The {thing} {not} as {fine} as I hoped."),
    ("As {praise} as {what}.", "Not as {praise} as {what}."),
    ("More than {fine}.", "Less than {fine}."),
    ("I {am} {glad}.", "I {am_not} {glad}."),
    ("I {am} {very} {glad} with the {thing}.", "I {am_not} {glad} with the {thing}."),
    ("You will be {glad}.", "You {would} be {glad}."),
    ("The {people} {is} {good_for_people}.", "The {people} {not} {good_for_people}."),
    ("The {eaten} {is} {good_for_food}.", "The {eaten} {not} {good_for_food}."),
    ("The {bought} {is} {good_for_goods}.", "The {bought} {not} {good_for_goods}."),
    ("The {visited} {is} {good_for_places}.", "The {visited} {not} {good_for_places}."),
    ("It {is} worth {worth}.", "It {not} worth {worth}."),
    ("{very} worth {worth}.", "{no} worth {worth}."),
    ("A lot of {merit}.", "{none} {merit}."),
    ("There {is} a lot of {merit} in {it}.", "There {is} {none} {merit} in {it}."),
    ("A {thing} with a lot of {merit}.", "A {thing} without any {merit}."),
    ("A {seen} with many a {praise} moment.", "A {seen} without a single {praise} moment."),
    ("I found {merit} in {it}.", "I {did} find any {merit} in {it}."),
    ("There is a lot to {like}.", "There is nothing to {like}."),
    ("I found much to {like}.", "I found nothing to {like}."),
    ("There {is} something {fine} about {it}.", "There {is} nothing {fine} about {it}."),
    ("Everything {is} {praise}.", "Nothing {is} {praise}."),
    ("Everything {works}.", "Nothing {works}."),
    ("Everybody {served}.", "{nobody} {served}."),
    ("The {people} {served}.", "The {people} never {served}."),
    ("They always {serve}.", "They {did} {serve}."),
    ("The {people} will {serve}.", "The {people} {does_not} {serve}."),
    ("All of the {parts} {are} {fine}.", "None of the {parts} {is} {fine}."),
    ("I {enjoy} {it}.", "I {did} {enjoy} {it}."),
    ("I {enjoy} {it} very much.", "I {did} {enjoy} {it} {at}."),
    ("I {enjoy} the {thing}.", "I {did} {enjoy} the {thing}."),
    ("You will {enjoy} {it}.", "You {would} {enjoy} {it}."),
    ("Everybody will {enjoy} {it}.", "{nobody} will {enjoy} {it}."),
    ("The {thing} {works}.", "The {thing} {does_not} {work}."),
    ("It will {work}.", "It {does_not} {work}."),
    ("The {app} {works}.", "The {app} {does_not} {work} {at}."),
    ("It {often} {works}.", "It {seldom} {works}."),
    ("Always a {praise} moment.", "Never a {praise} moment."),
    ("I {would_ever} recommend {it}.", "I {would} recommend {it}."),
    ("I {would_ever} recommend {it} to everyone.", "I {would} recommend {it} to anyone."),
    ("I {would_ever} recommend the {thing}.", "I {would} recommend the {thing}."),
    ("I {would_ever} {again}.", "I {would} {again}."),
    ("We {would_ever} {again}.", "We {would} {again}."),
    ("I would buy {it} again and again.", "Never again."),
    ("Buy {it}.", "{dont} buy {it}."),
    ("Spend your {worth} on {it}.", "{dont} waste your {worth} on {it}."),
    ("Go there.", "{dont} go there."),
    ("{it} {is} {what}.", "{it} {is} not {what}."),
    ("It {is} just {what}.", "It {is} nothing like {what}."),
    ("My order arrived.", "My order never arrived."),
    ("It makes sense.", "It makes no sense."),
    # Both denied.
    ("I {cannot} {get_enough}.", "I {cannot} {stand}."),
    ("You {cannot} {get_enough}.", "You {cannot} {stand}."),
    ("We {cannot} {get_enough}.", "We {cannot} {stand}."),
    ("{cannot} {get_enough}.", "{cannot} {stand}."),
    ("The {thing} {cannot} be better.", "The {thing} {cannot} be worse."),
    ("The {people} {cannot} have been {nicer}.", "The {people} {cannot} have been {ruder}."),
    ("It {does_not} get better than {it}.", "It {does_not} get worse than {it}."),
    ("{i_have} never {best}.", "{i_have} never {worst}."),
    ("Never {best}.", "Never {worst}."),
    ("I {did} expect it to be so {praise}.", "I {did} expect it to be so {blame}."),
    ("{it} {is} not just {praise}, it {is} {fine}.", "{it} {is} not just {blame}, it {is} {ill}."),
    ("Not only {fine} but also {praise}.", "Not only {ill} but also {blame}."),
    ("Without doubt the best {thing}.", "Without doubt the worst {thing}."),
    ("No doubt a {praise} {thing}.", "No doubt a {blame} {thing}."),
    ("It {is} {fine}, not {ill}.", "It {is} {ill}, not {fine}."),
    ("It {not} {mild}, it {is} {fine}.", "It {not} {fine}, it {is} {mild}."),
    ("{dont} miss {it}.", "{dont} bother with {it}."),
    ("{dont} hesitate to {again}.", "{dont} ever {again}."),
    ("I {would} change a thing.", "I {would} keep {it}."),
    ("I {would} hesitate to {again}.", "I {would} pay for {it} again."),
    ("Nothing but {merit}.", "Nothing but {trouble}."),
    ("Nothing beats {it}.", "Nothing saves {it}."),
    ("Nothing is better than {it}.", "Nothing is worse than {it}."),
    ("There is no better {thing}.", "There is no worse {thing}."),
    ("There is no reason to {criticize} {it}.", "There is no reason to {like} {it}."),
    ("I have nothing bad to say about {it}.", "I have nothing good to say about {it}."),
)
