"""Requirements files by pip's rules (pip.pypa.io/en/stable/reference/requirements-file-format)."""

from __future__ import annotations

import pytest

from safe_install.errors import InputError, UsageError
from safe_install.resolve.requirements_file import Entry, join_location, logical_lines, parse_file


def parse(files, *, location="r.txt", environ=None, constraint=False, folders=()):
    """Entries as texts, with the files that were read."""
    asked = []

    def read(name):
        asked.append(name)
        return files[name]

    parsed = parse_file(
        location,
        read=read,
        environ=environ or {},
        exists=lambda path: path in folders,
        constraint=constraint,
    )
    return parsed, asked


def texts(parsed, *, constraint=None):
    return [
        entry.text
        for entry in parsed.entries
        if constraint is None or entry.constraint is constraint
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n\n  \n", []),
        ("a\nb\n", [(1, "a"), (2, "b")]),
        ("a\r\nb\r\n", [(1, "a"), (2, "b")]),
        ("\ufeffa\nb", [(1, "a"), (2, "b")]),
        ("# c\na # c\n  # c\nb#c\n", [(2, "a"), (4, "b#c")]),
        ("https://h/x#egg=y # c", [(1, "https://h/x#egg=y")]),
        ("  a  ", [(1, "a")]),
        (
            "a==1 \\\n  --hash=sha256:0 \\\n  --hash=sha256:1\nb",
            [(1, "a==1   --hash=sha256:0   --hash=sha256:1"), (4, "b")],
        ),
        ("tor\\\nch", [(1, "torch")]),
        ("a>=1,\\\n<2", [(1, "a>=1,<2")]),
        ("a \\\n# c\nb", [(1, "a"), (3, "b")]),
        ("# c \\\na", [(2, "a")]),
        ("a # c \\\nb", [(1, "a")]),
        ("a \\", [(1, "a")]),
        ("a \\\n\nb", [(1, "a"), (3, "b")]),
    ],
)
def test_logical_lines(text, lines):
    assert list(logical_lines(text)) == lines


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("torch-scatter", Entry("torch-scatter")),
        ("a>=1,<2; python_version < '3.9'", Entry("a>=1,<2; python_version < '3.9'")),
        (
            "a==1 --hash=sha256:00 --hash sha256:11",
            Entry("a==1", hashes=("sha256:00", "sha256:11")),
        ),
        ("a==1 --hash 'sha256:00'", Entry("a==1", hashes=("sha256:00",))),
        ("a --config-settings k=v", Entry("a")),
        ("a --global-option=x --install-option=y", Entry("a")),
        ("./folder", Entry("./folder")),
        ("a @ git+https://h/x.git@v1-2", Entry("a @ git+https://h/x.git@v1-2")),
        ("-e ./x", Entry("./x", editable=True)),
        ("-e./x", Entry("./x", editable=True)),
        ("--editable=git+https://h/x#egg=x", Entry("git+https://h/x#egg=x", editable=True)),
        ('-e "./a b"', Entry("./a b", editable=True)),
        ("a==${VERSION}", Entry("a==1.2")),
        ("https://${USER_NAME}:${EMPTY}@h/a.whl", Entry("https://me:${EMPTY}@h/a.whl")),
        ("a==$VERSION", Entry("a==$VERSION")),
        ("a==${version}", Entry("a==${version}")),
    ],
)
def test_a_line_is_one_entry(line, entry):
    parsed, _ = parse({"r.txt": line}, environ={"VERSION": "1.2", "USER_NAME": "me", "EMPTY": ""})
    (found,) = parsed.entries
    assert (found.text, found.editable, found.hashes) == (entry.text, entry.editable, entry.hashes)
    assert (found.file, found.line, found.origin) == ("r.txt", 1, "r.txt, line 1")


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("-i https://h/simple", [("index-url", "https://h/simple")]),
        ("--index-url=https://h/simple", [("index-url", "https://h/simple")]),
        ("-ihttps://h/simple?a=b", [("index-url", "https://h/simple?a=b")]),
        (
            "--extra-index-url https://e -f page",
            [("extra-index-url", "https://e"), ("find-links", "page")],
        ),
        ("--no-index --pre", [("no-index", None), ("pre", None)]),
        ("--no-binary :all:", [("no-binary", ":all:")]),
        ("--trusted-host ${HOST}", [("trusted-host", "h")]),
        ("--pre torch", [("pre", None)]),  # pip passes over the word
    ],
)
def test_options_of_a_file(line, options):
    parsed, _ = parse({"r.txt": line}, environ={"HOST": "h"})
    assert list(parsed.options) == options
    assert parsed.entries == ()


