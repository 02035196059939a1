#!/usr/bin/env python3
"""translations.py [LANGUAGE]: the sentences of the source that the catalogue of a language lacks.

LANGUAGE: zh_CN where none is named. Each sentence needs an entry of its own: that a wider one matches
is not enough. What is missing is printed as entries of a .po file, to be put into
src/safe_install/cli/translation/LANGUAGE.po and translated there; a test fails as long as one is missing.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from safe_install.cli.translation.catalogue import Catalogue, read_catalogue  # noqa: E402
from safe_install.cli.translation.template import FIELD  # noqa: E402

SOURCE = ROOT / "src" / "safe_install"
# What a person meets in the first hour: every sentence in these is translated.
SPOKEN = (
    "errors.py",
    "folders.py",
    "requirements.py",
    "cli/bundled.py",
    "cli/explained.py",
    "cli/fixing.py",
    "cli/fleet_front.py",
    "cli/locations.py",
    "cli/main.py",
    "cli/options.py",
    "cli/planned.py",
    "cli/ranks.py",
    "cli/text.py",
    "commands/abandon.py",
    "commands/bundle.py",
    "commands/check_wheel.py",
    "commands/commit.py",
    "commands/diff.py",
    "commands/doctor.py",
    "commands/explain.py",
    "commands/export.py",
    "commands/fleet.py",
    "commands/history.py",
    "commands/install.py",
    "commands/recover.py",
    "commands/status.py",
    "commands/sync.py",
    "commands/undo.py",
    "commands/uninstall.py",
    "commands/verify.py",
    "commands/wheels.py",
    "diagnosis/checks.py",
    "diagnosis/environment_checks.py",
    "diagnosis/health_findings.py",
    "diagnosis/gather.py",
    "diagnosis/jit_builds.py",
    "diagnosis/machine_checks.py",
    "diagnosis/machine_facts.py",
    "diagnosis/questions.py",
    "diagnosis/record_checks.py",
    "diagnosis/record_facts.py",
    "diagnosis/run.py",
    "diagnosis/shell_checks.py",
    "diagnosis/torch_checks.py",
    "environment/interpreter.py",
    "environment/stamp.py",
    "fleet/answers.py",
    "fleet/comparison.py",
    "fleet/conclusion.py",
    "fleet/dask.py",
    "fleet/engines/ansible.py",
    "fleet/engines/cluster.py",
    "fleet/engines/dask.py",
    "fleet/engines/members.py",
    "fleet/engines/ray.py",
    "fleet/engines/script.py",
    "fleet/groups.py",
    "fleet/opening.py",
    "fleet/phases.py",
    "fleet/ray.py",
    "fleet/report.py",
    "fleet/run.py",
    "fleet/state.py",
    "fleet/state_file.py",
    "health/comparison.py",
    "health/cuda.py",
    "health/origin.py",
    "health/running.py",
    "index/bundled.py",
    "index/catalog.py",
    "index/facts.py",
    "index/finder.py",
    "index/search.py",
    "index/torch_pages.py",
    "index/update.py",
    "pipeline/*.py",
    "resolve/accelerator.py",
    "resolve/bundle_request.py",
    "resolve/carried.py",
    "resolve/command_line.py",
    "resolve/companions.py",
    "resolve/compatibility.py",
    "resolve/fleet_request.py",
    "resolve/guard.py",
    "resolve/hints.py",
    "resolve/no_candidate.py",
    "resolve/no_torch.py",
    "resolve/opening.py",
    "resolve/options_table.py",
    "resolve/own_options.py",
    "resolve/permission.py",
    "resolve/plan.py",
    "resolve/provider.py",
    "resolve/ranking.py",
    "resolve/request.py",
    "resolve/requirements_file.py",
    "resolve/rounds.py",
    "resolve/spelling.py",
    "resolve/step_lines.py",
    "resolve/target.py",
    "resolve/torch_change.py",
    "resolve/torch_choice.py",
    "resolve/torch_conflict.py",
    "resolve/torch_fit.py",
    "resolve/torch_options.py",
    "resolve/torch_ranking.py",
    "snapshot/index_search.py",
    "snapshot/local_files.py",
    "snapshot/bundle_file.py",
    "snapshot/changes.py",
    "snapshot/conda_reader.py",
    "snapshot/described.py",
    "snapshot/difference.py",
    "snapshot/files.py",
    "snapshot/forms.py",
    "snapshot/gather.py",
    "snapshot/lock_change.py",
    "snapshot/lock_plan.py",
    "snapshot/locked.py",
    "snapshot/manifest.py",
    "snapshot/notes.py",
    "snapshot/past.py",
    "snapshot/program.py",
    "snapshot/pylock_reader.py",
    "snapshot/sources.py",
    "snapshot/steps.py",
    "snapshot/supply.py",
    "snapshot/sync_request.py",
    "system/http.py",
    "system/http_body.py",
    "system/mirrors.py",
    "system/page_cache.py",
    "system/partial_file.py",
    "system/pip.py",
    "system/read_only.py",
    "transaction/*.py",
    "wheels/abi.py",
    "wheels/archive.py",
    "wheels/build.py",
    "wheels/build_log.py",
    "wheels/fetch.py",
    "wheels/gpu.py",
    "wheels/inspection.py",
    "wheels/lock.py",
    "wheels/recipe.py",
    "wheels/record.py",
    "wheels/source.py",
    "wheels/store.py",
    "wheels/toolkit.py",
    "wheels/toolkit_choice.py",
    "wheels/unpack.py",
    "wheels/zip_archive.py",
)
# What begins with one of these is a line to type, unless a full stop ends it.
LINES_TO_TYPE = (
    "apt (NVIDIA's repository): ", "conda install", "conda remove", "conda: conda install ",
    "echo ", "export ", "find ", "import sys", "import torch", "pdm add",
    "pip cache", "pip config", "pixi add", "poetry add", "python -m", "python {", "rm -r ", "safe-install ",
    "unset ", "uv add", "{realpath} -m venv ",
)  # fmt: skip
# Words of pip, which people and scripts look for: they stay as they are.
WORDS_OF_PIP = (
    "Attempting uninstall", "Can not perform a '--user'", "Could not open requirements file",
    "Found existing installation", "Installing collected packages", "Invalid requirement: ",
    "Looking in ", "Not uninstalling ", "Proceed (Y/n)", "Requirement already satisfied",
    "Successfully ", "Uninstalling ", "WARNING: ", "Would install ", "Would remove:",
    "The package was installed by ", "You might be able to recover",
    "You must give at least one requirement", "Your response (",
    "externally-managed-environment: ",
)  # fmt: skip
# Words of others, which are looked for, code, and lists.
READ_ONLY = (
    "(?m)", "(exec(compile(", "Bad owner or permissions", "Bearer ", "Failed to load the backend", "Killed signal",
    "No module named ", "No space left on device", "Permission denied", "Python\\.h",
    "Read-only file system", "Version: ",
    "[Cc]annot allocate", "application/vnd.pypi", "cannot allocate memory in static",
    "cannot enable executable", "detected CUDA version", "failed to map segment", "fatal error: ",
    "import importlib", "import os", "unsupported GNU", "urlopen error",
)  # fmt: skip
# The keys of a document as one text: `keys = "name version"`, `_object(row, "name version")`.
KEYS, READER_OF_KEYS = "keys", "_object"
WORD = re.compile(r"(?<![\w./$~<>=-])[A-Za-z][a-z]+(?![\w/=(]|[.-]\w)")
# What parts of a text are told one by one: lines, sentences, clauses.
BETWEEN_PARTS = (re.compile("\n"), re.compile(r"(?<=\.) (?=[A-Z])"), re.compile("; "))
Piece = Union[ast.AST, str]  # of a sentence: a literal, or what a value is taken from
FIRST_VALUE = 7001


@dataclass(frozen=True)
class Sentence:
    """One sentence, with names for the values in it."""

    place: str  # file and line
    template: str  # "{name} {version} is gone"
    fields: Tuple[str, ...]

    @property
    def values(self) -> Tuple[str, ...]:
        """A number for each field."""
        return tuple(str(FIRST_VALUE + place) for place in range(len(self.fields)))

    @property
    def sample(self) -> str:
        """The finished sentence with these numbers in it."""
        return _fill(self.template, dict(zip(self.fields, self.values)))


def _fill(template: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found.group(1), found.group()), template)


def spoken_files() -> List[Path]:
    """The files whose sentences are translated."""
    return [path for pattern in SPOKEN for path in sorted(SOURCE.glob(pattern))]


def collect_sentences(path: Path) -> List[Sentence]:
    """The sentences in a file, each once. A branch within a sentence makes two of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: Dict[str, Sentence] = {}
    for node in _texts(tree, _not_said(tree)):
        for pieces in _alternatives(node) or ():
            template, fields = _name_fields(pieces)
            if _is_prose(template):
                place = f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)}"
                found.setdefault(template, Sentence(place, template, fields))
    return list(found.values())


