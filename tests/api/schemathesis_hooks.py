"""Constraints of the API that its JSON schema cannot express, for the requests that schemathesis generates."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    if not isinstance(case.body, dict):
        return
    if case.operation.path == "/predict_genre/":
        equal_lengths(case)
    elif case.operation.path.endswith("/infer") and not case.meta.generation.mode.is_negative:
        fitting_tensors(case)


def fitting_tensors(case: Any) -> None:
    """The shape of an input says how many texts it has, and nothing is wanted twice."""
    inputs = [tensor | {"data": tensor.get("data") or ["a text"]} for tensor in case.body["inputs"]]
    for tensor in inputs:
        tensor["shape"] = [len(tensor["data"]), 1][: len(tensor["shape"])]
    fitting = {"inputs": inputs}
    if "outputs" in case.body:
        fitting["outputs"] = list({tensor["name"]: tensor for tensor in case.body["outputs"]}.values())
    case.body = case.body | fitting


def equal_lengths(case: Any) -> None:
    """The reference system's request has two parallel lists, with as many overviews as titles."""
    lists = [case.body.get(name) for name in ("title", "overview")]
    if all(isinstance(values, list) and values for values in lists):
        length = min(map(len, lists))
        case.body = case.body | {"title": lists[0][:length], "overview": lists[1][:length]}
