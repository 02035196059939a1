"""Addresses of wheels as templates, so that one text of the wheel page serves many cells."""

from __future__ import annotations

import re
from typing import Dict, Mapping

from safe_install.index.facts import Build
from safe_install.index.filename import fields_of


def template_values(build: Build, accelerator: str, pair: str) -> Dict[str, str]:
    """What the page fills in, by the letter that stands for it."""
    fields = fields_of(build.torch, accelerator)
    digits = re.search(r"\d+", pair)
    return {
        "p": pair,
        "v": build.version,
        "t": build.torch,
        "m": fields["minor"],
        "d": fields["digits"],
        "a": accelerator,
        "c": fields["cuda"],
        "n": digits.group() if digits else "",
        "w": build.platform,
    }


def generalize(url: str, values: Mapping[str, str]) -> str:
    """The address with letters for its values, so that one text serves many cells."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    folder, _, file = path.rpartition("/")
    file = file.replace(f"-{values['p']}-{values['w']}.whl", "-{p}-{w}.whl")
    file = file.replace(f"-{values['v']}", "-{v}", 1)
    file = _replaced(file, rf"(?<=pt){values['d']}(?={values['a']})", "{d}")
    for letter in "atcm":
        folder = _between(folder, letter, values)
        file = _between(file, letter, values)
    folder = _between(folder, "v", values)
    folder = _replaced(folder, rf"(?<=/cp){values['n']}(?=/|$)", "{n}")
    return f"{scheme}://{host}{slash}{folder}{'/' if folder else ''}{file}"


def _between(text: str, letter: str, values: Mapping[str, str]) -> str:
    value = values[letter]
    # Not inside a longer number, word or placeholder: 12.1 is not part of 2.12.1.
    return (
        _replaced(text, rf"(?<![{{\d.]){re.escape(value)}(?![\d}}]|\.\d)", f"{{{letter}}}")
        if value
        else text
    )


def _replaced(text: str, pattern: str, by: str) -> str:
    return re.sub(pattern, by, text)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The same as the page's script does."""
    return re.sub(r"{(\w)}", lambda found: values[found.group(1)], template)
