"""Reads a JSON object key by key, with a type for each. Unknown keys are an error."""

from __future__ import annotations

import re
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple, TypeVar

from safe_install.errors import IndexInvalid

Value = TypeVar("Value")


class JsonObject:
    """One JSON object. Each method takes the value of one key.

    Errors of all methods: IndexInvalid, if the key is missing and has no default, or its value has
    another type.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise invalid_document(where, "must be an object")
        self._left: Dict[str, object] = dict(value)
        self._where = where

    def text(self, key: str, default: Optional[str] = None) -> str:
        """A text."""
        found = self.value(key, default)
        if not isinstance(found, str):
            raise invalid_document(f"{self._where}.{key}", "must be a text")
        return found

    def optional_text(self, key: str) -> Optional[str]:
        """A text; None if the key is missing or null."""
        if self.has(key):
            return self.text(key)
        self._left.pop(key, None)
        return None

    def flag(self, key: str, default: Optional[bool] = None) -> bool:
        """true or false."""
        found = self.value(key, default)
        if not isinstance(found, bool):
            raise invalid_document(f"{self._where}.{key}", "must be true or false")
        return found

    def texts(self, key: str, default: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
        """A list of texts."""
        found = self.value(key, default)
        if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) for item in found):
            raise invalid_document(f"{self._where}.{key}", "must be a list of texts")
        return tuple(found)

    def optional_texts(self, key: str) -> Optional[Tuple[str, ...]]:
        """A list of texts; None if the key is missing or null."""
        if self.has(key):
            return self.texts(key)
        self._left.pop(key, None)
        return None

    def text_mapping(self, key: str) -> Mapping[str, str]:
        """An object whose values are texts; empty if the key is missing."""
        found = self.value(key, {})
        if not isinstance(found, dict):
            raise invalid_document(f"{self._where}.{key}", "must be an object")
        for name, value in found.items():
            if not isinstance(value, str):
                raise invalid_document(f"{self._where}.{key}.{name}", "must be a text")
        return found

    def each(self, key: str, read: Callable[[JsonObject], Value]) -> Tuple[Value, ...]:
        """A list of objects, each read by `read`; empty if the key is missing. `read` must take all
        keys of an object."""
        found = self.value(key, [])
        if not isinstance(found, list):
            raise invalid_document(f"{self._where}.{key}", "must be a list")
        values = []
        for number, item in enumerate(found):
            reader = JsonObject(item, f"{self._where}.{key}[{number}]")
            values.append(read(reader))
            reader.refuse_unknown_keys()
        return tuple(values)

    def choice(self, key: str, make: Callable[[str], Value]) -> Value:
        """A text that `make` turns into a value. `make` raises ValueError for a text that is not
        allowed."""
        text = self.text(key)
        try:
            return make(text)
        except ValueError as error:
            raise invalid_document(
                f"{self._where}.{key}", f"{text!r} is not one of the allowed values"
            ) from error

    def url(self, key: str) -> str:
        """An address."""
        found = self.text(key)
        check_url(found, f"{self._where}.{key}")
        return found

    def urls(self, key: str) -> Tuple[str, ...]:
        """A list of addresses; empty if the key is missing."""
        found = self.texts(key, ())
        for url in found:
            check_url(url, f"{self._where}.{key}")
        return found

    def optional_url(self, key: str) -> Optional[str]:
        """An address; None if the key is missing or null."""
        return self.url(key) if self.has(key) else None

    def flags(self, key: str) -> Tuple[bool, ...]:
        """A list of true and false; empty if the key is missing."""
        found = self.value(key, ())
        if not isinstance(found, (list, tuple)) or not all(
            isinstance(item, bool) for item in found
        ):
            raise invalid_document(f"{self._where}.{key}", "must be a list of true and false")
        return tuple(found)

    def has(self, key: str) -> bool:
        """Is there such a key, and is it not null?"""
        return self._left.get(key) is not None

    def sub(self, key: str) -> JsonObject:
        """An object, to be read key by key."""
        return JsonObject(self.value(key), f"{self._where}.{key}")

    def optional(self, key: str, read: Callable[[JsonObject], Value]) -> Optional[Value]:
        """An object read by `read`, which must take all of its keys; None if the key is missing or
        null."""
        if not self.has(key):
            return None
        reader = self.sub(key)
        value = read(reader)
        reader.refuse_unknown_keys()
        return value

    def refuse_unknown_keys(self) -> None:
        """Errors: IndexInvalid, if a key was not taken."""
        if self._left:
            raise invalid_document(self._where, f"unknown key {sorted(self._left)[0]!r}")

    @property
    def where(self) -> str:
        """The place in the document, for messages."""
        return self._where

    def value(self, key: str, default: object = None) -> object:
        """A value of any type."""
        if key not in self._left:
            if default is None:
                raise invalid_document(self._where, f"the key {key!r} is missing")
            return default
        return self._left.pop(key)


def invalid_document(where: str, what: str) -> IndexInvalid:
    """The error for the place `where` of a document."""
    return IndexInvalid(
        f"wheel index: {where}: {what}", hint="wheel_index/README.md describes the documents"
    )


def check_url(url: str, where: str) -> None:
    """Refuse an address that is not https, or holds credentials. Errors: IndexInvalid."""
    if not re.match(r"https://[^/@\s]+(/|$)", url):
        raise invalid_document(where, f"{url!r} does not begin with https://host/")
