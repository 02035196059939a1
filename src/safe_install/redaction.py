"""Secrets out of texts: what an address, an option or a setting may carry beside what it names.
Decisions only.

Every text that is shown, raised or kept goes through `redact`, and every command line that is kept
through `redact_words`; what is sent to a host does not.
"""

from __future__ import annotations

import re
from typing import List, Sequence

HIDDEN = "****"
_VARIABLES = re.compile(r"\$\{\w+\}(:\$\{\w+\})?")  # as pip keeps them: the names of variables

_USER = re.compile(r"(://)([^\s/?#]*)@")
# Names that end with one of these stand for a secret wherever they are given a value ...
_NAMES = (
    r"[\w.%-]*(?:token|secret|passw(?:or)?d|passphrase|credentials?|(?:api|access|private)[_-]?key)"
)
# ... and these where the value is a parameter of an address or a setting of a build.
_PARAMETER_NAMES = (
    r"(?:[\w.%-]*(?:token|secret|passw(?:or)?d|passphrase|signature|credentials?|auth|sig|key)"
    r"|(?:[\w.%-]*[_.-])?(?:access|pat|code|pass|pwd|jwt|bearer|session))"
)
_PARAMETER = re.compile(rf"([?&;#]{_PARAMETER_NAMES}=)[^&\s\"'#]+", re.IGNORECASE)
# Not the `==` of a requirement.
_ASSIGNMENT = re.compile(rf"((?<![\w.%-]){_NAMES}=)(?!=)[^&\s\"'#,;]+", re.IGNORECASE)
_SETTING = re.compile(rf"^((?:.*=)?-*{_PARAMETER_NAMES}=)(?!=).+", re.IGNORECASE | re.DOTALL)
_SETTING_OPTIONS = (
    "--config-settings",
    "--config-setting",
    "--global-option",
    "--build-option",
    "--install-option",
)
_SHORT_SETTING = "-C"


def redact(text: str) -> str:
    """The text without user names and passwords of addresses, and without the values that stand for
    a secret."""
    if "@" in text:
        text = _USER.sub(_hide_user, text)
    if "=" not in text:
        return text
    text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", text)


def without_secrets(url: str) -> str:
    """An address as a document may hold it that others use: without user name and password, which
    are the reader's to give (`git@` and the names of variables stay), and with other secrets hidden."""
    return redact(_USER.sub(_drop_user, url))


def _drop_user(found: re.Match[str]) -> str:
    hidden = _hide_user(found)
    return "://" if HIDDEN in hidden else hidden


def _hide_user(found: re.Match[str]) -> str:
    if found.group(2) in ("git", HIDDEN) or _VARIABLES.fullmatch(found.group(2)):
        return found.group()
    return f"://{HIDDEN}@"


def redact_words(words: Sequence[str]) -> List[str]:
    """A command line without its secrets: each word as `redact`, and what builds are told (`-C
    token=...`)."""
    kept: List[str] = []
    is_setting = False  # the word before was an option whose value is one
    for word in words:
        redacted = redact(word)
        option, has_value, value = redacted.partition("=")
        if is_setting:
            redacted = _redact_setting(redacted)
        elif has_value and option in _SETTING_OPTIONS:
            redacted = f"{option}={_redact_setting(value)}"
        elif redacted.startswith(_SHORT_SETTING) and redacted != _SHORT_SETTING:
            redacted = _SHORT_SETTING + _redact_setting(redacted[len(_SHORT_SETTING) :])
        is_setting = not is_setting and (word == _SHORT_SETTING or word in _SETTING_OPTIONS)
        kept.append(redacted)
    return kept


def _redact_setting(setting: str) -> str:
    """`KEY=VALUE`, and options inside of it: `--global-option=--token=...`."""
    return _SETTING.sub(rf"\1{HIDDEN}", setting)
