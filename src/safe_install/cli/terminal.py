"""Prints lines on stdout and stderr, with the terminal's width, colour, encoding and language."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import IO, Any, List, Mapping, Optional, Tuple

from safe_install.cli.translation.language import ENGLISH, choose_language
from safe_install.cli.translation.speech import SAMPLE, speak
from safe_install.redaction import redact

WIDE = 1000  # columns of what is no terminal
USUAL_WIDTH = 80
USUAL_HEIGHT = 24
# A line that begins with one of these is not wrapped, because it is copied as a whole.
COPIED = ("Undo with: ", "撤销命令：")
BOLD_RED, BOLD_GREEN, YELLOW, CYAN = "1;31", "1;32", "33", "36"
# What a line begins with, and the colour of that beginning (ECMA-48, "select graphic rendition").
COLOURS: Tuple[Tuple[str, str], ...] = (
    ("error:", BOLD_RED),
    ("Not healthy", BOLD_RED),
    ("Refused:", BOLD_RED),
    ("Rolled back:", BOLD_RED),
    ("warning:", YELLOW),
    ("hint:", CYAN),
    ("  hint:", CYAN),
    ("note:", CYAN),
    ("Healthy", BOLD_GREEN),
    ("Successfully", BOLD_GREEN),
    ("错误：", BOLD_RED),
    ("不健康", BOLD_RED),
    ("已拒绝：", BOLD_RED),
    ("已回滚：", BOLD_RED),
    ("警告：", YELLOW),
    ("提示：", CYAN),
    ("  提示：", CYAN),
    ("说明：", CYAN),
    ("健康", BOLD_GREEN),
)
# Chinese has no spaces: a line may be wrapped at each character, but not before a closing sign or
# after an opening one.
_WIDE = "\u2e80-\u9fff\uff00-\uffef"
_PIECE = rf"\s+|[（“]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[，。；：、）？！”]*"


def prepare_streams(environ: Mapping[str, str]) -> None:
    """Escape characters that a stream's encoding lacks. The user's language is used where both
    streams have its characters."""
    language = choose_language(environ)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        if language != ENGLISH and not can_write(SAMPLE, stream):
            language = ENGLISH
    speak(language)


def read_settings() -> Optional[List[Any]]:
    """The settings of this process's terminal (termios); None without one."""
    try:
        import termios
    except ImportError:  # Windows
        return None
    try:
        with open("/dev/tty", "rb", buffering=0) as device:  # noqa: PTH123 - no file, and it is not read
            return termios.tcgetattr(device)
    except (OSError, termios.error):
        return None


def restore_settings(settings: List[Any]) -> None:
    """Restore the terminal's settings."""
    import termios

    try:
        with open("/dev/tty", "rb", buffering=0) as device:  # noqa: PTH123
            termios.tcsetattr(device, termios.TCSADRAIN, settings)
    except (OSError, termios.error):
        pass  # the terminal is gone


def write_line(text: str, stream: IO[str]) -> None:
    """Print one text of ours, of one or more lines."""
    width = find_width(stream)
    coloured = is_coloured(stream, os.environ)
    for line in text.split("\n"):
        parts = [line] if width is None else wrap(line, width)
        if coloured:
            parts[0] = paint(parts[0])
        for part in parts:
            print(part, file=stream)


def find_width(stream: IO[str]) -> Optional[int]:
    """The columns of a terminal; None where the stream is none."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def find_height(stream: IO[str]) -> int:
    """The lines of a terminal; 0 where the stream is none."""
    if not stream.isatty():
        return 0
    try:
        return os.get_terminal_size(stream.fileno()).lines or USUAL_HEIGHT
    except (OSError, ValueError):
        return USUAL_HEIGHT


def is_coloured(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Use colour? Only on a capable terminal, and not with NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def can_write(text: str, stream: IO[str]) -> bool:
    """Does the stream's encoding have these characters?"""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def wrap(line: str, width: int) -> List[str]:
    """A line in parts of at most `width` columns, split only at spaces and between Chinese
    characters: an ID, a path, a URL stays whole.

    Further parts are indented by two more spaces.
    """
    if count_columns(line) <= width or line.startswith(COPIED):
        return [line]
    indent = line[: len(line) - len(line.lstrip())] + "  "
    if not line.isascii():
        return _wrap_wide(line, width, indent)
    parts = textwrap.wrap(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    return parts or [line]


def _wrap_wide(line: str, width: int, indent: str) -> List[str]:
    parts: List[str] = []
    current = ""
    for piece in re.findall(_PIECE, line):
        if current.strip() and count_columns(current + piece.rstrip()) > width:
            parts.append(current.rstrip())
            current = indent + piece.lstrip()
        else:
            current += piece
    return [*parts, current.rstrip()]


def count_columns(text: str) -> int:
    """The columns that a text takes on a terminal; a Chinese character takes two."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = [one for one in text if unicodedata.east_asian_width(one) in ("W", "F")]
    joined = [one for one in text if unicodedata.combining(one)]
    return len(text) + len(wide) - len(joined)


def paint(line: str) -> str:
    """The line with its beginning ("error:") in the colour of its kind."""
    for beginning, colour in COLOURS:
        if line.startswith(beginning):
            return f"\x1b[{colour}m{beginning}\x1b[0m{line[len(beginning) :]}"
    return line


def printable(text: str) -> str:
    """A text from outside without control characters, which could control a terminal."""
    text = redact(text)
    return "".join(
        character if character.isprintable() or character in "\t\n" else "?" for character in text
    )


def one_line(text: str) -> str:
    """As `printable`, on one line, so that a name or URL cannot look like a line of ours."""
    return printable(text).replace("\n", "?")


def write_document(text: str) -> None:
    """Print a document for programs on stdout, with its characters unchanged, whatever the
    terminal's encoding is."""
    sys.stdout.flush()
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # a stand-in that takes text alone
        sys.stdout.write(text)
    else:
        stream.write(text.encode("utf-8"))
    sys.stdout.flush()
