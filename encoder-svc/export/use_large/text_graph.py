"""Removes the strings from a TensorFlow graph that encodes texts. The remaining graph computes with numbers only.

The graph of a text encoder cleans and splits its texts, looks up the tokens in a vocabulary, hashes unknown ones, and
continues with the ids. Here each text, token and constant string becomes a number (a handle). Operations that only move
strings (reshape, gather, fill, pad) move handles in the same way, and a lookup reads a token's id from an input. Nodes are
recognised by operation and type, never by name.

The new graph has three inputs, for any number of texts:

    token_ids     int64 [tokens]     the vocabulary id of each token of all texts, or the table's default
    hash_buckets  int64 [tokens]     the bucket of each token
    row_splits    int64 [texts + 1]  the start of each text's tokens, then their total number

`TextRules` describes the steps before the split and the split itself. Operations:
https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

TOKEN_IDS = "token_ids"
HASH_BUCKETS = "hash_buckets"
ROW_SPLITS = "row_splits"
PRELUDE = "text_prelude"

# Operations that move values without reading them. They treat strings and handles in the same way.
LAYOUT = frozenset(
    """
    BroadcastTo ConcatV2 DynamicPartition DynamicStitch ExpandDims Fill GatherNd GatherV2 Identity Pack PadV2
    ParallelDynamicStitch RaggedTensorToTensor Rank Reshape ScatterNd Select SelectV2 Shape Size Slice Snapshot
    SparseFillEmptyRows SparseReorder SparseToDense Squeeze StopGradient StridedSlice Tile Transpose Unpack Where
    """.split()
)
COMPARISONS = frozenset({"Equal", "NotEqual"})
# Operations allowed on whole texts. Before the split, nothing may move from one text to another.
TEXT_LAYOUT = frozenset("ExpandDims Identity Rank Reshape Shape Size Snapshot Squeeze StopGradient".split())


class TextGraphError(Exception):
    """The graph handles texts in a way that this converter does not support."""


@dataclass(frozen=True)
class Table:
    """A vocabulary: words, as bytes, and their ids."""

    words: list[bytes]
    ids: list[int]


@dataclass(frozen=True)
class TextRules:
    """How a text becomes numbers: the steps in order, the split, and the ids and buckets of tokens."""

    steps: list[dict[str, Any]]
    split: dict[str, Any]
    vocabulary: dict[bytes, int]
    default_id: int
    hash_buckets: int


@dataclass(frozen=True)
class NumericGraph:
    """A graph without strings, and its output tensor."""

    graph_def: tf.compat.v1.GraphDef
    output: str
    rules: TextRules


@dataclass(frozen=True)
class _Texts:
    """A tensor of whole texts, after these steps."""

    steps: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Tokens:
    """A tensor of tokens in any arrangement, possibly with constant strings."""


@dataclass(frozen=True)
class _Constant:
    """A tensor of constant strings."""

    values: np.ndarray


_Kind = _Texts | _Tokens | _Constant


@dataclass
class _Found:
    """The parts found so far. Each may occur only once."""

    split: tuple[tuple[dict[str, Any], ...], dict[str, Any]] | None = None
    table: str | None = None
    default_id: int | None = None
    hash_buckets: int | None = None
    constants: list[bytes] = field(default_factory=list)

    def once(self, name: str, value: Any, what: str) -> None:
        before = getattr(self, name)
        if before not in (None, value):
            raise TextGraphError(f"expected one {what}, found {before!r} and {value!r}")
        setattr(self, name, value)


def without_strings(graph_def: tf.compat.v1.GraphDef, output: str, tables: dict[str, Table]) -> NumericGraph:
    """Returns `graph_def` up to the tensor `output` without its strings. `tables` has the shared names as keys."""
    rewriter = _Rewriter(graph_def, output, tables)
    rewriter.run()
    return rewriter.result()


class _Rewriter:
    def __init__(self, graph_def: tf.compat.v1.GraphDef, output: str, tables: dict[str, Table]) -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.import_graph_def(graph_def, name="")
        self._output = self._graph.get_tensor_by_name(output)
        self._tables = tables
        self._found = _Found()
        self._kinds: dict[str, _Kind] = {}
        # Tensors of the old graph -> tensors of the new one.
        self._replaced: dict[str, str] = {}
        self._nodes: list[Any] = []
        self._handlers: dict[str, Callable[[tf.Operation], None]] = {
            "Placeholder": self._placeholder,
            "PlaceholderWithDefault": self._placeholder,
            "Const": self._constant,
            "StaticRegexReplace": self._regex_replace,
            "RegexReplace": self._regex_replace,
            "StringLower": self._lower,
            "StringStrip": self._strip,
            "StringJoin": self._join,
            "StringSplit": self._split,
            "StringSplitV2": self._split,
            "LookupTableFindV2": self._find,
            "StringToHashBucketFast": self._hash,
        }

    def run(self) -> None:
        for operation in self._ancestors():
            strings = [tensor for tensor in (*operation.inputs, *operation.outputs) if tensor.dtype == tf.string]
            if operation.type == "LookupTableSizeV2":
                self._size(operation)
            elif any(tensor.dtype == tf.resource for tensor in operation.outputs):
                continue
            elif not strings:
                self._keep(operation)
            elif operation.type in self._handlers:
                self._handlers[operation.type](operation)
            elif operation.type in LAYOUT:
                self._layout(operation)
            elif operation.type in COMPARISONS:
                self._compare(operation)
            else:
                raise unknown(operation, "on strings")

    def _ancestors(self) -> list[tf.Operation]:
        """Returns all operations that the output needs, in topological order."""
        order: list[tf.Operation] = []
        seen: set[str] = set()
        stack = [(self._output.op, False)]
        while stack:
            operation, done = stack.pop()
            if done:
                order.append(operation)
            elif operation.name not in seen:
                seen.add(operation.name)
                stack.append((operation, True))
                stack += [(tensor.op, False) for tensor in operation.inputs]
        return order

    def _keep(self, operation: tf.Operation, **attributes: Any) -> Any:
        node = type(operation.node_def)()
        node.CopyFrom(operation.node_def)
        del node.input[:]
        # Control inputs are dropped. They only wait for assertions and tables.
        node.input.extend(self._renamed(tensor) for tensor in operation.inputs)
        for name, value in attributes.items():
            node.attr[name].CopyFrom(value)
        self._nodes.append(node)
        return node

    def _renamed(self, tensor: tf.Tensor) -> str:
        if isinstance(kind := self._kinds.get(tensor.name), _Constant):
            return self._constant_handles(tensor, kind)
        return self._replaced.get(tensor.name, tensor.name)

    def _constant_handles(self, tensor: tf.Tensor, kind: _Constant) -> str:
        """Returns a constant with the handles of constant strings, which precede those of tokens."""
        name = f"{tensor.op.name}/{PRELUDE}_handles"
        if tensor.name not in self._replaced:
            handles = []
            for value in kind.values.reshape(-1).tolist():
                if value not in self._found.constants:
                    self._found.constants.append(value)
                handles.append(self._found.constants.index(value))
            node = _constant_node(name, np.array(handles, np.int64).reshape(kind.values.shape))
            self._nodes.append(node)
            self._replaced[tensor.name] = f"{name}:0"
        return self._replaced[tensor.name]

    # Before the split.

    def _placeholder(self, operation: tf.Operation) -> None:
        self._kinds[operation.outputs[0].name] = _Texts(())
        self._replaced[operation.outputs[0].name] = f"{PRELUDE}/texts:0"

    def _constant(self, operation: tf.Operation) -> None:
        values = tf.make_ndarray(operation.get_attr("value"))
        self._kinds[operation.outputs[0].name] = _Constant(np.asarray(values, dtype=object))

    def _step(self, operation: tf.Operation, source: tf.Tensor, step: dict[str, Any]) -> None:
        kind = self._kinds[source.name]
        if not isinstance(kind, _Texts):
            raise unknown(operation, "after the split")
        self._kinds[operation.outputs[0].name] = _Texts((*kind.steps, step))
        self._replaced[operation.outputs[0].name] = self._renamed(source)

    def _regex_replace(self, operation: tf.Operation) -> None:
        if operation.type == "StaticRegexReplace":
            pattern, rewrite = operation.get_attr("pattern"), operation.get_attr("rewrite")
        else:
            pattern, rewrite = (self._scalar(operation, tensor) for tensor in operation.inputs[1:])
        step = {"step": "replace", "pattern": _utf8(operation, pattern), "rewrite": _utf8(operation, rewrite)}
        self._step(operation, operation.inputs[0], step | {"all": bool(operation.get_attr("replace_global"))})

    def _lower(self, operation: tf.Operation) -> None:
        encoding = operation.get_attr("encoding")
        self._step(operation, operation.inputs[0], {"step": "lower", "unicode": encoding == b"utf-8"})

    def _strip(self, operation: tf.Operation) -> None:
        self._step(operation, operation.inputs[0], {"step": "strip"})

    def _join(self, operation: tf.Operation) -> None:
        texts = [i for i, t in enumerate(operation.inputs) if not isinstance(self._kinds[t.name], _Constant)]
        if len(texts) != 1:
            raise unknown(operation, f"of {len(texts)} texts")
        separator = _utf8(operation, operation.get_attr("separator"))
        words = [
            "" if i in texts else _utf8(operation, self._scalar(operation, tensor))
            for i, tensor in enumerate(operation.inputs)
        ]
        before, after = words[: texts[0]], words[texts[0] + 1 :]
        step = {
            "step": "join",
            "before": separator.join([*before, ""]) if before else "",
            "after": separator.join(["", *after]) if after else "",
        }
        self._step(operation, operation.inputs[texts[0]], step)

    def _scalar(self, operation: tf.Operation, tensor: tf.Tensor) -> bytes:
        kind = self._kinds[tensor.name]
        if not isinstance(kind, _Constant) or kind.values.size != 1:
            raise unknown(operation, f"with {tensor.name}, which is not a constant of one string")
        return bytes(kind.values.reshape(-1)[0])

    # The split and the lookup.

    def _split(self, operation: tf.Operation) -> None:
        kind = self._kinds[operation.inputs[0].name]
        if not isinstance(kind, _Texts):
            raise unknown(operation, "after the split")
        separator = _utf8(operation, self._scalar(operation, operation.inputs[1]))
        if operation.type == "StringSplit":
            split = {"by": "any_of", "separators": separator, "skip_empty": bool(operation.get_attr("skip_empty"))}
        elif operation.get_attr("maxsplit") != -1:
            raise unknown(operation, f"with a maxsplit of {operation.get_attr('maxsplit')}")
        else:
            split = {"by": "string", "separator": separator} if separator else {"by": "blanks"}
        if separator == "" and operation.type == "StringSplit":
            raise unknown(operation, "into single bytes")
        self._found.once("split", (kind.steps, split), "split of texts")
        indices, tokens, shape = operation.outputs
        self._kinds[tokens.name] = _Tokens()
        for tensor, name in ((indices, "indices"), (tokens, "tokens"), (shape, "shape")):
            self._replaced[tensor.name] = f"{PRELUDE}/{name}:0"

    def _find(self, operation: tf.Operation) -> None:
        table, keys, default = operation.inputs
        if keys.dtype != tf.string or operation.outputs[0].dtype != tf.int64:
            raise unknown(operation, f"from {keys.dtype.name} to {operation.outputs[0].dtype.name}")
        if default.op.type != "Const":
            raise unknown(operation, f"whose default is a {default.op.type}")
        self._found.once("table", self._table_name(table), "vocabulary")
        self._found.once("default_id", int(tf.make_ndarray(default.op.get_attr("value"))), "default id")
        self._gather(operation, keys, "ids")

    def _hash(self, operation: tf.Operation) -> None:
        self._found.once("hash_buckets", int(operation.get_attr("num_buckets")), "number of hash buckets")
        self._gather(operation, operation.inputs[0], "buckets")

    def _gather(self, operation: tf.Operation, tokens: tf.Tensor, of: str) -> None:
        """Replaces `operation` on tokens with a gather from the prelude's values of each handle."""
        if isinstance(self._kinds[tokens.name], _Texts):
            raise unknown(operation, "on whole texts")
        node = tf.compat.v1.NodeDef(name=operation.name, op="GatherV2")
        node.input.extend([f"{PRELUDE}/{of}:0", self._renamed(tokens), f"{PRELUDE}/axis:0"])
        node.attr["Tparams"].type = tf.int64.as_datatype_enum
        node.attr["Tindices"].type = tf.int64.as_datatype_enum
        node.attr["Taxis"].type = tf.int32.as_datatype_enum
        self._nodes.append(node)

    def _size(self, operation: tf.Operation) -> None:
        size = len(self._tables[self._table_name(operation.inputs[0])].words)
        self._nodes.append(_constant_node(operation.name, np.array(size, np.int64)))

    def _table_name(self, table: tf.Tensor) -> str:
        name = table.op.node_def.attr["shared_name"].s.decode() or table.op.name
        if name not in self._tables:
            raise TextGraphError(f"expected the table {name!r} in the model, found {sorted(self._tables)}")
        return name

    # Operations that only move strings.

    def _layout(self, operation: tf.Operation) -> None:
        kinds = [self._kinds[tensor.name] for tensor in operation.inputs if tensor.dtype == tf.string]
        texts = next((kind for kind in kinds if isinstance(kind, _Texts)), None)
        if texts is not None and (len(kinds) > 1 or operation.type not in TEXT_LAYOUT):
            raise unknown(operation, "before the split")
        self._keep(operation, **_string_attributes_as_handles(operation))
        for tensor in operation.outputs:
            if tensor.dtype == tf.string:
                self._kinds[tensor.name] = texts or _Tokens()

    def _compare(self, operation: tf.Operation) -> None:
        """Accepts only a comparison that is never equal, because handles of equal strings may differ."""
        kinds = [self._kinds[tensor.name] for tensor in operation.inputs]
        constants = [kind.values for kind in kinds if isinstance(kind, _Constant)]
        split = self._found.split[1] if self._found.split else {}
        never_empty = split.get("skip_empty") or split.get("by") == "blanks"
        if not (never_empty and len(constants) == 1 and all(value == b"" for value in constants[0].reshape(-1))):
            raise unknown(operation, "of strings")
        self._keep(operation, **_string_attributes_as_handles(operation))

    def result(self) -> NumericGraph:
        found = self._found
        for value, what in (
            (found.split, "split of the texts"),
            (found.table, "lookup of the tokens in a vocabulary"),
            (found.hash_buckets, "hash of the tokens"),
        ):
            if value is None:
                raise TextGraphError(f"expected a {what} in the graph, found none")
        table = self._tables[found.table]
        vocabulary = dict(zip(table.words, table.ids, strict=True))
        steps, split = found.split
        rules = TextRules(list(steps), split, vocabulary, found.default_id, found.hash_buckets)
        graph_def = prelude(found.constants, rules)
        taken = {node.name for node in graph_def.node}
        if clash := next((node.name for node in self._nodes if node.name in taken), None):
            raise TextGraphError(f"expected the name {clash!r} to be free in the graph, found it taken")
        graph_def.node.extend(self._nodes)
        graph_def.versions.CopyFrom(self._graph.as_graph_def().versions)
        return NumericGraph(graph_def, self._output.name, rules)


