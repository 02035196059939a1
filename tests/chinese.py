"""What is left of English in what the Chinese catalogue makes of a sentence of the program."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List

from safe_install.cli.translation.catalogue import read_catalogue

# What stays: code, what torch or Python said, pip's words, lines to type, paths and addresses.
STAYS = re.compile(
    r"`[^`]*`|\"[^\"]*\"|失败[^：]*：.*|\w*(?:Error|Exception): .*|\S+ requires .*"
    r"|(?:safe-install|export|unset|rm|pip|conda|kill|apt-get|dnf|docker|python\S*) [ -~]*"
    r"|[!-~]*[/=][!-~]*|[!-~]+\.(?:pth|py|so)[!-~]*|NVML error .*|Fatal Python error: .*"
    r"|'utf-8' codec .*",
    re.DOTALL,
)
ENGLISH = re.compile(
    r"\b(?:the|is|are|was|were|has|have|not|which|from|with|here|there|of|for|and|to|in|it|no)\b"
)


def english_left(text: str) -> List[str]:
    """The English words that give a sentence away."""
    said = STAYS.sub("", read_catalogue("zh_CN").translate(text))
    return ENGLISH.findall(said)


def assert_said_in_chinese(document: Dict[str, Any]) -> None:
    """All that a document of doctor tells a person."""
    for text in _texts(document):
        assert not english_left(text), f"{text} -> {read_catalogue('zh_CN').translate(text)}"


def _texts(document: Dict[str, Any]) -> Iterator[str]:
    for finding in document["findings"]:
        yield finding["detail"]
        yield finding["hint"]
    for check in document["details"].get("checks", ()):
        yield check["because"]
    for _, answer in document["details"].get("questions", ()):
        yield answer
