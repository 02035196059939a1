"""Files of each form, as what they say for one interpreter."""

from __future__ import annotations

import pytest
from packaging.tags import Tag

from safe_install.errors import InputError
from safe_install.snapshot.forms import Form, form_of, parse_lock, read_record, requirements_text
from safe_install.snapshot.pylock_reader import DEFAULT_GROUPS
from safe_install.snapshot.values import DirectorySource, FileSource, IndexSource, UrlSource
from tests.factories import make_interpreter

INTERPRETER = make_interpreter(
    tags=(Tag("cp311", "cp311", "linux_x86_64"), Tag("py3", "none", "any"))
)
SHA = "a" * 64


def parse(location, text, **others):
    texts = {location: text, **others}
    return parse_lock(
        location,
        interpreter=INTERPRETER,
        read=lambda name: texts[name],
        environ={"HOST": "h"},
        folder="/work",
    )


@pytest.mark.parametrize(
    ("location", "form"),
    [
        ("pylock.toml", Form.PYLOCK),
        ("a/pylock.gpu.toml", Form.PYLOCK),
        ("https://h/lock.TOML?raw=1", Form.PYLOCK),
        ("environment.yml", Form.CONDA),
        ("env.yaml", Form.CONDA),
        ("requirements.txt", Form.REQUIREMENTS),
        ("frozen", Form.REQUIREMENTS),
    ],
)
def test_forms(location, form):
    assert form_of(location) is form


@pytest.mark.parametrize("name", ["uv.lock", "a/poetry.lock", "https://h/Pipfile.lock"])
def test_a_lock_file_of_one_program(name):
    with pytest.raises(InputError, match="for one program alone") as caught:
        form_of(name)
    assert " -o " in caught.value.hint or " > " in caught.value.hint


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("-e /home/me/my src/mine", "/home/me/my src/mine"),
        ("-e /home/me/mine", "/home/me/mine"),
        ("-e '/home/me/my src'", "/home/me/my src"),
        ("-e /home/me/mine --config-settings a=b", "/home/me/mine"),
        ("-e /home/me/mine  # that of my machine", "/home/me/mine"),
    ],
)
def test_an_editable_folder_as_pip_freeze_writes_it(line, read):
    (one,) = parse("requirements.txt", f"# Editable install\n{line}\n").distributions
    assert one.source == DirectorySource(read, is_editable=True)


def package(name, rest, version="1.0"):
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{rest}\n'


def wheel(filename, url="https://h/"):
    where = f'url = "{url}{filename}"' if "://" in url else f'path = "{url}{filename}"'
    return f'wheels = [{{ name = "{filename}", {where}, hashes = {{ sha256 = "{SHA}" }} }}]'


def pylock(*packages, head=""):
    return "\n".join(['lock-version = "1.0"\ncreated-by = "x"', head, *packages])


def test_a_lock_file():
    text = pylock(
        package("six", wheel("six-1.0-py3-none-any.whl")),
        package("built", wheel("built-1.0-cp311-cp311-linux_x86_64.whl", "wheels/")),
        package("mine", 'directory = { path = "../mine", editable = true }'),
        package(
            "win", "marker = \"sys_platform == 'win32'\"\n" + wheel("win-1.0-py3-none-any.whl")
        ),
    )
    lock = parse("locks/pylock.toml", text)
    assert lock.problems == ()
    assert {one.name: one.source for one in lock.distributions} == {
        "built": FileSource(
            "/work/locks/wheels/built-1.0-cp311-cp311-linux_x86_64.whl",
            "built-1.0-cp311-cp311-linux_x86_64.whl",
            SHA,
        ),
        "mine": DirectorySource("/work/mine", True),
        "six": IndexSource(
            "", "https://h/six-1.0-py3-none-any.whl", "six-1.0-py3-none-any.whl", SHA
        ),
    }
    assert lock.distributions[-1].hashes == (f"sha256:{SHA}",)


