"""Fails where two modules of a crate depend on each other, directly or around a circle.

    python3 tools/scripts/module_circles.py [CRATE_FOLDER ...]

Nodes are source files, and once more the top-level folders of a crate. Edges are the `crate::`, `super::` and `self::` paths in
code, followed through `pub use` to the file that defines the item. Tests are left out, and so is a `mod.rs` that re-exports its own
children. cargo-modules (considered) finds circles as well, but needs an analysis of the whole crate by rust-analyzer, minutes a crate.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
Module = tuple[str, ...]
Graph = dict[Module, set[Module]]


def without_tests_and_comments(text: str) -> str:
    """The code of a file, without comments and without items behind `#[cfg(test)]`."""
    kept: list[str] = []
    lines = iter(text.split("\n"))
    for line in lines:
        if line.strip().startswith("#[cfg(test)]"):
            indent = line[: len(line) - len(line.lstrip())]
            item = next(lines)
            while item.strip().startswith("#["):
                item = next(lines)
            if not item.rstrip().endswith(";"):
                while not item.startswith(f"{indent}}}"):
                    item = next(lines)
            continue
        kept.append(re.sub(r"//.*", "", line))
    return "\n".join(kept)


def paths_of(tree: str) -> list[str]:
    """The paths that a `use` tree names: `a::{b, c::d}` gives `a::b` and `a::c::d`."""
    tree = re.sub(r"\s+", " ", tree).strip()
    if "{" not in tree:
        return [tree.split(" as ")[0].strip()]
    head, rest = tree.split("{", 1)
    parts, depth = [""], 0
    for character in rest.rsplit("}", 1)[0]:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [path for part in parts if part.strip() for path in paths_of(head.strip() + part.strip())]


class Crate:
    """The modules of one crate, what each names, and what each re-exports."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[Module, list[list[str]]] = {}
        self.exports: dict[Module, dict[str, list[str]]] = {}
        for path in sorted((folder / "src").rglob("*.rs")):
            parts = path.relative_to(folder / "src").with_suffix("").parts
            if path.stem in ("main", "tests", "testing") or "bin" in parts:
                continue
            module = parts[:-1] if parts[-1] in ("mod", "lib") else parts
            self._read(module, without_tests_and_comments(path.read_text(encoding="utf-8")))

    def _read(self, module: Module, code: str) -> None:
        names, exports = self.names.setdefault(module, []), self.exports.setdefault(module, {})
        for public, tree in re.findall(r"((?:pub(?:\([^)]*\))? )?)use ([^;]+);", code):
            for path in paths_of(tree):
                segments = path.split("::")
                names.append(segments)
                if public:
                    exports[segments[-2] if segments[-1] == "self" else segments[-1]] = segments
        rest = re.sub(r"use [^;]+;", "", code)
        names.extend(path.split("::") for path in re.findall(r"\b(?:crate|super)(?:::\w+)+", rest))

    def resolve(self, module: Module, segments: list[str], depth: int = 0) -> Module | None:
        """The module that defines what `segments` name in `module`; None for another crate's."""
        at, rest = module, list(segments)
        if rest[0] == "crate":
            at, rest = (), rest[1:]
        elif rest[0] in ("self", "super"):
            while rest and rest[0] in ("self", "super"):
                at, rest = (at[:-1] if rest[0] == "super" else at), rest[1:]
        elif (*module, rest[0]) not in self.names:
            return None
        while rest and (*at, rest[0]) in self.names:
            at, rest = (*at, rest[0]), rest[1:]
        exported = self.exports.get(at, {}).get(rest[0]) if rest else None
        if exported and exported != segments and depth < 8:
            return self.resolve(at, exported, depth + 1) or at
        return at

    def graph(self) -> Graph:
        edges: Graph = {module: set() for module in self.names}
        for module, names in self.names.items():
            exported = list(self.exports[module].values())
            for segments in names:
                target = self.resolve(module, segments)
                own_child = target is not None and segments in exported and target[: len(module)] == module
                if target is not None and target != module and not own_child:
                    edges[module].add(target)
        return edges


def by_folder(edges: Graph) -> Graph:
    """The same between the crate's top-level modules; items of `lib.rs` itself are left out."""
    folders: Graph = {}
    for module, targets in edges.items():
        for target in targets:
            if module and target and module[0] != target[0]:
                folders.setdefault(module[:1], set()).add(target[:1])
                folders.setdefault(target[:1], set())
    return folders


def circles(edges: Graph) -> list[list[Module]]:
    """Sets of modules each of which reaches every other: Tarjan's strongly connected components."""
    index: dict[Module, int] = {}
    low: dict[Module, int] = {}
    stack: list[Module] = []
    found: list[list[Module]] = []

    def visit(module: Module) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in edges[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    for module in edges:
        if module not in index:
            visit(module)
    return found


def main() -> int:
    folders = [Path(argument) for argument in sys.argv[1:]] or [
        path.parent for path in sorted(REPOSITORY.glob("**/Cargo.toml")) if (path.parent / "src/lib.rs").is_file()
    ]
    failed = False
    for folder in folders:
        edges = Crate(folder).graph()
        for kind, graph in (("files", edges), ("folders", by_folder(edges))):
            for circle in circles(graph):
                names = sorted("::".join(module) or "lib.rs" for module in circle)
                print(f"{folder.name}: {kind} in a circle: {', '.join(names)}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
