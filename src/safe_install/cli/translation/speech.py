"""Translates the sentences that are printed. For English nothing else is loaded."""

from __future__ import annotations

from safe_install.cli.translation.language import ENGLISH

# A stream that lacks one of these characters gets English.
SAMPLE = "\u4e2d\u6587\uff1a\u3002"

_language = ENGLISH


def speak(language: str) -> None:
    """Set the language of this process."""
    global _language
    _language = language


def say(text: str) -> str:
    """A sentence of ours, or several lines, in that language; English where there is no
    translation."""
    if _language == ENGLISH:
        return text
    from safe_install.cli.translation.catalogue import read_catalogue

    return read_catalogue(_language).translate(text)