def _not_said(tree: ast.Module) -> Set[int]:
    """Docstrings, patterns and lists, by the identity of their nodes."""
    found: Set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        elif isinstance(node, ast.Compare):
            found.update(id(text) for text in (node.left, *node.comparators))
        elif isinstance(node, ast.Call) and _only_looks(node.func):
            found.update(id(argument) for argument in node.args)
        elif isinstance(node, ast.Attribute) and node.attr == "split":
            found.add(id(node.value))  # a list of names, written as one text
        elif isinstance(node, ast.Assign) and _names(node.targets) == [KEYS]:
            found.add(id(node.value))
    return found


def _only_looks(called: ast.expr) -> bool:
    """`re.search`, `text.startswith`: what stands in the call is looked for, and not said."""
    if isinstance(called, ast.Name):
        return called.id == READER_OF_KEYS
    if not isinstance(called, ast.Attribute):
        return False
    of_re = isinstance(called.value, ast.Name) and called.value.id == "re"
    return of_re or called.attr in ("startswith", "endswith", "partition", "replace")


def _names(nodes: Sequence[ast.expr]) -> List[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def _texts(node: ast.AST, left_out: Set[int]) -> Iterator[ast.AST]:
    """The outermost expressions that are texts."""
    if id(node) in left_out:
        return
    if _alternatives(node) is not None:
        yield node
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue) and _alternatives(part.value) is None:
                yield from _texts(part.value, left_out)
        return
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, left_out)