def test_all_wheels_that_do_not_fit_are_named():
    text = pylock(
        package("a", wheel("a-1.0-cp38-cp38-linux_x86_64.whl")),
        package("b", wheel("b-1.0-cp311-cp311-win_amd64.whl")),
        package("c", 'requires-python = ">=3.12"\n' + wheel("c-1.0-py3-none-any.whl")),
        package("d", wheel("d-1.0-py3-none-any.whl")),
    )
    lock = parse("pylock.toml", text)
    assert [(one.check, one.subject) for one in lock.problems] == [
        ("no-file-here", "a"),
        ("no-file-here", "b"),
        ("no-file-here", "c"),
    ]
    assert "requires Python >=3.12, and this is 3.11.7" in lock.problems[2].detail
    assert [one.name for one in lock.distributions] == ["d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lock-version = ", "is no TOML"),
        (pylock(head='requires-python = ">=3.12"\npackages = []'), "3.11.7"),
        (pylock(head="environments = [\"sys_platform == 'win32'\"]\npackages = []"), "win32"),
        ('lock-version = "2.0"\ncreated-by = "x"\npackages = []', "lock-version"),
    ],
)
def test_a_file_that_cannot_be_followed(text, said):
    with pytest.raises(InputError, match=said):
        parse("pylock.toml", text)


def test_requirements_name_other_files():
    lock = parse(
        "all.txt",
        "-r more.txt\n-i https://${HOST}/simple\nsix==1.0",
        **{"more.txt": "attrs==2.0"},
    )
    assert [str(one) for one in lock.distributions] == ["attrs 2.0", "six 1.0"]


CONDA = "dependencies:\n- python={python}\n- pytorch=2.1\n- numpy\n- pip:\n  - numpy==1.0\n  - six==1.0\n"


def test_an_environment_of_conda():
    lock = parse("environment.yml", CONDA.format(python="3.11"))
    assert [str(one) for one in lock.distributions] == ["numpy 1.0", "six 1.0"]
    assert lock.others == {"torch"}
    assert [one.check for one in lock.notes] == ["conda-part"]
    assert lock.problems == ()


def test_what_pip_installs_too_is_not_left_to_conda():
    text = "dependencies:\n- python=3.11\n- pip\n- numpy\n- pip:\n  - numpy==1.0\n"
    lock = parse("environment.yml", text)
    assert [str(one) for one in lock.distributions] == ["numpy 1.0"]
    assert (lock.others, lock.notes) == (frozenset(), ())


@pytest.mark.parametrize(
    ("location", "lines"),
    [
        ("requirements.txt", ["six==1.0"]),
        ("environment.yml", ["dependencies:", "  - numpy=2", "  - pip:", "    - six==1.0"]),
    ],
)
def test_what_export_could_not_name_may_stay(location, lines):
    head = [
        "# not known where from: My.Own 2.0+x (the file that it came from is gone: /w/x.whl)",
        "# not known where from: pip 26.3 (no package index was asked)",
        "# not known where from: bröken 1.0 (no project may have that name)",
        "# not known where from:",
    ]
    lock = parse(location, "\n".join([*head, *lines]) + "\n")
    assert [one.name for one in lock.distributions] == ["six"]
    assert lock.others - {"numpy"} == {"bröken", "my-own"}
    assert [one.detail for one in lock.notes if one.check == "source-unknown"] == [
        "the file does not say where these are from, and they are left as they are: bröken, my-own"
    ]


def test_another_python_of_conda():
    lock = parse("environment.yml", CONDA.format(python="3.10"))
    assert [one.detail for one in lock.problems] == [
        "environment.yml is for Python =3.10, and this is 3.11.7"
    ]


def test_the_options_for_pip():
    assert requirements_text("r.txt", "-i https://h\nsix==1.0") == "-i https://h\nsix==1.0"
    assert requirements_text("pylock.toml", "lock-version") == ""
    text = "dependencies:\n- pip:\n  - --extra-index-url https://h\n  - six==1.0\n"
    assert requirements_text("e.yml", text) == "--extra-index-url https://h\nsix==1.0"


def test_what_came_with_an_environment_is_left_to_each_environment():
    """Unless the file knows its file."""
    unknown = '[[tool.safe-install.unknown]]\nname = "%s"\nversion = "1.0"'
    text = pylock(
        package("setuptools", wheel("setuptools-1.0-py3-none-any.whl")),
        unknown % "pip",
        unknown % "six",
    )
    lock = parse("pylock.toml", text)
    assert [one.name for one in lock.distributions] == ["setuptools", "six"]
    assert [note.subject for note in lock.notes] == ["six"]


# --- the lock file of a host ----------------------------------------------------------------------

