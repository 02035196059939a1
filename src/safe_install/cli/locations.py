"""Reads requirements files from paths and URLs."""

from __future__ import annotations

import atexit
import codecs
import dataclasses
import locale
import re
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from safe_install.errors import InputError
from safe_install.ports import World
from safe_install.resolve.command_line import Word, Words

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


# Paths that mean another file in another process.
_OWN_NAMES = ("/dev/stdin", "/dev/fd/", "/proc/self/", "/proc/thread-self/")


def copy_streams(words: Words) -> Words:
    """The words, with a copy of each requirements file that only this process can read, or only
    once: `-r /dev/stdin`, and `-r <(COMMAND)` of a shell. pip reads it after us.

    The copy has a name: a pip that Landlock confines cannot open /proc/PID/fd of this process.
    """
    return dataclasses.replace(words, all=tuple(map(_with_copy, words.all)))


def _with_copy(word: Word) -> Word:
    if word.key not in ("requirement", "constraint") or word.value is None:
        return word
    path = Path(word.value)
    try:
        if path.is_file() and not word.value.startswith(_OWN_NAMES):
            return word
        content = path.read_bytes()
    except (OSError, ValueError):
        return word  # an address, or what cannot be read: its reader says so
    copy = tempfile.NamedTemporaryFile(prefix="safe-install-", suffix=".txt")  # noqa: SIM115
    atexit.register(copy.close)  # which removes it
    copy.write(content)
    copy.flush()
    return word._replace(value=copy.name, text=(f"--{word.key}", copy.name))


def read_location(location: str, *, world: World) -> str:
    """The text of a requirements file: a path, or a URL. Errors: InputError."""
    if location.startswith(("http://", "https://")):
        from safe_install.pipeline.client import make_client

        page = make_client(world).get_page(location)
        if not page.text:
            told = page.detail or page.status.value
            raise InputError(
                f"{location} could not be read: {told}",
                hint="Correct the address, or give a local copy.",
            )
        return page.text
    path = Path(unquote(urlsplit(location).path) if location.startswith("file://") else location)
    try:
        return _decode(path.read_bytes())
    except (OSError, UnicodeDecodeError, LookupError) as error:
        hint = "Correct the path." if isinstance(error, OSError) else "Save it as UTF-8."
        raise InputError(
            f"Could not open requirements file: {location}: {error}", hint=hint
        ) from error


def _decode(content: bytes) -> str:
    """The text of a file, decoded as by pip: byte order mark, else coding line, else UTF-8, else
    locale."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    for line in content.split(b"\n")[:2]:
        match = re.match(rb"#.*coding[:=]\s*([-\w.]+)", line)
        if match:
            return content.decode(match.group(1).decode("ascii"))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(locale.getpreferredencoding(False))