def prelude(constants: list[bytes], rules: TextRules) -> tf.compat.v1.GraphDef:
    """Builds the inputs and the split's results. Handles of tokens come after those of `constants`."""
    hashes = tf.strings.to_hash_bucket_fast(constants, rules.hash_buckets).numpy() if constants else []
    with tf.Graph().as_default() as graph:
        token_ids = tf.compat.v1.placeholder(tf.int64, [None], TOKEN_IDS)
        buckets = tf.compat.v1.placeholder(tf.int64, [None], HASH_BUCKETS)
        splits = tf.compat.v1.placeholder(tf.int64, [None], ROW_SPLITS)
        starts, ends = splits[:-1], splits[1:]
        texts = tf.size(ends, out_type=tf.int64)
        positions = tf.range(tf.size(token_ids, out_type=tf.int64))
        rows = tf.reduce_sum(tf.cast(positions[:, None] >= ends[None, :], tf.int64), axis=1)
        columns = positions - tf.gather(starts, rows)
        if constants:
            ids = [rules.vocabulary.get(constant, rules.default_id) for constant in constants]
            token_ids = tf.concat([tf.constant(ids, tf.int64), token_ids], axis=0)
            buckets = tf.concat([tf.constant(hashes, tf.int64), buckets], axis=0)
        with tf.name_scope(PRELUDE):
            tf.stack([rows, columns], axis=1, name="indices")
            tf.add(positions, tf.constant(len(constants), tf.int64), name="tokens")
            tf.stack([texts, tf.reduce_max(ends - starts)], name="shape")
            tf.range(texts, name="texts")
            tf.identity(token_ids, name="ids")
            tf.identity(buckets, name="buckets")
            tf.constant(0, tf.int32, name="axis")
        return graph.as_graph_def()


def unknown(operation: tf.Operation, where: str) -> TextGraphError:
    return TextGraphError(f"expected only known operations, found {operation.type} {where} ({operation.name})")


def _utf8(operation: tf.Operation, value: bytes | str) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise unknown(operation, f"with {value!r}, which is not UTF-8") from error


def _string_attributes_as_handles(operation: tf.Operation) -> dict[str, Any]:
    """Returns the attributes with the type string, changed to the type of handles."""
    changed = {}
    for name, value in operation.node_def.attr.items():
        if value.type == tf.string.as_datatype_enum:
            changed[name] = tf.compat.v1.AttrValue(type=tf.int64.as_datatype_enum)
    return changed


def _constant_node(name: str, value: np.ndarray) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.int64.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node
