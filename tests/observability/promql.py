"""Finds the names in a PromQL expression. Prometheus itself checks the syntax.

It supports what the shipped expressions use: selectors with a name, and no `label_replace`.
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
    """A label matcher such as `code=~"INTERNAL|UNKNOWN"`."""

    label: str
    operator: str
    value: str

    def values(self) -> list[str]:
        """Returns the plain values of the matcher, or none if it is a pattern."""
        values = self.value.split("|") if "~" in self.operator else [self.value]
        return [value for value in values if re.fullmatch(r"[\w./-]+", value)]


@dataclass(frozen=True)
class Selector:
    """A selector of a metric."""

    name: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """Returns all selectors of an expression."""
    bare = RANGE.sub("", GROUPING.sub("", expression))
    found = []
    for name, braces, call in NAME.findall(bare):
        if not call and name.lower() not in KEYWORDS:
            found.append(Selector(name, tuple(Matcher(*parts) for parts in MATCHER.findall(braces))))
    return found


def grouping(expression: str) -> set[str]:
    """Returns the labels that an expression groups or joins by."""
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",") if label.strip()}