def _alternatives(node: ast.AST) -> Optional[List[List[Piece]]]:
    """What a text may be, as lists of literals and expressions; None for what is no text."""
    if isinstance(node, ast.Constant):
        return [[node.value]] if isinstance(node.value, str) else None
    if isinstance(node, ast.FormattedValue):
        return _alternatives(node.value) or [[node.value]]
    if isinstance(node, ast.JoinedStr):
        return _joined(node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([node.left, node.right]) if _has_text(node.left, node.right) else None
    if isinstance(node, ast.IfExp) and _has_text(node.body, node.orelse):
        body = _alternatives(node.body) or [[node.body]]
        return body + (_alternatives(node.orelse) or [[node.orelse]])
    return None


def _has_text(*nodes: ast.AST) -> bool:
    return any(_alternatives(node) is not None for node in nodes)


def _joined(nodes: Sequence[ast.AST]) -> List[List[Piece]]:
    joined: List[List[Piece]] = [[]]
    for node in nodes:
        options = _alternatives(node) or [[node]]
        joined = [before + option for before in joined for option in options]
    return joined


def _name_fields(pieces: Sequence[Piece]) -> Tuple[str, Tuple[str, ...]]:
    """The sentence with its fields, and their names. Neighbours are one field."""
    template = ""
    fields: List[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            template += piece
        elif template.endswith("}"):
            template = template[: -len(fields.pop()) - 2]
            fields.append(_unique("words", fields))
            template += f"{{{fields[-1]}}}"
        else:
            fields.append(_unique(_field_name(piece), fields))
            template += f"{{{fields[-1]}}}"
    return template, tuple(fields)


def _unique(name: str, taken: Sequence[str]) -> str:
    same = [one for one in taken if re.fullmatch(rf"{name}(_\d+)?", one)]
    return f"{name}_{len(same) + 1}" if same else name


def _field_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id.strip("_").lower()
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_").lower()
    if isinstance(node, (ast.Subscript, ast.Starred, ast.GeneratorExp, ast.ListComp)):
        inner = node.value if isinstance(node, (ast.Subscript, ast.Starred)) else node.elt
        return _field_name(inner)
    if isinstance(node, ast.Call):
        called = _field_name(node.func)
        if called == "len":
            return "number"
        is_plain = called in ("join", "str", "sorted", "min", "max", "quote", "map")
        return _field_name(node.args[-1]) if is_plain and node.args else called
    is_number = isinstance(node, ast.BinOp) and isinstance(
        node.op, (ast.Sub, ast.Div, ast.FloorDiv)
    )
    return "number" if is_number else "value"


def _is_prose(template: str) -> bool:
    """Is it said to people? Lines to type, words of pip and names are not."""
    text = template.strip()
    if text.startswith((*WORDS_OF_PIP, *READ_ONLY)):
        return False
    words = WORD.findall(re.sub(r"\{\w+\}|`[^`]*`|'[^']*'", "", text))
    if not words or " " not in text:
        return False
    is_typed = text.startswith(LINES_TO_TYPE) or " && safe-install " in text
    return text.endswith(".") or not is_typed


def is_translated(sentence: Sentence, catalogue: Catalogue) -> bool:
    """Has the catalogue an entry of its own for it, or for each part that it is told in?"""
    values = dict(zip(sentence.fields, sentence.values))
    return _is_known(sentence.template, values, catalogue)


def _is_known(text: str, values: Mapping[str, str], catalogue: Catalogue) -> bool:
    _, beginning, text = catalogue.split_beginning(text.strip())
    if beginning and not _is_prose(text):
        return True
    source = catalogue.source_of(_fill(text, values))
    if source is not None and _without_names(source) == _without_names(text):
        return True
    name, colon, rest = text.partition(": ")
    if colon and FIELD.fullmatch(name):
        return _is_known(rest, values, catalogue)
    for separator in BETWEEN_PARTS:
        parts = [part for part in separator.split(text) if part]
        if len(parts) > 1:
            return all(not _is_prose(one) or _is_known(one, values, catalogue) for one in parts)
    return False


def _without_names(template: str) -> str:
    """The sentence, whatever its fields are called."""
    return FIELD.sub("{}", template)


def main(words: Sequence[str]) -> int:
    """Print what is missing; status 1 where something is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("language", nargs="?", default="zh_CN", metavar="LANGUAGE")
    catalogue = read_catalogue(parser.parse_args(words).language)
    missing = [
        sentence
        for path in spoken_files()
        for sentence in collect_sentences(path)
        if not is_translated(sentence, catalogue)
    ]
    for sentence in missing:
        text = sentence.template.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        print(f'#: {sentence.place}\nmsgid "{text}"\nmsgstr ""\n')
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
