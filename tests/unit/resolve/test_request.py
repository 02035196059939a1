"""Command lines as people write them: which command, which words are ours, which are pip's."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from safe_install.errors import InputError, UsageError
from safe_install.models import BuildTimeout
from safe_install.resolve.command_line import (
    EXPLAIN_OPTIONS,
    OUR_COMMANDS,
    Route,
    route,
    split_words,
    unknown_command,
)
from safe_install.resolve.explain_request import parse_explain
from safe_install.resolve.option_rows import variable_of
from safe_install.resolve.options_table import BY_COMMAND
from safe_install.resolve.own_options import (
    parse_build_timeout,
    parse_capabilities,
    parse_check_timeout,
)
from safe_install.resolve.pip_options import COMMANDS
from safe_install.resolve.request import (
    named,
    parse_install,
    parse_network,
    parse_uninstall,
)
from safe_install.resolve.spelling import RESERVED


def install(*argv, environ=None, configuration=None, files=None):
    return parse_install(
        split_words(argv),
        environ=environ or {},
        configuration=configuration or {},
        read=lambda name: (files or {})[name],
    )


def uninstall(*argv, environ=None, configuration=None, files=None):
    return parse_uninstall(
        split_words(argv),
        environ=environ or {},
        configuration=configuration or {},
        read=lambda name: (files or {})[name],
    )


def explain(*argv, environ=None, configuration=None):
    return parse_explain(
        split_words(argv, EXPLAIN_OPTIONS),
        environ=environ or {},
        configuration=configuration or {},
        read=str,
    )


def texts(entries):
    return [entry.text for entry in entries]


@pytest.mark.parametrize(
    "command",
    [
        *["undo", "history", "verify", "recover", "check-wheel", "wheels"],
        *["commit", "abandon", "status", "inventory"],
    ],
)
def test_options_of_every_command_of_pip_stand_before_ours(command):
    """As with `-q install`. What is no option of every command stays, and is an error where the
    command is read."""
    words = ["-q", "--proxy", "http://p", "--python", "http://p", "-vv", "--isolated", command, "x"]
    found = route(words)
    assert (found.command, found.arguments) == (command, ("--python", "http://p", "x"))
    assert found.general == ("-q", "--proxy", "http://p", "-vv", "--isolated")
    assert route(["-U", "--bogus", command]).arguments == ("-U", "--bogus")


# --- which command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "command", "arguments"),
    [
        ([], "help", []),
        (["-h"], "help", []),
        (["--help"], "help", []),
        (["-q", "--help", "install"], "help", []),
        (["-V"], "version", []),
        (["--version"], "version", []),
        (["torch-scatter"], "install", ["torch-scatter"]),
        (["torch-scatter>=2", "-U"], "install", ["torch-scatter>=2", "-U"]),
        (["torch_scatter[x]==2.1.2; python_version<'3.9'"], "install", None),
        # as conda writes it: pip install says which operator is missing
        (["torch=2.13"], "install", None),
        (["torch[opt-einsum]=2.13.*", "six"], "install", None),
        (["torch @ https://example.org/torch-1-py3-none-any.whl"], "install", None),
        (["git+https://github.com/rusty1s/pytorch_scatter.git"], "install", None),
        (["./folder"], "install", None),
        (["."], "install", None),
        (["../a b"], "install", None),
        (["/tmp/x.whl"], "install", None),
        (["torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"], "install", None),
        (["torch_scatter-2.0.8.tar.gz"], "install", None),
        (["-r", "requirements.txt"], "install", None),
        (["-rrequirements.txt"], "install", None),
        (["-r", "install"], "install", ["-r", "install"]),
        (["--requirement=list"], "install", None),
        (["-e", "."], "install", None),
        (["-U", "torch-scatter"], "install", None),
        (["--index-url", "list", "torch-scatter"], "install", None),
        (["--", "torch-scatter"], "install", None),
        (["-q", "install", "torch-scatter"], "install", ["-q", "torch-scatter"]),
        (["--python", "list", "install", "x"], "install", ["--python", "list", "x"]),
        (["--python=/x", "verify"], "verify", ["--python=/x"]),
        (["--json", "verify"], "verify", ["--json"]),
        (["--target-gpu", "8.0", "uninstall", "x"], "uninstall", ["--target-gpu", "8.0", "x"]),
        (["--cert", "verify", "history"], "history", []),
        (["--cert=verify", "history"], "history", []),
        (["--python", "/x", "list", "-v"], "pip", ["--python", "/x", "list", "-v"]),
        (["-v", "freeze"], "pip", ["-v", "freeze"]),
        (["help", "install"], "pip", ["help", "install"]),
        (["install"], "install", []),
        (["wheels", "torch-scatter"], "wheels", ["torch-scatter"]),
        (["install", "install"], "install", ["install"]),
        (["?!"], "pip", ["?!"]),
        (["no such command"], "pip", ["no such command"]),
        # a slip of the finger installs no project of that name
        (["unistall", "torch"], "unknown", None),
        (["instal", "torch"], "unknown", None),
        (["verfiy"], "unknown", None),
        (["--json", "fleet", "status"], "fleet", ["--json", "status"]),
        (["--json", "export"], "export", ["--json"]),
        (["--json", "doctor"], "doctor", ["--json"]),
        (["fleet", "install", "x"], "fleet", ["install", "x"]),
        (["sync", "requirements.txt"], "sync", ["requirements.txt"]),
        (["-i", "https://h", "sync", "r.txt"], "sync", ["-i", "https://h", "r.txt"]),
        (["diff", "a", "b"], "diff", ["a", "b"]),
        (["install", "unistall"], "install", ["unistall"]),
    ],
)
def test_route(argv, command, arguments):
    found = route(argv)
    assert (found.command, found.arguments) == (
        command,
        tuple(argv if arguments is None else arguments),
    )


@pytest.mark.parametrize(
    "word",
    [
        *(
            "unistall",
            "uninstal",
            "instal",
            "isntall",
            "lsit",
            "freez",
            "shwo",
            "verfy",
            "histroy",
            "wheles",
            "Undoo",
        ),
        *("docter", "statsu", "exprot", "comit", "updat", "plam", "fleets", "versoin"),
        *sorted(RESERVED),
        "Status",
        "Verify",
    ],
)
def test_a_word_that_is_nearly_a_command_or_reserved_is_no_requirement(word):
    assert route([word]) == Route("unknown", (word,))
    assert route([word, "torch"]) == Route("unknown", (word, "torch"))
    assert route(["install", word]) == Route("install", (word,))
    assert route([f"{word}==1"]).command == "install"
    assert unknown_command([word]).hint.endswith(
        f"A project of that name: safe-install install {word}."
    )


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["unistall", "x"], "unknown command: unistall", "Did you mean: safe-install uninstall? "),
        (["docter"], "unknown command: docter", "Did you mean: safe-install doctor? "),
        (["fleets"], "unknown command: fleets", "Did you mean: safe-install fleet? "),
        (
            ["instal", "--help"],
            "unknown command: instal",
            "Did you mean: safe-install install --help? "
            "A project of that name: safe-install install instal.",
        ),
        (
            ["version"],
            "version is no command of this version",
            "Did you mean: safe-install --version? ",
        ),
        (
            ["rollback"],
            "rollback is no command of this version",
            "Did you mean: safe-install undo? ",
        ),
    ],
)
def test_what_is_said_of_an_unknown_command(words, message, hint):
    error = unknown_command(words)
    assert error.exit_status == 2
    assert error.message == message
    assert error.hint.startswith(hint)


@pytest.mark.parametrize(
    "word",
    [
        "debugpy",
        "installer",
        "cachetools",
        "lit",
        "indexed",
        "checkov",
        "pylock",
        "a",
        "dash",
        "mock",
        "plac",
        "flet",
    ],
)
def test_a_project_whose_name_only_resembles_a_command_is_installed(word):
    assert route([word]) == Route("install", (word,))


def test_a_project_that_resembles_a_command_is_none_before_a_verb_of_it():
    assert route(["flet", "install", "x"]) == Route("unknown", ("flet", "install", "x"))
    assert route(["flet", "dash"]) == Route("install", ("flet", "dash"))
    assert "fleet" in str(unknown_command(["flet", "install", "x"]).hint)


@pytest.mark.parametrize("command", sorted(COMMANDS - set(OUR_COMMANDS)))
def test_every_command_of_pip_goes_to_pip_untouched(command):
    assert route([command, "-x", "y"]) == Route("pip", (command, "-x", "y"))


@pytest.mark.parametrize("command", OUR_COMMANDS)
def test_every_command_of_ours_stays_here(command):
    assert route([command, "-x", "y"]) == Route(command, ("-x", "y"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["undo", "-q"], Route("undo", (), ("-q",))),
        (["-v", "undo", "-qq", "ID"], Route("undo", ("ID",), ("-v", "-qq"))),
        (["verify", "--no-color", "--json"], Route("verify", ("--json",), ("--no-color",))),
        (["diff", "a", "--", "-q"], Route("diff", ("a", "--", "-q"))),
        (["doctor", "-y"], Route("doctor", ("-y",))),
        # these read pip's options themselves
        (["install", "-q", "x"], Route("install", ("-q", "x"))),
        (["-q", "uninstall", "-v", "x"], Route("uninstall", ("-q", "-v", "x"), ("-q",))),
    ],
)
def test_how_much_is_said_may_stand_behind_the_command(words, expected):
    assert route(words) == expected


# --- what a build is told -------------------------------------------------------------------------


def test_config_settings_go_to_what_was_named_with_them():
    files = {"r.txt": "beta --config-settings two=2 -C 'three=a b'\ngamma\n./here -C four=4\n"}
    request = install("-C", "one=1", "alpha>=1", "-r", "r.txt", files=files)

    def told(name, *, is_requested=True):
        return request.config_settings_of(canonicalize_name(name), is_requested=is_requested)

    assert told("alpha") == ("one=1",)
    assert told("beta") == ("two=2", "three=a b")
    assert told("gamma") == ()
    assert told("here-by-its-metadata") == ("four=4",)
    assert told("a-dependency", is_requested=False) == ()
    assert "-C" in request.dry_run_arguments
    assert "-C" in request.fetch_options
    assert "-C" not in request.settings_free_options
    by_variable = install("./here", configuration={"config-settings": "one=1"})
    assert by_variable.config_settings_of(canonicalize_name("here"), is_requested=True) == (
        "one=1",
    )


# --- pip's words ----------------------------------------------------------------------------------

REQUIREMENTS = {"r.txt": "numpy\ntorch-sparse>=0.6\n", "c.txt": "numpy<2\n"}


@pytest.mark.parametrize(
    "argv",
    [
        ["-r", "r.txt", "-c", "c.txt", "torch-scatter", "--no-deps", "-U"],
        ["-U", "torch-scatter", "--no-deps", "-cc.txt", "-rr.txt"],
        ["--requirement=r.txt", "--no-deps", "--constraint", "c.txt", "-qU", "torch-scatter"],
        ["torch-scatter", "--no-dep", "--constr=c.txt", "--upgrade", "--requirement", "r.txt"],
        ["torch-scatter", "--no-dependencies", "-c", "c.txt", "-qUrr.txt"],
        ["-Ucc.txt", "-qrr.txt", "--no-deps", "--", "torch-scatter"],
    ],
)
def test_options_in_any_order_and_spelling(argv):
    request = install(*argv, files=REQUIREMENTS)
    assert sorted(texts(request.entries)) == ["numpy", "torch-scatter", "torch-sparse>=0.6"]
    assert texts(request.constraints) == ["numpy<2"]
    assert request.named_on_command_line == {"torch-scatter"}
    assert request.upgrade
    assert request.no_deps


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["b", "-U", "a", "--pre", "-f", "page", "-i", "url"], None),
        (["--log=x", "a", "--no-binary", "a", "--no-binary=b", "--only-binary", ":all:"], None),
        (["-e", ".", "-e", "git+https://x/y#egg=z", "a"], None),
        (["-fpage", "-rr.txt", "a"], None),
        (["a", "--unknown", "--other=1", "-Z"], None),
        (["--config-settings", "k=v", "-C", "a=b", "a"], None),
        (["-U", "--", "a", "b"], None),
        (["--", "--a"], None),
        (["a", "--"], None),
        (["a", "-"], None),
        (["-qU", "a"], ["-q", "-U", "a"]),
        (["-qUrr.txt", "a"], ["-q", "-U", "-rr.txt", "a"]),
        (["--json", "a", "--python", "/x", "-U", "--target-gpu=8.0"], ["a", "-U"]),
        (["--dry-run", "a", "--report", "file", "--report=-"], ["a"]),
        (["a", "--user", "-y", "--no-rollback", "b", "--user"], ["a", "b"]),
        (["a", "--", "--json", "--user"], ["a", "--", "--json", "--user"]),
    ],
)
def test_pips_words_stay_verbatim_and_in_order(argv, kept):
    request = install(*argv, files={"r.txt": ""})
    assert list(request.dry_run_arguments) == (argv if kept is None else kept)


def test_a_pip_that_does_the_whole_work_gets_all_but_ours():
    request = install(
        "--target", "x", "--json", "a", "--dry-run", "--report=r", "--no-build", "--user", "--", "b"
    )
    assert request.pip_arguments == (
        "--target",
        "x",
        "a",
        "--dry-run",
        "--report=r",
        "--user",
        "--",
        "b",
    )


def test_fetching_gets_index_selection_and_build_options_only():
    argv = "-q -i url --extra-index-url=u2 -U --no-deps --pre --no-binary=a -Ck=v -r r.txt -c c.txt -e . --user a -- b"
    request = install(*argv.split(), files=REQUIREMENTS)
    assert (
        " ".join(request.fetch_options)
        == "-q -i url --extra-index-url=u2 --pre --no-binary=a -Ck=v"
    )


@pytest.mark.parametrize(
    "words", [["--use-deprecated=legacy-resolver"], ["--use-deprecated", "legacy-resolver"]]
)
def test_the_old_resolver_resolves_and_does_not_fetch(words):
    request = install(*words, "--use-deprecated=legacy-certs", "a")
    assert request.dry_run_arguments == (*words, "--use-deprecated=legacy-certs", "a")
    assert request.fetch_options == ("--use-deprecated=legacy-certs",)


@pytest.mark.parametrize(
    ("name", "is_lock"),
    [
        ("pylock.toml", True),
        ("locks/pylock.gpu.toml", True),
        ("https://host/pylock.toml?x=1", True),
        ("pylock.a.b.toml", False),
        ("my-pylock.toml", False),
        ("requirements.txt", False),
    ],
)
def test_a_lock_file_is_left_to_pip(name, is_lock):
    request = install("-r", name, files={} if is_lock else {name: "torch"})
    assert (request.has_lock, request.has_pip_inputs) == (is_lock, is_lock)
    assert texts(request.entries) == ([] if is_lock else ["torch"])


def test_two_hyphens_end_the_options():
    request = install("-U", "--", "a", "--no-deps", "-r")
    assert texts(request.entries) == ["a", "--no-deps", "-r"]
    assert not request.no_deps


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--force-reinstall"], "force_reinstall", True),
        (["-I"], "force_reinstall", True),
        (["-I"], "ignore_installed", True),
        (["--force-reinstall"], "ignore_installed", False),
        (["--no-warn-conflicts"], "no_warn_conflicts", True),
        (["--pre"], "pre", True),
        (["--require-hashes"], "require_hashes", True),
        (["--break-system-packages"], "break_system_packages", True),
        (["--no-compile"], "compile_bytecode", False),
        (["--compile"], "compile_bytecode", True),
        (["--no-compile", "--compile"], "compile_bytecode", True),
        (["-qq"], "quiet", 2),
        (["-q", "--quiet", "-Uq"], "quiet", 3),
        (["--index-url", "https://a", "-i", "https://b"], "index_url", "https://b"),
        (["--pypi-url=https://a"], "index_url", "https://a"),
        (["--no-index"], "no_index", True),
        (["--report", "x"], "report_file", "x"),
        (["--report=-"], "report_file", "-"),
        (["-t", "x"], "place", "target"),
        (["-tx"], "target", "x"),
        (["--root=/r"], "place", "root"),
        (["--prefix", "/p"], "prefix", "/p"),
        (["--platform", "linux_x86_64"], "place", "platform"),
        (["--user"], "place", "user"),
        (["--user", "--no-user"], "place", None),
        (["--user", "--no-user"], "refuses_user", True),
        (["--no-user", "--user"], "refuses_user", False),
        ([], "refuses_user", False),
        (["--no-user", "--user"], "place", "user"),
    ],
)
def test_what_options_say(argv, field, value):
    assert getattr(install("a", *argv), field) == value
    assert getattr(install(*argv, "a"), field) == value


@pytest.mark.parametrize(
    ("configuration", "argv", "field", "value"),
    [
        ({"upgrade": "1"}, [], "upgrade", True),
        ({"upgrade": "false"}, [], "upgrade", False),
        ({"no-deps": "yes"}, [], "no_deps", True),
        ({"quiet": "2"}, [], "quiet", 2),
        ({"quiet": "true"}, [], "quiet", 1),
        ({"user": "1"}, [], "place", "user"),
        ({"user": "1"}, ["--no-user"], "place", None),
        ({"user": "no"}, [], "refuses_user", True),
        ({"user": "1"}, [], "refuses_user", False),
        ({"target": "/a folder"}, [], "target", "/a folder"),
        ({"target": "/a"}, ["-t", "/b"], "target", "/b"),
        ({"index-url": "https://a"}, [], "index_url", "https://a"),
        ({"index-url": "https://a"}, ["-i", "https://b"], "index_url", "https://b"),
        # pip.pypa.io/en/stable/topics/configuration: "falsy values have to be used" for this one
        ({"no-compile": "no"}, [], "compile_bytecode", False),
        ({"no-compile": "1"}, [], "compile_bytecode", True),
        ({"no-compile": "no"}, ["--compile"], "compile_bytecode", True),
    ],
)
def test_pips_configuration_and_the_command_line_over_it(configuration, argv, field, value):
    assert getattr(install("a", *argv, configuration=configuration), field) == value


def test_configured_files_count_beside_those_of_the_command_line():
    files = {"a.txt": "alpha<1", "b.txt": "beta<1", "r.txt": "gamma"}
    request = install(
        "-c",
        "b.txt",
        "x",
        configuration={"constraint": "a.txt", "requirement": "r.txt"},
        files=files,
    )
    assert texts(request.constraints) == ["alpha<1", "beta<1"]
    assert texts(request.entries) == ["x", "gamma"]
    assert request.named_on_command_line == {"x"}


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--index-url https://f", "index_url", "https://f"),
        ("--no-index", "no_index", True),
        ("--pre", "pre", True),
        ("--require-hashes", "require_hashes", True),
        ("a==1 --hash=sha256:00", "require_hashes", True),
        ("a==1", "require_hashes", False),
    ],
)
def test_options_in_a_requirements_file(line, field, value):
    request = install("-r", "r.txt", "-i", "https://c", files={"r.txt": f"a\n{line}\n"})
    assert getattr(request, field) == value


def test_editables_are_entries():
    request = install("-e", "./x", "a", "-r", "r.txt", files={"r.txt": "-e ./y"})
    assert texts(request.entries) == ["a", "./x", "./y"]
    assert texts(request.editables) == ["./x", "./y"]


def test_an_editable_written_on_the_command_line_is_named_there():
    request = install(
        *("-e", "git+https://h/pytorch#egg=torch", "-e", ".", "-r", "r.txt"),
        configuration={"editable": "git+https://h/x#egg=configured"},
        files={"r.txt": "-e git+https://h/y#egg=listed\n"},
    )
    assert request.named_on_command_line == {"torch"}


@pytest.mark.parametrize(
    ("configured", "dry_run"), [("1", True), ("true", True), ("0", False), ("no", False)]
)
def test_pips_configured_dry_run_changes_nothing_either(configured, dry_run):
    assert install("a", configuration={"dry-run": configured}).own.dry_run is dry_run


def test_hashes_are_demanded_of_the_resolving_run_alone():
    request = install(
        "-r",
        "r.txt",
        "--require-hashes",
        "-q",
        files={"r.txt": "a==1 --hash=sha256:00\n--require-hashes"},
    )
    assert request.dry_run_arguments == ("-r", "r.txt", "--require-hashes", "-q")
    assert request.fetch_options == ("-q",)


def test_an_empty_requirements_file_is_enough():
    assert install("-r", "r.txt", files={"r.txt": "# nothing\n"}).entries == ()


@pytest.mark.parametrize(
    "argv", [["--group", "dev"], ["--group=a:dev"], ["--requirements-from-script", "s.py"]]
)
def test_groups_and_scripts_are_requirements_too(argv):
    assert install(*argv).dry_run_arguments == tuple(argv)


# --- our own options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "environ", "field", "value"),
    [
        ([], {}, "python", None),
        (["--python", "/x"], {}, "python", "/x"),
        (["--python=/x"], {}, "python", "/x"),
        ([], {"SAFE_INSTALL_PYTHON": "/y"}, "python", "/y"),
        (["--python", "/x"], {"SAFE_INSTALL_PYTHON": "/y"}, "python", "/x"),
        (["--python="], {"SAFE_INSTALL_PYTHON": "/y"}, "python", None),
        (["--json"], {}, "json", True),
        ([], {"SAFE_INSTALL_JSON": "true"}, "json", True),
        ([], {"SAFE_INSTALL_JSON": "0"}, "json", False),
        (["--allow-torch-change"], {}, "allow_torch_change", True),
        ([], {"SAFE_INSTALL_ALLOW_TORCH_CHANGE": "yes"}, "allow_torch_change", True),
        ([], {"SAFE_INSTALL_ALLOW_TORCH_CHANGE": ""}, "allow_torch_change", False),
        ([], {"SAFE_INSTALL_REQUIRE_CUDA": "1"}, "require_cuda", True),
        ([], {"SAFE_INSTALL_NO_ROLLBACK": "1"}, "no_rollback", True),
        ([], {"SAFE_INSTALL_NO_BUILD": "off"}, "no_build", False),
        (["--no-build"], {"SAFE_INSTALL_NO_BUILD": "off"}, "no_build", True),
        (["--offline"], {}, "offline", True),
        (["--no-toolkit"], {}, "no_toolkit", True),
        (["--strict-records"], {}, "strict_records", True),
        ([], {"SAFE_INSTALL_STRICT_RECORDS": "1"}, "strict_records", True),
        ([], {"SAFE_INSTALL_NO_TOOLKIT": "1"}, "no_toolkit", True),
        ([], {}, "no_toolkit", False),
        (["--target-gpu", "8.0,9.0"], {}, "target_gpu", ("8.0", "9.0")),
        ([], {"SAFE_INSTALL_TARGET_GPU": "8.6"}, "target_gpu", ("8.6",)),
        (["--target-gpu=7.0"], {"SAFE_INSTALL_TARGET_GPU": "8.6"}, "target_gpu", ("7.0",)),
        (["--target-driver", "535.104.05"], {}, "target_driver", "535.104.05"),
        ([], {"SAFE_INSTALL_TARGET_DRIVER": "535"}, "target_driver", "535"),
        (["--accelerator", "cu126"], {}, "accelerator", "cu126"),
        (["--accelerator", "CU126"], {}, "accelerator", "cu126"),
        (["--accelerator", "rocm6.4"], {}, "accelerator", "rocm6.4"),
        (["--accelerator", "auto"], {}, "accelerator", None),
        ([], {"SAFE_INSTALL_ACCELERATOR": "cpu"}, "accelerator", "cpu"),
        (["--accelerator", "cpu"], {"SAFE_INSTALL_ACCELERATOR": "cu130"}, "accelerator", "cpu"),
        (["--accelerator", "auto"], {"SAFE_INSTALL_ACCELERATOR": "cpu"}, "accelerator", None),
        ([], {"UV_TORCH_BACKEND": "cu130"}, "accelerator", "cu130"),
        ([], {"UV_TORCH_BACKEND": "cu130"}, "accelerator_origin", "UV_TORCH_BACKEND"),
        ([], {"UV_TORCH_BACKEND": "auto"}, "accelerator", None),
        ([], {"UV_TORCH_BACKEND": "a backend of tomorrow"}, "accelerator", None),
        ([], {"SAFE_INSTALL_ACCELERATOR": "xpu", "UV_TORCH_BACKEND": "cpu"}, "accelerator", "xpu"),
        ([], {"SAFE_INSTALL_ACCELERATOR": "auto", "UV_TORCH_BACKEND": "cpu"}, "accelerator", None),
        (["--accelerator="], {"UV_TORCH_BACKEND": "cpu"}, "accelerator", None),
    ],
)
def test_own_options(argv, environ, field, value):
    assert getattr(install("a", *argv, environ=environ).own, field) == value
    heard = {option.name for option in BY_COMMAND["uninstall"].options}
    if argv and argv[0].partition("=")[0] not in heard:
        with pytest.raises(UsageError, match="uninstall has no option --"):
            uninstall(*argv, "a", environ=environ)
    else:
        assert getattr(uninstall(*argv, "a", environ=environ).own, field) == value


@pytest.mark.parametrize(
    ("argv", "environ"), [(["--dry-run"], {}), (["--dry"], {}), ([], {"SAFE_INSTALL_DRY_RUN": "1"})]
)
def test_a_dry_run_is_one_and_uninstall_refuses_it(argv, environ):
    """Passed over, it would remove what was only to be looked at."""
    assert install("a", *argv, environ=environ).own.dry_run
    with pytest.raises(UsageError, match="no dry run"):
        uninstall("-y", *argv, "a", environ=environ)


UV, CONDA = "UV_CUDA_DRIVER_VERSION", "CONDA_OVERRIDE_CUDA"
VARIANT = "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION"
ARCHS = "TORCH_CUDA_ARCH_LIST"
BACKEND = "UV_TORCH_BACKEND"


@pytest.mark.parametrize(
    ("argv", "environ", "driver", "cuda", "gpu"),
    [
        ([], {}, None, None, ()),
        ([], {CONDA: "11.8"}, None, "11.8", ()),
        ([], {CONDA: ""}, None, None, ()),
        ([], {CONDA: "none"}, None, None, ()),
        ([], {CONDA: "12"}, None, "12.0", ()),
        ([], {CONDA: "12.8.1"}, None, "12.8", ()),
        ([], {UV: "550.144.03"}, "550.144.03", None, ()),
        ([], {UV: "junk"}, None, None, ()),
        # The variant provider means the CUDA that the driver serves.
        ([], {VARIANT: "12.8"}, None, "12.8", ()),
        ([], {CONDA: "11.8", VARIANT: "12.8"}, None, "11.8", ()),
        ([], {UV: "550.54", CONDA: "12.4"}, "550.54", "12.4", ()),
        (["--target-driver", "535.104"], {UV: "550.54", CONDA: "12.4"}, "535.104", None, ()),
        # Also set where a GPU is: it declares one only in company of a driver.
        ([], {ARCHS: "8.0 8.6+PTX"}, None, None, ()),
        ([], {ARCHS: "8.0;8.6+PTX", CONDA: "11.8"}, None, "11.8", ("8.0", "8.6")),
        ([], {ARCHS: "8.0", UV: "550.54"}, "550.54", None, ("8.0",)),
        ([], {ARCHS: "Ampere 9.0a", VARIANT: "12.8"}, None, "12.8", ("9.0",)),
        (["--target-driver=535.104"], {ARCHS: "7.5"}, "535.104", None, ("7.5",)),
        (
            ["--target-driver=535.104", "--target-gpu=9.0"],
            {ARCHS: "7.5"},
            "535.104",
            None,
            ("9.0",),
        ),
    ],
)
def test_a_machine_elsewhere_is_declared(argv, environ, driver, cuda, gpu):
    own = install("a", *argv, environ=environ).own
    assert (own.target_driver, own.target_cuda, own.target_gpu) == (driver, cuda, gpu)


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        ([], {UV: "junk"}, [f"{UV}=junk is no driver version"]),
        ([], {CONDA: "none"}, [f"{CONDA}=none is no CUDA version"]),
        ([], {CONDA: "x", VARIANT: "12.8"}, [f"{CONDA}=x is no CUDA version"]),
        ([], {VARIANT: "cu128"}, [f"{VARIANT}=cu128 is no CUDA version"]),
        ([], {BACKEND: "nonsense"}, [f"{BACKEND}=nonsense is no accelerator"]),
        (
            [],
            {BACKEND: "cuda", UV: "x"},
            [f"{UV}=x is no driver version", f"{BACKEND}=cuda is no accelerator"],
        ),
        # unset, or understood
        ([], {UV: "", CONDA: " ", VARIANT: "", BACKEND: ""}, []),
        ([], {UV: "550.144.03", CONDA: "12", VARIANT: "12.8", BACKEND: "auto"}, []),
        ([], {BACKEND: "rocm6.2.4"}, []),
        ([], {BACKEND: "AUTO"}, []),
        # not read
        (["--target-driver=535.104"], {UV: "x", CONDA: "x", VARIANT: "x"}, []),
        (["--accelerator=auto"], {BACKEND: "nonsense"}, []),
        ([], {"SAFE_INSTALL_ACCELERATOR": "cpu", BACKEND: "nonsense"}, []),
    ],
)
def test_a_variable_of_another_program_that_says_nothing_is_told(argv, environ, said):
    passed_over = install("a", *argv, environ=environ).own.passed_over
    assert passed_over == tuple(f"{one}: it is passed over" for one in said)


@pytest.mark.parametrize(
    ("text", "capabilities"),
    [
        ("8.0", ("8.0",)),
        ("8.0,9.0", ("8.0", "9.0")),
        ("8.0;8.6+PTX", ("8.0", "8.6")),
        (" 7.5 8.0 ", ("7.5", "8.0")),
        ("9.0a,10.0f,12.0", ("9.0", "10.0", "12.0")),
        ("8.0,8.0+PTX", ("8.0",)),
    ],
)
def test_capabilities(text, capabilities):
    assert parse_capabilities(text) == capabilities


# --- what cannot be understood --------------------------------------------------------------------

NOTHING_NAMED = ("at least one requirement", "folder.zip", "x.tar.gz", "-y")


@pytest.mark.parametrize(
    ("parse", "argv", "environ", "said"),
    [
        (install, [], {}, "at least one requirement"),
        (install, ["-U"], {}, "at least one requirement"),
        (install, ["-c", "c.txt"], {}, "at least one requirement"),
        (install, ["a", "-r"], {}, "-r needs a value"),
        (install, ["a", "-qr"], {}, "-r needs a value"),
        (install, ["a", "--index-url"], {}, "--index-url needs a value"),
        (install, ["a", "--python"], {}, "--python needs a value"),
        (install, ["a", "--json=1"], {}, "--json takes no value"),
        (install, ["a", "--offline="], {}, "--offline takes no value"),
        (install, ["a", "--target-gpu", "A100"], {}, "A100"),
        (install, ["a", "--target-gpu", "80"], {}, "80"),
        (install, ["a", "--target-driver", "new"], {}, "--target-driver new"),
        (install, ["a", "--target-driver", "1.2.3.4"], {}, "--target-driver 1.2.3.4"),
        (install, ["a", "--target-driver", ""], {}, "--target-driver has an empty value"),
        (install, ["a", "--target-gpu="], {}, "--target-gpu has an empty value"),
        (install, ["a", "--accelerator", "gpu"], {}, "--accelerator gpu"),
        (explain, ["a", "--accelerator", "cuda"], {}, "--accelerator cuda"),
        (install, ["a"], {"SAFE_INSTALL_ACCELERATOR": "fast"}, "SAFE_INSTALL_ACCELERATOR fast"),
        (uninstall, [], {}, "at least one requirement"),
        (uninstall, ["-y"], {}, "at least one requirement"),
        (uninstall, ["folder.zip"], {}, "folder.zip"),
        (uninstall, ["x.tar.gz"], {}, "x.tar.gz"),
        (uninstall, ["--", "-y"], {}, "-y"),
        (explain, [], {}, "explain needs a requirement"),
        (explain, ["./folder"], {}, "./folder"),
        (explain, ["a", "-r", "x"], {}, "no option -r"),
        (explain, ["a", "--unknown"], {}, "no option --unknown"),
        (explain, ["a", "--no-deps"], {}, "no option --no-deps"),
        (explain, ["a", "--cxx11-abi", "old"], {}, "--cxx11-abi old"),
        (explain, ["a", "--torch"], {}, "--torch needs a value"),
        (explain, ["a", "--no-rollback"], {}, "explain has no option --no-rollback"),
        (uninstall, ["a", "--torch", "2.0"], {}, "uninstall has no option --torch"),
        (uninstall, ["a", "--index-url=x"], {}, "uninstall has no option --index-url"),
        (uninstall, ["a", "-yU"], {}, "uninstall has no option -U"),
        (uninstall, ["a", "--require-cuda"], {}, "uninstall has no option --require-cuda"),
    ],
)
def test_usage_errors_name_the_word_and_the_mend(parse, argv, environ, said):
    with pytest.raises(UsageError) as caught:
        parse(*argv, environ=environ, **({"files": {"c.txt": ""}} if parse is install else {}))
    assert said in caught.value.message
    assert caught.value.hint
    # pip's status where the words can be read and name nothing.
    assert caught.value.exit_status == (1 if isinstance(caught.value, InputError) else 2)
    assert isinstance(caught.value, InputError) == (said in NOTHING_NAMED)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--target-gpu", "sm_80: 'sm_80' is no compute capability"),
        ("--target-driver", "x: not a driver version"),
        ("--accelerator", "fast: not an accelerator"),
        ("--build-timeout", "never: not a duration"),
        ("--build-timeout", "2h,soon: not a duration"),
        ("--build-timeout", "1,2,3: not a duration"),
        ("--check-timeout", "soon: not a duration"),
    ],
)
def test_a_bad_value_is_said_of_who_set_it(option, said):
    """Whoever sets a variable somewhere else looks in vain for an option."""
    value, variable = said.partition(": ")[0], variable_of(option)
    with pytest.raises(UsageError) as caught:
        install("a", option, value, environ={variable: "8.0"})
    assert caught.value.message == f"{option} {said}"
    with pytest.raises(UsageError) as caught:
        install("a", environ={variable: value})
    assert caught.value.message == f"{variable} {said}"


# --- uninstall and explain ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "names", "yes"),
    [
        (["Torch_Scatter"], ("torch-scatter",), False),
        (["b", "-y", "a", "B"], ("b", "a"), True),
        (["-yr", "r.txt", "z"], ("z", "numpy", "x"), True),
        (["a", "--yes"], ("a",), True),
        (["a", "--no-input"], ("a",), True),
        (["a==1", "b[x]"], ("a", "b"), False),
        (["--", "a"], ("a",), False),
    ],
)
def test_uninstall(argv, names, yes):
    request = uninstall(
        *argv, files={"r.txt": "numpy\n-c c.txt\n-e git+https://h/x#egg=x\n", "c.txt": "torch<2"}
    )
    assert (request.names, request.yes) == (names, yes)


def test_uninstall_passes_over_what_names_nothing():
    files = {"r.txt": "-e .\n-e ./here\ngit+https://h/x\n./folder\nnumpy\n"}
    request = uninstall("-y", "./folder", "a", "-r", "r.txt", files=files)
    assert (request.names, request.ignored) == (("a", "numpy"), ("./folder",))
    with pytest.raises(UsageError, match="at least one requirement"):
        uninstall("-y", "-r", "r.txt", files={"r.txt": "-e .\n"})


def test_uninstall_reads_pips_configuration():
    request = uninstall(
        "a", configuration={"yes": "1", "break-system-packages": "true", "quiet": "1"}
    )
    assert (request.yes, request.break_system_packages, request.quiet) == (True, True, 1)


def test_explain():
    request = explain(
        "torch-scatter>=2",
        *("--torch", "1.8.1+cu111", "--python-version=3.8", "--platform", "linux_x86_64"),
        *("--cxx11-abi", "False", "--pre", "-q", "--json", "--", "pyg-lib"),
    )
    assert [str(requirement) for requirement in request.requirements] == [
        "torch-scatter>=2",
        "pyg-lib",
    ]
    assert (request.torch, request.python_version, request.platform) == (
        "1.8.1+cu111",
        "3.8",
        "linux_x86_64",
    )
    assert (request.cxx11_abi, request.install.pre, request.own.json) == (False, True, True)
    assert explain("a").cxx11_abi is None


def test_explain_looks_where_pip_looks():
    configuration = {"index-url": "https://c.example/simple", "find-links": "/w", "proxy": "p"}
    configured = explain("torch", configuration=configuration)
    install = configured.install
    assert install.searched_indexes == ("https://c.example/simple",)
    assert (install.find_links, install.network.proxy) == (("/w",), "p")
    assert configured.place_words == (), "what is configured needs no words"
    words = ["--extra-index-url", "https://e.example", "-f/x", "--no-index", "-q", "--cert=c"]
    request = explain("torch", *words, configuration=configuration)
    assert (request.install.searched_indexes, request.install.no_index) == ((), True)
    assert request.install.find_links == ("/w", "/x")
    assert request.place_words == (
        *("--extra-index-url", "https://e.example"),
        *("-f/x", "--no-index"),
    )


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("torch", "torch"),
        ("Torch_Scatter[x]>=2; python_version<'3.9'", "torch-scatter"),
        ("torch @ https://example.org/whatever.whl", "torch"),
        ("torch @ https://example.org/whatever.tar.gz", "torch"),
        ("./dist/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl", "torch-scatter"),
        ("torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl", "torch-scatter"),
        ("C:\\dist\\torch_scatter-2.0.8-cp38-cp38-win_amd64.whl", "torch-scatter"),
        (
            "https://h/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl#sha256=00",
            "torch-scatter",
        ),
        ("git+https://github.com/rusty1s/pytorch_scatter.git#egg=torch_scatter", "torch-scatter"),
        ("git+ssh://git@h/x.git@v1#subdirectory=p&egg=Name[extra]", "name"),
        ("https://h/master.zip#egg=pkg", "pkg"),
        ("git+https://github.com/rusty1s/pytorch_scatter.git", None),
        ("https://h/archive/v1.zip", None),
        ("torch_scatter-2.0.8.tar.gz", None),
        ("./folder", None),
        (".", None),
    ],
)
def test_named(text, name):
    assert named(text) == name


@pytest.mark.parametrize(
    ("text", "timeout"),
    [
        (None, BuildTimeout(7200.0, 1200.0)),
        ("90", BuildTimeout(90.0, 1200.0)),
        ("90s", BuildTimeout(90.0, 1200.0)),
        ("6h,45m", BuildTimeout(21600.0, 2700.0)),
        ("0", BuildTimeout(None, 1200.0)),
        ("0, 0", BuildTimeout(None, None)),
    ],
)
def test_build_timeouts(text, timeout):
    assert parse_build_timeout(text) == timeout
    argv = [] if text is None else ["--build-timeout", text]
    assert install(*argv, "torch-scatter").own.build_timeout == timeout
    assert (
        install(
            "torch-scatter", environ={"SAFE_INSTALL_BUILD_TIMEOUT": text or ""}
        ).own.build_timeout
        == timeout
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 300.0), ("20", 20.0), ("90s", 90.0), ("10m", 600.0), ("1h", 3600.0), ("0", None)],
)
def test_check_timeouts(text, seconds):
    argv = [] if text is None else ["--check-timeout", text]
    assert install(*argv, "torch-scatter").own.check_timeout == seconds
    assert (
        install(
            "torch-scatter", environ={"SAFE_INSTALL_CHECK_TIMEOUT": text or ""}
        ).own.check_timeout
        == seconds
    )


@pytest.mark.parametrize("text", ["soon", "20,20", "-5", "1.5", ""])
def test_a_check_timeout_that_is_none(text):
    with pytest.raises(UsageError, match=r"--check-timeout .*: not a duration"):
        parse_check_timeout(text)


@pytest.mark.parametrize(
    "text", ["soon", "2h,", "1h,2m,3s", "-5", "2 h", "1.5h", "9" * 400, "\u0663"]
)
def test_a_build_timeout_that_is_none(text):
    with pytest.raises(UsageError, match="not a duration"):
        parse_build_timeout(text)


def test_what_goes_elsewhere_is_for_pip_to_judge():
    """Its own message for a line without requirements: scripts look for it."""
    request = parse_install(
        split_words(["--python-version=3.1"]), environ={}, configuration={}, read=lambda _: ""
    )
    assert request.place == "python-version"
    with pytest.raises(UsageError, match="must give at least one"):
        parse_install(split_words(["--user"]), environ={}, configuration={}, read=lambda _: "")


@pytest.mark.parametrize("text", ["GTrolls.tar.gz", "https://guyto.com/archives/"])
def test_what_uninstall_cannot_remove_is_said_in_pips_words(text):
    with pytest.raises(
        UsageError, match="ignored - the uninstall command expects named requirements"
    ):
        parse_uninstall(split_words([text, "-y"]), environ={}, configuration={}, read=lambda _: "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("detectron2", "./detectron2"),
        ("torch[extra]", "./torch[extra]"),
        (".", "."),
        ("./x", "./x"),
        ("~/x", "~/x"),
        ("folder/x", "folder/x"),
        ("git+https://h/x", "git+https://h/x"),
        ("file:///x", "file:///x"),
    ],
)
def test_an_editable_is_a_folder_and_never_the_name_of_a_project(text, expected):
    on_line = parse_install(
        split_words(["-e", text]), environ={}, configuration={}, read=lambda _: ""
    )
    in_file = parse_install(
        split_words(["-r", "r.txt"]), environ={}, configuration={}, read=lambda _: f"-e {text}\n"
    )
    assert (
        [entry.text for entry in on_line.editables]
        == [entry.text for entry in in_file.editables]
        == [expected]
    )
    if expected.startswith("./"):
        assert on_line.named_on_command_line == frozenset()


def test_a_home_is_filled_in_for_certificates(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    network = parse_network(split_words(["--client-cert=~/me.pem"]), {"cert": "~/corp.pem"})
    assert (network.ca_bundle, network.client_certificate) == (
        "/home/me/corp.pem",
        "/home/me/me.pem",
    )


PYPI, MORE, OTHER = "https://pypi.org/simple", "https://more/simple", "https://other/simple"


@pytest.mark.parametrize(
    ("words", "text", "indexes"),
    [
        ([], "", (PYPI,)),
        ([], f"--extra-index-url {MORE}", (PYPI, MORE)),
        (["-i", OTHER], f"--extra-index-url {MORE}", (OTHER, MORE)),
        ([], f"--extra-index-url {MORE}\n--index-url {OTHER}", (OTHER,)),
        (["--extra-index-url", MORE], f"--index-url {OTHER}", (OTHER,)),
        (["--extra-index-url", MORE], "--no-index", ()),
        (["--no-index"], f"--extra-index-url {MORE}", ()),
        (["-c", "c.txt"], f"--extra-index-url {MORE}", (OTHER, MORE)),
    ],
)
def test_indexes_in_files_are_searched_in_the_order_of_pip(words, text, indexes):
    """`handle_option_line` of pip/_internal/req/req_file.py; constraints are read first."""
    files = {"r.txt": f"{text}\ntorch", "c.txt": f"--index-url {OTHER}"}
    request = install(*words, "-r", "r.txt", files=files)
    assert request.searched_indexes == indexes
