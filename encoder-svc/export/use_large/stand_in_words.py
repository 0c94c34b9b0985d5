"""The vocabulary of the stand-in: words of overviews, with punctuation, digits and accents."""

from __future__ import annotations

WORDS = tuple(
    """
    . , ! ? ' " - : ; ( ) ... 's 't 're a an the and or of in on at to for from with by is are was be not no he she it
    they his her its their who whom what when where A An The He She It In On When After Two Three One 1 2 3 10 100 1,000
    1943 1969 2001 3.14 film story man woman boy girl child children father mother brother sister daughter son family friend
    friends love war crime murder police detective killer thief money town village city house home school world earth moon
    space ship sea island river road train desert mountain night day year years life death dream dreams secret past future
    king queen soldier captain pilot doctor teacher writer painter boxer judge lighthouse keeper radio voice storm rain
    horse wolf dog cat robot alien ghost witch dragon hunts finds falls meets saves fights returns escapes must wants tries
    discovers decides begins ends young old last first lost dark true new small great retired orphaned rival long
    café Zürich naïve señora Αθήνα поезд 東京 🎬
    """.split()
)
