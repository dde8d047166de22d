"""Requests made up from an OpenAPI document, well-formed and not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "1001", "2024-03-01T12:00:00Z", "NaN", "\x00", "\U0001f980"])
)
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


class Api:
    """What an OpenAPI document says of requests and answers.

    Args:
        document: the document.
        words: for members of bodies the texts that mean something to the server there, such as
            names of its views.
        keys: names of columns.
    """

    def __init__(
        self, document: dict[str, Any], words: Mapping[str, Sequence[str]], keys: Sequence[str]
    ) -> None:
        self._document = document
        self._words = {name: st.sampled_from(sorted(texts)) for name, texts in words.items()}
        self._keys = st.sampled_from(sorted(keys))

    def operations(self) -> list[tuple[str, str]]:
        """Every method and path."""
        paths = self._document["paths"].items()
        return [(method, path) for path, methods in paths for method in methods]

    def statuses(self, method: str, path: str) -> set[int]:
        """The status codes that are described."""
        return {int(status) for status in self._document["paths"][path][method]["responses"]}

    def bodies(self, path: str) -> st.SearchStrategy[bytes]:
        """Bodies of a POST: as described, nearly so, and anything."""
        content = self._document["paths"][path]["post"]["requestBody"]["content"]
        described = self._values(content["application/json"]["schema"], "")
        near = st.builds(_spoil, described, st.integers(0, 9), ANYTHING)
        return (described | described | near | ANYTHING).map(_to_json) | st.binary(max_size=60)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            found: Any = self._document
            for key in schema["$ref"].removeprefix("#/").split("/"):
                found = found[key]
            schema = found
        return schema

    def _values(self, schema: Mapping[str, Any], member: str) -> st.SearchStrategy[Any]:
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return st.one_of(*(self._values(one, member) for one in schema["anyOf"]))
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type")
        if kind == "string":
            if schema.get("format") == "date-time":
                return st.datetimes().map(lambda time: time.isoformat())
            return self._words.get(member, st.text(max_size=8))
        if kind == "array":
            return st.lists(self._values(schema["items"], member), max_size=3)
        if kind == "object":
            return self._objects(schema)
        simple: dict[str, st.SearchStrategy[Any]] = {
            "boolean": st.booleans(),
            "integer": st.integers(),
            "null": st.none(),
        }
        return simple.get(kind or "", ANYTHING)

    def _objects(self, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
        if "additionalProperties" in schema:
            return st.integers(1, 3).flatmap(self._columns)
        properties = schema.get("properties", {}).items()
        members = {name: self._values(one, name) for name, one in properties}
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: value for name, value in members.items() if name in required},
            optional={name: value for name, value in members.items() if name not in required},
        )

    def _columns(self, rows: int) -> st.SearchStrategy[Any]:
        """Columns of so many rows; most of them of numbers."""
        numbers = st.lists(st.integers(1000, 1005), min_size=rows, max_size=rows)
        column = numbers | numbers | st.lists(ANYTHING, max_size=3)
        return st.dictionaries(self._keys | st.text(max_size=5), column, min_size=1, max_size=3)


def _to_json(value: Any) -> bytes:
    # Lone surrogates are bytes that are no UTF-8.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _spoil(body: Any, member: int, value: Any) -> Any:
    """`body` with one of its members replaced."""
    names = sorted(body) if isinstance(body, dict) else []
    if not names:
        return value
    return body | {names[member % len(names)]: value}
