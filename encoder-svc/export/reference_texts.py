"""The texts whose vectors every bundle must reproduce. Each covers one way in which tokenizers or graphs fail."""

from __future__ import annotations

_OVERVIEW = (
    "A retired lighthouse keeper finds a waterproof radio on the beach and hears, night after night, the voice of the "
    "brother who was lost at sea forty years ago. When the broadcasts begin to name ships that have not sunk yet, she "
    "must choose between warning their crews and keeping the only voice she has left."
)

REFERENCE_TEXTS = (
    # One word.
    "Comedy",
    # A plain sentence.
    "Two rival chefs are snowed in at a mountain hotel on the night before its last banquet.",
    # An invented overview of a typical length.
    _OVERVIEW,
    # Longer than any max_tokens, so it is truncated.
    " ".join([_OVERVIEW] * 8),
    # Accents, other scripts and a combining mark, which are normalised or split.
    "Señora Núñez à Zürich: «Где мой поезд?» 東京の夜, Αθήνα, cafe\u0301.",
    # Punctuation that splits words, including contractions and dashes.
    "Wait... what?! \"Don't\" -- (it's) a well-known [trap]; A/B & C_D: 100% #1 <end>",
    # Emoji, including a joined one, are unknown tokens.
    "Boy meets robot 🤖❤️ and they dance 💃🏽 all night 👨‍👩‍👧 🎬",
    # Numbers, years, money, and a long word that is split into many pieces.
    "In 1969, 3.14 seconds before 12:05, agent 007 lost $1,000,000 in "
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch.",
)