def test_files_name_files_relative_to_themselves():
    files = {
        "deps/r.txt": "a\n-r more/m.txt\n-c ../c.txt\n-rr2.txt\n--requirement=/abs/x.txt\nb\n",
        "deps/more/m.txt": "m\n-r ../r3.txt",
        "c.txt": "a<2",
        "deps/r2.txt": "two",
        "deps/r3.txt": "three",
        "/abs/x.txt": "x\n-r https://h/d/u.txt",
        "https://h/d/u.txt": "u\n-r v.txt\n-c /c/w.txt",
        "https://h/d/v.txt": "v",
        "https://h/c/w.txt": "w<1",
    }
    parsed, asked = parse(files, location="deps/r.txt")
    assert sorted(asked) == sorted(files)
    assert texts(parsed, constraint=False) == ["a", "m", "three", "two", "x", "u", "v", "b"]
    assert texts(parsed, constraint=True) == ["a<2", "w<1"]
    assert [entry.origin for entry in parsed.entries][-1] == "deps/r.txt, line 6"


def test_a_constraints_file():
    files = {"c.txt": "a<2\n-c d.txt\n-r r.txt", "d.txt": "b<2", "r.txt": "real"}
    parsed, _ = parse(files, location="c.txt", constraint=True)
    assert texts(parsed, constraint=True) == ["a<2", "b<2"]
    assert texts(parsed, constraint=False) == ["real"]  # as pip has it


@pytest.mark.parametrize(
    "files",
    [
        {"r.txt": "a\n-r r.txt"},
        {"r.txt": "a\n-r ./r.txt"},
        {"r.txt": "a\n-r x/../r.txt"},
        {"r.txt": "a\n-r b.txt", "b.txt": "-r r.txt"},
    ],
)
def test_a_file_that_names_itself_is_refused_as_pip_does(files):
    """Older ones (23.2) end in a RecursionError."""
    with pytest.raises(InputError, match=r"^r\.txt recursively references itself in ") as raised:
        parse(files)
    assert raised.value.exit_status == 1


def test_a_file_that_two_others_name_is_read_once():
    files = {"r.txt": "-r a.txt\n-r b.txt", "a.txt": "-r c.txt", "b.txt": "-r c.txt", "c.txt": "c"}
    parsed, asked = parse(files)
    assert texts(parsed) == ["c"]
    assert len(asked) == len(files)


def test_a_file_may_be_both_requirements_and_constraints():
    parsed, _ = parse({"r.txt": "-r a.txt\n-c a.txt", "a.txt": "a==1"})
    assert [(entry.text, entry.constraint) for entry in parsed.entries] == [
        ("a==1", False),
        ("a==1", True),
    ]


@pytest.mark.parametrize(
    ("base", "target", "joined"),
    [
        ("r.txt", "a.txt", "a.txt"),
        ("x/r.txt", "a.txt", "x/a.txt"),
        ("x/r.txt", "../a.txt", "a.txt"),
        ("/x/r.txt", "y/./a.txt", "/x/y/a.txt"),
        ("x/r.txt", "/a.txt", "/a.txt"),
        ("x/r.txt", "https://h/a.txt", "https://h/a.txt"),
        ("https://h/x/r.txt", "a.txt", "https://h/x/a.txt"),
        ("https://h/x/r.txt", "../a.txt", "https://h/a.txt"),
        ("https://h/x/r.txt?q=/y/z", "a.txt", "https://h/x/a.txt"),
        ("https://h/x/r.txt", "/a.txt", "https://h/a.txt"),
        ("file:///x/r.txt", "a.txt", "file:///x/a.txt"),
    ],
)
def test_join_location(base, target, joined):
    assert join_location(base, target) == joined


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n--nonsense x", "r.txt, line 2: --nonsense"),
        ("\n\n-Z", "r.txt, line 3: -Z"),
        ("-r", "r.txt, line 1: -r needs a value"),
        ("--index-url", "r.txt, line 1: --index-url needs a value"),
        ('-e "./x', "r.txt, line 1: "),
    ],
)
def test_errors_name_the_file_and_the_line(text, said):
    with pytest.raises(UsageError) as caught:
        parse({"r.txt": text})
    assert caught.value.message.startswith(said)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("a", ()),
        ("a --config-settings k=v", ("k=v",)),
        ("a --config-settings=k=v", ("k=v",)),
        ("a -C k=v --config-setting 'x=y z' --hash=sha256:00", ("k=v", "x=y z")),
        ("a -C", ("",)),
    ],
)
def test_the_settings_of_a_build(line, settings):
    (entry,) = parse({"r.txt": line})[0].entries
    assert entry.config_settings == settings


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("wheels", "sub/wheels"),
        ("../shared", "shared"),
        ("elsewhere", "elsewhere"),  # beside no file: of the working folder
        ("/wheels", "/wheels"),
        ("https://h/wheels", "https://h/wheels"),
    ],
)
@pytest.mark.parametrize("location", ["sub/r.txt", "top.txt"])
def test_a_folder_of_wheels_lies_beside_the_file_that_names_it(location, written, found):
    """As in pip, also in a file that another one names."""
    files = {"top.txt": "-r sub/r.txt", "sub/r.txt": f"--find-links {written}"}
    parsed, _ = parse(files, location=location, folders=("sub/wheels", "shared", "/wheels"))
    assert parsed.options == (("find-links", found),)
