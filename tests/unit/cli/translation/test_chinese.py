"""Every sentence of the program has a translation, and loses no value in it."""

from __future__ import annotations

import pkgutil
import re
from collections import Counter

import pytest

from safe_install.cli.translation.catalogue import parse_catalogue, read_catalogue
from safe_install.cli.translation.template import FIELD
from tests.scripts import load_script

pytestmark = pytest.mark.any_python

LANGUAGE = "zh_CN"
CHINESE = re.compile("[\u3000-\u9fff\uff00-\uffef]")
translations = load_script("translations")
FILES = translations.spoken_files()


def entries():
    content = pkgutil.get_data("safe_install.cli.translation", f"{LANGUAGE}.po")
    return parse_catalogue(content.decode("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_sentence_is_translated(path):
    """Missing ones are printed by scripts/translations.py, as entries to fill in."""
    catalogue = read_catalogue(LANGUAGE)
    for sentence in translations.collect_sentences(path):
        told = catalogue.find(sentence.sample)
        assert told is not None, f"{sentence.place} has no translation: {sentence.template}"
        is_own = translations.is_translated(sentence, catalogue)
        assert is_own, f"{sentence.place} is told by another sentence: {sentence.template}"
        lost = [value for value in sentence.values if value not in told]
        assert not lost, f"{sentence.place} loses a value: {sentence.template} -> {told}"


def test_the_files_are_those_that_speak():
    names = {path.relative_to(translations.SOURCE).as_posix() for path in FILES}
    assert {"diagnosis/torch_checks.py", "cli/text.py", "pipeline/selection.py"} <= names
    for pattern in translations.SPOKEN:
        assert list(translations.SOURCE.glob(pattern)), pattern


def test_a_finding_without_a_translation_is_named(tmp_path, monkeypatch, capsys):
    """As somebody would add it: with values, a branch, and a hint of its own."""
    module = tmp_path / "new_checks.py"
    module.write_text(
        '"""A docstring is not said."""\n'
        "def check(torch, files):\n"
        '    """Nor is this one."""\n'
        "    if re.search('is never said', torch):\n"
        "        return None\n"
        "    return Finding(\n"
        "        'new-check', Severity.ERROR, 'torch',\n"
        "        f\"{len(files)} {'leaf' if files else 'leaves'} of {torch.version} turned yellow\",\n"
        "        'Water the plants: ' + str(torch),\n"
        "    )\n"
    )
    monkeypatch.setattr(translations, "SOURCE", tmp_path)
    monkeypatch.setattr(translations, "SPOKEN", ("*.py",))
    assert translations.main([LANGUAGE]) == 1
    assert re.findall('msgid "(.*)"', capsys.readouterr().out) == [
        "{number} leaf of {version} turned yellow",
        "{number} leaves of {version} turned yellow",
        "Water the plants: {torch}",
    ]


@pytest.mark.parametrize(
    ("said", "is_translated"),
    [
        ("{name} {version} requires {requirement}", True),
        ("Install {torch} of {cuda}, which nobody has translated", False),
        ("error: {problem}", True),
        ("error: which nobody has translated", False),
        ("{path}: which nobody has translated", False),
        ("Remove {torch}, then install torch. It is one that nobody has translated.", False),
    ],
)
def test_a_sentence_that_a_wider_one_matches_is_missing(said, is_translated):
    """`Install {command}` matches, and is not what is meant."""
    fields = tuple(FIELD.findall(said))
    sentence = translations.Sentence("new.py:1", said, fields)
    assert translations.is_translated(sentence, read_catalogue(LANGUAGE)) is is_translated


def test_nothing_is_missing(capsys):
    assert translations.main([LANGUAGE]) == 0
    assert capsys.readouterr().out == ""


def test_each_sentence_stands_once():
    counted = Counter((entry.context, entry.source) for entry in entries())
    assert [source for source, count in counted.items() if count > 1] == []


def test_a_translation_has_the_fields_of_its_sentence():
    for entry in entries():
        fields = FIELD.findall(entry.source)
        assert len(fields) == len(set(fields)), entry
        assert sorted(fields) == sorted(FIELD.findall(entry.translation)), entry
        assert re.sub(FIELD, "", entry.source).strip(), f"it matches everything: {entry}"


def test_a_translation_is_chinese():
    """What is the same in both is for other sentences not to take it apart: pip's, and names."""
    same = {"{path}", "torch {", "requires {", "-m pip ", "Python {", "an NVIDIA GPU"}
    for entry in entries():
        is_same = any(words in entry.source for words in same) or entry.source == "{task} ..."
        assert CHINESE.search(entry.translation) or is_same, entry


def test_what_is_typed_is_the_same_in_both():
    """Options, variables, commands and addresses."""
    typed = re.compile(
        r"(?<![\w-])(?:--[a-z][a-z-]+|[A-Z][A-Z]+_[A-Z_]+|https?://\S+?(?=[,;.]?(?:\s|$)))"
    )
    for entry in entries():
        wanted = sorted(set(typed.findall(entry.source)))
        told = typed.findall(re.sub(r"[\u3000-\u9fff\uff00-\uffef]", " ", entry.translation))
        assert wanted == sorted(set(told)), entry
