"""Invented movie overviews whose lengths are spread like those of real ones."""

from __future__ import annotations

import random

# Words of Kaggle's 17,750 usable overviews at every twentieth part, from the shortest to the longest.
WORDS_AT_TWENTIETHS = (2, 17, 20, 23, 26, 28, 32, 35, 39, 42, 47, 51, 55, 60, 64, 68, 72, 78, 90, 111, 187)

# Frequent words are listed more than once. The others make a text as long in tokens as a real one: 1.3 tokens a word.
WORDS = (
    "the the the the the a a a of of of and and and to to to in in his his her is is with who for an on from by at "
    "when after their has but as into he she they him must between that it one while up out whose "
    "detective smuggler harbour lighthouse sister brother daughter stranger village mountain winter summer revenge secret "
    "murder wedding orchestra violinist astronaut colony uprising prisoner general submarine expedition inheritance "
    "newspaper reporter scientist experiment haunted mansion werewolf gunslinger sheriff frontier schoolteacher "
    "boxer championship comeback heist casino billionaire kidnapped hostage negotiator hurricane island shipwreck "
    "discovers hunts betrays rescues falls returns escapes investigates befriends refuses begins learns fights survives "
    "young old lonely ruthless forgotten unlikely dangerous famous troubled love family war city night life world "
    "Marguerite Kowalczyk Esteban Ravensworth Oyelaran Brightwater Halvorsen Quillon Thessaly Dubrovka"
).split()


def invented(count: int, seed: int = 1) -> list[str]:
    """Returns `count` different texts. The same arguments give the same texts."""
    source = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        twentieth = source.randrange(len(WORDS_AT_TWENTIETHS) - 1)
        words = source.randint(*WORDS_AT_TWENTIETHS[twentieth : twentieth + 2])
        texts[sentences(source, words)] = None
    return list(texts)


def sentences(source: random.Random, words: int) -> str:
    """Returns sentences that have `words` words together."""
    made = []
    while words > 0:
        length = min(words, source.randint(8, 22))
        sentence = " ".join(source.choice(WORDS) for _ in range(length))
        made.append(f"{sentence[0].upper()}{sentence[1:]}.")
        words -= length
    return " ".join(made)
