"""scripts/measure_code.py: what counts, and what is named."""

from __future__ import annotations

import pytest

from tests.scripts import load_script

measure_code = load_script("measure_code")


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ("    return 1\n", 2),
        ('    """Docstring."""\n', 0),
        ('    """Docstring."""\n    return 1  # comment\n', 2),
        ("    # comment\n\n    x = 1\n\n    return (\n        x\n    )\n", 3 + 4),
        ("    return f'{a} {b!r} {c:{d}}'\n", 2),
        ("    def inner():\n        return 1\n    return inner\n", 5 + 2 + 2),
        ("    if a:\n        return 1\n", 3 + 2),
    ],
)
def test_a_body_is_counted_in_tokens(body, tokens):
    file = measure_code.measure_file("a.py", f"def f(a, b=1):\n{body}\n\nx = [1, 2, 3]\n")
    assert file.functions[0] == ("f", 1, tokens)


def test_a_body_on_the_line_of_its_def():
    file = measure_code.measure_file("a.py", "def f(a): return a\ndef g(): ...\n")
    assert [(one.name, one.tokens) for one in file.functions] == [("f", 2), ("g", 1)]


def test_methods_and_coroutines_are_functions():
    text = "class A:\n    def f(self):\n        pass\n\n    async def g(self):\n        pass\n"
    file = measure_code.measure_file("a.py", text)
    assert [one.name for one in file.functions] == ["f", "g"]
    assert file.classes == ["A"]


def test_dense_expressions_are_counted():
    text = "a = [x for x in y]\nb = {x for x in y}\nc = {x: 1 for x in y}\nd = sum(x for x in y)\ne = 1 if a else 2\n"
    assert measure_code.measure_file("a.py", text).dense == 5


def test_the_report_names_what_is_large():
    body = "    x = 1\n" * 101
    texts = {
        "long.py": f"class Reader:\n    pass\n\n\ndef long():\n{body}\n\ndef short():\n{body[:-10]}",
        "large.py": "class Reader:\n    pass\n" + "x = 1\n" * 499,
        "wide.py": "#" * 88 + "\n" + "#" * 89 + "\n" + "#" * 101 + "\ny = [x for x in z]\n",
    }
    files = [measure_code.measure_file(name, text) for name, text in texts.items()]
    assert measure_code.render_figures("title", files) == [
        "title: 3 files, 714 lines, 2 functions",
        "  mean tokens in a function body: 301.5",
        "  comprehensions and ternaries per 1,000 lines: 1.4",
        "  lines over 88 columns: 0.3 %",
        "  lines over 100 columns: 0.1 %",
        "  functions over 300 tokens: 1",
        "     303 long.py:5 long",
        "  files over 500 lines: 1",
        "     501 large.py",
        "  most repeated class names: Reader (2)",
    ]


def test_a_folder_of_any_project_can_be_measured(tmp_path, capsys):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.py").write_text("def f():\n    return 1\n", "utf-8")
    (tmp_path / "b.txt").write_text("no Python", "utf-8")
    assert measure_code.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}: 1 files, 2 lines, 1 functions\n")
    assert measure_code.main([str(tmp_path / "inner" / "a.py")]) == 0
    assert "1 files, 2 lines" in capsys.readouterr().out


def test_nothing_to_measure_is_no_error(tmp_path, capsys):
    assert measure_code.main([str(tmp_path)]) == 0
    assert "0 files, 0 lines, 0 functions" in capsys.readouterr().out
