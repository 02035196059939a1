"""Removes secrets from texts: passwords and tokens in URLs, options and settings. Pure.

Every text that is shown, raised or stored goes through `redact`, and every stored command line
through `redact_words`. What is sent to a host does not.
"""

from __future__ import annotations

import re
from typing import List, Sequence

HIDDEN = "****"
_VARIABLES = re.compile(
    r"\$\{\w+\}(:\$\{\w+\})?"
)  # names of variables instead of user and password

_USER = re.compile(r"(://)([^\s/?#]*)@")
# A name with one of these endings stands for a secret, wherever it has a value.
_NAMES = (
    r"[\w.%-]*(?:token|secret|passw(?:or)?d|passphrase|credentials?|(?:api|access|private)[_-]?key)"
)
# These names stand for a secret in a parameter of a URL, or in a setting of a build.
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
    """The text without user names and passwords in URLs, and without the values of secrets."""
    if "@" in text:
        text = _USER.sub(_hide_user, text)
    if "=" not in text:
        return text
    text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", text)


def without_secrets(url: str) -> str:
    """A URL for a document that other people use: without user name and password (`git@` and names
    of variables stay), and with other secrets hidden."""
    return redact(_USER.sub(_drop_user, url))


def _drop_user(found: re.Match[str]) -> str:
    hidden = _hide_user(found)
    return "://" if HIDDEN in hidden else hidden


def _hide_user(found: re.Match[str]) -> str:
    if found.group(2) in ("git", HIDDEN) or _VARIABLES.fullmatch(found.group(2)):
        return found.group()
    return f"://{HIDDEN}@"


def redact_words(words: Sequence[str]) -> List[str]:
    """A command line without secrets: each word is redacted, and so are the settings of builds (`-C
    token=...`)."""
    kept: List[str] = []
    is_setting = False  # the word before was an option that takes a setting
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
    """Redact `KEY=VALUE`, also in an option for a build: `--global-option=--token=...`."""
    return _SETTING.sub(rf"\1{HIDDEN}", setting)
