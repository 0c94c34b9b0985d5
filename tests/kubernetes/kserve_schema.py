"""Checks a manifest of KServe with the models of its Python package, which are generated from the schema of its CRDs.

The models accept unknown fields, and importing them takes a web server. So their tables of fields are read from the source.
Types of Kubernetes itself are checked with Kubernetes' schemas.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
    "ResourceQuantity": (str, int, float),
}
DEFINITIONS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema/v1.36.0-local-strict/_definitions.json"


@cache
def fields(model: str) -> dict[str, str] | None:
    """The types of a model's fields by their names in JSON, or `None` if the package has no such model."""
    spec = importlib.util.find_spec("kserve")
    assert spec and spec.origin, "the package kserve is not installed"
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model).lower()
    file = Path(spec.origin).parent / "models" / f"{name}.py"
    if not file.is_file():
        return None
    tables: dict[str, Any] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in {"openapi_types", "attribute_map"}:
                tables[node.targets[0].id] = ast.literal_eval(node.value)
    return {json_name: tables["openapi_types"][key] for key, json_name in tables["attribute_map"].items()}


@cache
def definitions() -> Any:
    return json.loads(DEFINITIONS.read_text(encoding="utf-8"))


def of_kubernetes(kind: str) -> str:
    """The name of a definition, such as `io.k8s.api.core.v1.Container` of `V1Container`."""
    short = f"v1.{kind.removeprefix('V1')}"
    found = [name for name in definitions()["$defs"] if name.endswith(f".{short}")]
    preferred = [name for name in found if ".api.core." in name or ".apimachinery." in name]
    (name,) = preferred or found
    return str(name)


def errors(value: Any, kind: str, path: str = "") -> list[str]:
    """Returns what is wrong with a value of this type."""
    if kind in PLAIN:
        is_bool_for_number = isinstance(value, bool) and kind in {"int", "float"}
        return [] if isinstance(value, PLAIN[kind]) and not is_bool_for_number else [f"{path}: expected {kind}, found {value!r}"]
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            return [f"{path}: expected a list, found {value!r}"]
        return [error for at, item in enumerate(value) for error in errors(item, match[1], f"{path}[{at}]")]
    if not isinstance(value, dict):
        return [f"{path}: expected an object, found {value!r}"]
    if match := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return [error for key, item in value.items() for error in errors(item, match[1], f"{path}.{key}")]
    known = fields(kind)
    if known is None:
        schema = definitions() | {"$ref": f"#/$defs/{of_kubernetes(kind)}"}
        found = jsonschema.Draft202012Validator(schema).iter_errors(value)
        return [f"{path}{error.json_path.removeprefix('$')}: {error.message}" for error in found]
    unknown = [f"{path}.{key}: unknown field of {kind}" for key in value if key not in known]
    return unknown + [
        error for key, item in value.items() if key in known for error in errors(item, known[key], f"{path}.{key}")
    ]
