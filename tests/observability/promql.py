"""The names in a PromQL expression. Whether it parses is Prometheus' to say; this tells what it asks for.

It knows as much of the language as the expressions here need: selectors with a name, no `label_replace`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
RANGE = re.compile(r"\[[^\]]*\]")
NAME = re.compile(r"(?<![\w:$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?\s*(\()?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass(frozen=True)
class Matcher:
    """Such as `code=~"INTERNAL|UNKNOWN"`."""

    label: str
    operator: str
    value: str

    def values(self) -> list[str]:
        """The plain values that it names; none where it is a pattern."""
        values = self.value.split("|") if "~" in self.operator else [self.value]
        return [value for value in values if re.fullmatch(r"[\w./-]+", value)]


@dataclass(frozen=True)
class Selector:
    """A metric that is asked for."""

    name: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """All metrics that an expression asks for."""
    bare = RANGE.sub("", GROUPING.sub("", expression))
    found = []
    for name, braces, call in NAME.findall(bare):
        if not call and name.lower() not in KEYWORDS:
            found.append(Selector(name, tuple(Matcher(*parts) for parts in MATCHER.findall(braces))))
    return found


def grouping(expression: str) -> set[str]:
    """The labels that it groups or joins by."""
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",") if label.strip()}
