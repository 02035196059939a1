#!/usr/bin/env python3
"""Figures of source code: how long, how dense, how repeated. To steer by; nothing fails because of
them.

    python scripts/measure_code.py [PATH...]        files or folders, of any project; src and
    scripts without one

A function is measured in tokens of its body: without its signature, docstring, comments and line
ends, and an f-string counts as one token on every Python. What is inside a nested function counts
for both.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from bisect import bisect_left, bisect_right
from collections import Counter
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

ROOT = Path(__file__).resolve().parents[1]
MAX_TOKENS = 300  # of a function
MAX_LINES = 500  # of a file
COLUMNS = (88, 100)
MAX_CLASSES = 5  # names in the report

FunctionNode = Union[ast.FunctionDef, ast.AsyncFunctionDef]
Position = Tuple[int, int]  # line, column
DENSE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.IfExp)
LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
# Since Python 3.12 an f-string is many tokens.
FSTRING_START = getattr(tokenize, "FSTRING_START", -1)
FSTRING_END = getattr(tokenize, "FSTRING_END", -1)


class Function(NamedTuple):
    """One function or method."""

    name: str
    line: int
    tokens: int


class File(NamedTuple):
    """One file."""

    path: str
    columns: List[int]  # the length of each line
    functions: List[Function]
    classes: List[str]
    dense: int  # comprehensions, generator expressions and conditional expressions


def measure_file(path: str, text: str) -> File:
    """The figures of one file. Raises SyntaxError."""
    tree = ast.parse(text, path)
    tokens = _token_positions(text)
    functions = []
    classes = []
    dense = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.append(Function(node.name, node.lineno, _count_body(node, tokens)))
        elif isinstance(node, ast.ClassDef):
            classes.append(node.name)
        elif isinstance(node, DENSE):
            dense += 1
    return File(path, [len(line) for line in text.splitlines()], functions, classes, dense)


def _token_positions(text: str) -> List[Position]:
    positions = []
    depth = 0  # of f-strings
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == FSTRING_END:
            depth -= 1
        elif depth == 0 and token.type not in LAYOUT:
            positions.append(token.start)
        if token.type == FSTRING_START:
            depth += 1
    return positions


def _count_body(node: FunctionNode, tokens: Sequence[Position]) -> int:
    body = node.body
    if ast.get_docstring(node, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    first = body[0]
    decorators = getattr(first, "decorator_list", [])
    begin = decorators[0] if decorators else first
    start = (begin.lineno, begin.col_offset)
    end = (body[-1].end_lineno or 0, sys.maxsize)
    return bisect_right(tokens, end) - bisect_left(tokens, start)


def find_files(path: Path) -> List[Path]:
    """The Python files of a folder, in order; or the one file."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def render_figures(title: str, files: Sequence[File]) -> List[str]:
    """The report on some files."""
    columns = [length for file in files for length in file.columns]
    functions = [function for file in files for function in file.functions]
    lines = max(1, len(columns))
    mean = sum(function.tokens for function in functions) / max(1, len(functions))
    dense = 1000 * sum(file.dense for file in files) / lines
    report = [
        f"{title}: {len(files)} files, {len(columns)} lines, {len(functions)} functions",
        f"  mean tokens in a function body: {mean:.1f}",
        f"  comprehensions and ternaries per 1,000 lines: {dense:.1f}",
    ]
    for limit in COLUMNS:
        wide = sum(length > limit for length in columns)
        report.append(f"  lines over {limit} columns: {100 * wide / lines:.1f} %")
    functions_by_size = []
    files_by_size = []
    for file in files:
        functions_by_size += [
            (one.tokens, f"{file.path}:{one.line} {one.name}") for one in file.functions
        ]
        files_by_size.append((len(file.columns), file.path))
    report += _render_largest("functions", "tokens", MAX_TOKENS, functions_by_size)
    report += _render_largest("files", "lines", MAX_LINES, files_by_size)
    names = Counter(name for file in files for name in file.classes).most_common(MAX_CLASSES)
    repeated = ", ".join(f"{name} ({count})" for name, count in names if count > 1)
    report.append(f"  most repeated class names: {repeated or 'none'}")
    return report


def _render_largest(
    what: str, unit: str, limit: int, sizes: Sequence[Tuple[int, str]]
) -> List[str]:
    over = sorted((size for size in sizes if size[0] > limit), reverse=True)
    return [
        f"  {what} over {limit} {unit}: {len(over)}",
        *(f"    {size:4} {name}" for size, name in over),
    ]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "path", nargs="*", type=Path, help="files or folders; src and scripts without one"
    )
    for path in parser.parse_args(arguments).path or [ROOT / "src", ROOT / "scripts"]:
        found = []
        for file in find_files(path):
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            found.append(measure_file(name, file.read_text("utf-8")))
        print("\n".join(render_figures(str(path), found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
