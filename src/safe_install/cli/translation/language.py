"""The language of messages, chosen by the locale as in GNU gettext."""

from __future__ import annotations

from typing import Mapping, Optional

ENGLISH = "en"
CHINESE = "zh_CN"  # the name of its catalogue
VARIABLE = "SAFE_INSTALL_LANGUAGE"
# The first one that is set is the locale of messages.
LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
NO_LANGUAGE = ("", "C", "POSIX")  # with these locales LANGUAGE is ignored


def choose_language(environ: Mapping[str, str]) -> str:
    """The user's language, by the variables of the locale."""
    asked = _known(environ.get(VARIABLE, ""))
    if asked is not None:
        return asked
    locale = next((environ[name] for name in LOCALE_VARIABLES if environ.get(name)), "")
    if _without_encoding(locale) in NO_LANGUAGE:
        return ENGLISH
    listed = environ.get("LANGUAGE") or locale
    for name in listed.split(":"):
        known = _known(name)
        if known is not None:
            return known
    return ENGLISH


def _known(name: str) -> Optional[str]:
    """`zh_CN.UTF-8` -> the language; None for one without a catalogue.

    zh_TW, zh_HK and zh_MO are written in other characters.
    """
    words = _without_encoding(name).replace("-", "_").lower().split("_")
    if words[0] == "en" or name in ("C", "POSIX"):
        return ENGLISH
    if words[0] == "zh" and not {"tw", "hk", "mo", "hant"} & set(words):
        return CHINESE
    return None


def _without_encoding(name: str) -> str:
    return name.partition(".")[0].partition("@")[0]