REMOTE = "https://h.example/locks/pylock.toml"


def test_a_record_of_another_machine_is_read_to_be_compared():
    text = pylock(
        package("win", wheel("win-1.0-cp312-cp312-win_amd64.whl")),
        package("mine", 'directory = { path = "src", editable = true }', version=""),
        head='requires-python = "==3.12.*"\n',
    ).replace('version = ""\n', "")
    with pytest.raises(InputError, match=r"is for Python ==3\.12"):
        parse("a/pylock.toml", text)
    found = read_record(
        "a/pylock.toml",
        interpreter=INTERPRETER,
        read=lambda name: text,
        folder="/work",
        wanted=DEFAULT_GROUPS,
    )
    mine, win = found.distributions
    assert mine.source == DirectorySource("/work/a/src", is_editable=True)
    assert isinstance(win.source, IndexSource) and win.source.sha256 == SHA


def test_what_lies_beside_the_lock_file_of_a_host():
    filename = "six-1.0-py3-none-any.whl"
    text = pylock(package("six", wheel(filename, "wheels/")))
    (one,) = parse(REMOTE, text).distributions
    assert one.source == UrlSource(f"https://h.example/locks/wheels/{filename}", filename, SHA)
    assert parse("pylock.toml", text).distributions[0].source.path == f"/work/wheels/{filename}"


@pytest.mark.parametrize(
    "rest",
    [
        wheel("six-1.0-py3-none-any.whl"),
        f'archive = {{ url = "https://h/six.zip", hashes = {{ sha256 = "{SHA}" }} }}',
        f'vcs = {{ type = "git", url = "https://h/six", commit-id = "{"0" * 40}" }}',
        f'vcs = {{ type = "git", url = "git@h:six", commit-id = "{"0" * 40}" }}',
    ],
)
def test_what_lies_on_a_host_has_the_same_address_for_each_place_of_the_lock_file(rest):
    text = pylock(package("six", rest))
    assert parse(REMOTE, text) == parse("pylock.toml", text)


OF_THIS_MACHINE = [
    'directory = { path = "/home/me/mine" }',
    'directory = { path = "mine", editable = true }',
    wheel("six-1.0-py3-none-any.whl", "/home/me/"),
    wheel("six-1.0-py3-none-any.whl", "//other.example/"),
    wheel("six-1.0-py3-none-any.whl", "file:///home/me/"),
    f'archive = {{ url = "file:///home/me/six.zip", hashes = {{ sha256 = "{SHA}" }} }}',
    f'vcs = {{ type = "git", url = "file:///home/me/six", commit-id = "{"0" * 40}" }}',
    f'vcs = {{ type = "git", path = "/home/me/six", commit-id = "{"0" * 40}" }}',
    f'vcs = {{ type = "git", path = "six", commit-id = "{"0" * 40}" }}',
]


@pytest.mark.parametrize("rest", OF_THIS_MACHINE)
def test_the_lock_file_of_a_host_names_nothing_of_this_machine(rest):
    text = pylock(package("six", rest))
    with pytest.raises(InputError, match="which is of this machine"):
        parse(REMOTE, text)
    assert parse("pylock.toml", text).problems == ()


def test_a_repository_beside_the_lock_file():
    text = pylock(
        package("six", f'vcs = {{ type = "git", path = "../six", commit-id = "{"0" * 40}" }}')
    )
    (one,) = parse("a/pylock.toml", text).distributions
    assert one.source.url == "file:///work/six"
    assert one.line.startswith("git+file:///work/six@000")


def test_a_lock_file_leads_to_no_other_host_by_a_path():
    text = pylock(package("six", wheel("six-1.0-py3-none-any.whl", "http%3A//other/../..//x/")))
    (one,) = parse(REMOTE, text).distributions
    assert one.source.url.startswith("https://h.example/")


@pytest.mark.parametrize(
    ("wanted", "is_fit"), [(">=3.11", True), ("<3", False), ("no specifier", True)]
)
def test_the_python_that_one_package_requires(wanted, is_fit):
    six = package("six", wheel("six-1.0-py3-none-any.whl"))
    text = six.replace("wheels", f'requires-python = "{wanted}"\nwheels')
    lock = parse("pylock.toml", pylock(text))
    assert [one.check for one in lock.problems] == ([] if is_fit else ["no-file-here"])
