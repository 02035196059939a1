"""The text of a requirements file, wherever it lies."""

from __future__ import annotations

import codecs
import locale
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from safe_install.errors import InputError
from safe_install.ports import World

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


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
    """As pip reads it: the byte order mark, else a coding line, else UTF-8, else the locale."""
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
