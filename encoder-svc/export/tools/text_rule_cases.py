"""Records what TensorFlow's string operations do to texts, as test cases for the service: tests/fixtures/text_rules.json.

    python -m export.tools.text_rule_cases tests/fixtures/text_rules.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from export.use_large.text_graph import TextRules
from export.use_large.text_rules import tokenize

TEXTS = (
    "",
    "It's 1,000.50 dollars -- (or so) they'd say... WELL?!",
    " \t tab\x0bvertical\x0cform\r\nfeed \u00a0no-break\u2003wide\u0085next ",
    "café Ünïcode ΣΊΣΥΦΟΣ ǅ ß straße İstanbul ıI Å \u212a 東京の夜 🎬🤖❤️ x\u0301",
    "a&b~c-d[e]f^g\\h|i{2}j{,3}k}l$m#n",
    "0٣9 x_y aaa aab baaa \x00\x01\x7f\u200b\ufeff",
    "'s 't'll 'RE ''' \"\"",
)
REPLACEMENTS = (
    (r"\s", "_"),
    (r"\S+", "x"),
    (r"[\s]+", ""),
    (r"[^\S\n]", "_"),
    (r"\d", "#"),
    (r"\D+", "#"),
    (r"\w+", "w"),
    (r"\W", "-"),
    (r"[\W_]", "-"),
    (r"[\d\s.]", "<\\0>"),
    (r"\b", "|"),
    (r"\bs\b", "S"),
    (r"([[:punct:]])", r" \1 "),
    (r"[^[:punct:]]+", "_"),
    (r"[[:^alpha:]]", ""),
    (r"[[:space:]]", "_"),
    (r"[[:word:]]", "w"),
    (r"(?i)'(s|t|re|ll|d)", r" '\1 "),
    (r"(?i)[k-z]", "_"),
    (r"(?i)ß|å|σ", "_"),
    (r".", "."),
    (r"(?s).", "."),
    (r"^.|.$", "^"),
    (r"(?m)^|$", "|"),
    (r"\A\s*|\s*\z", ""),
    (r"x*", "-"),
    (r"a*?", "-"),
    (r"(a|aa|aab)", r"<\1>"),
    (r"(a)|(b)", r"[\1|\2]"),
    (r"a{2}", "A"),
    (r"a{2,}?", "A"),
    (r"{", "<"),
    (r"{,3}", "<>"),
    (r"j{", "<"),
    (r"}", ">"),
    (r"[a&&b]", "_"),
    (r"[a~~b]", "_"),
    (r"[+--]", "_"),
    (r"[]a-]", "_"),
    (r"[\]\[\\^-]", "_"),
    (r"[e[f]", "_"),
    (r"\x41|\x{e9}|\t", "_"),
    (r"\Q.-(\E|\$", "_"),
    (r"\pL+", "L"),
    (r"\p{Greek}", "G"),
    (r"[\p{Lu}\d]", "U"),
    (r"\PL", "_"),
    (r"[\x{4e00}-\x{9fff}]", r" \0 "),
    (r"[^\x00-\x7f]", "?"),
    (r"(?P<mark>[.?!])\s", r"\1\\"),
    (r"(?:ab)+|c", r"\0\0"),
    (r"#\w", "%"),
    (r" ", "&nbsp;"),
)
SPLITS = (
    {"by": "any_of", "separators": " ", "skip_empty": True},
    {"by": "any_of", "separators": " ", "skip_empty": False},
    {"by": "any_of", "separators": " ,.", "skip_empty": True},
    {"by": "string", "separator": " "},
    {"by": "string", "separator": "..."},
    {"by": "blanks"},
)
OTHER_STEPS = (
    {"step": "lower", "unicode": False},
    {"step": "lower", "unicode": True},
    {"step": "strip"},
    {"step": "join", "before": " <", "after": "> "},
)
WHOLE = {"by": "string", "separator": "\x02"}


def main() -> None:
    steps = [
        {"step": "replace", "pattern": pattern, "rewrite": rewrite, "all": every}
        for pattern, rewrite in REPLACEMENTS
        for every in (True, False)
    ]
    rules = [([step], WHOLE) for step in (*steps, *OTHER_STEPS)] + [([], split) for split in SPLITS]
    cases = []
    for listed, split in rules:
        tokens = [
            [token.decode() for token in tokenize(TextRules(listed, split, {}, -1, 2), text).tokens] for text in TEXTS
        ]
        cases.append({"steps": listed, "split": split, "tokens": tokens})
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(sys.argv[1]).write_text(f'{{"texts": {json.dumps(TEXTS)},\n"cases": [\n{lines}\n]}}\n', encoding="ascii")


if __name__ == "__main__":
    main()
