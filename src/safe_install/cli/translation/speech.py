"""Says a sentence in the language of the person. Where that is English, nothing else is loaded."""

from __future__ import annotations

from safe_install.cli.translation.language import ENGLISH

# A stream that lacks one of these characters gets English.
SAMPLE = "\u4e2d\u6587\uff1a\u3002"

_language = ENGLISH


def speak(language: str) -> None:
    """From now on, in this process."""
    global _language
    _language = language


def say(text: str) -> str:
    """A sentence of ours, or several lines of them; what nobody has translated stays English."""
    if _language == ENGLISH:
        return text
    from safe_install.cli.translation.catalogue import read_catalogue

    return read_catalogue(_language).translate(text)
