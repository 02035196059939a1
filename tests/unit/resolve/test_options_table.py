"""The table of our options: each is parsed, helped and completed (and documented:
tests/unit/test_docs.py)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from safe_install.cli import options as surface
from safe_install.cli.completion.words import complete
from safe_install.errors import UsageError
from safe_install.models import BuildTimeout
from safe_install.ports import World
from safe_install.resolve.bundle_request import parse_bundle
from safe_install.resolve.command_line import parse_command_line
from safe_install.resolve.explain_request import parse_explain
from safe_install.resolve.fleet_request import parse_fleet
from safe_install.resolve.option_rows import Kind
from safe_install.resolve.options_table import BY_COMMAND, BY_NAME, COMMANDS, OPTIONS
from safe_install.resolve.own_options import OwnOptions, own_options
from safe_install.resolve.pip_options import COMMANDS as COMMANDS_OF_PIP
from safe_install.resolve.pip_options import find_option

# For each option: a value as it is written, and what it becomes in OwnOptions, or for the command
# that has it.
VALUES = {
    "--python": ("/env", "/env"),
    "--build-timeout": ("90,30", BuildTimeout(90.0, 30.0)),
    "--check-timeout": ("90", 90.0),
    "--target-gpu": ("8.0,9.0", ("8.0", "9.0")),
    "--target-driver": ("535.104", "535.104"),
    "--accelerator": ("cu126", "cu126"),
    "--third-party": ("one,two", ("one", "two")),
    "--torch": ("2.1+cu121", "2.1+cu121"),
    "--python-version": ("3.8", "3.8"),
    "--platform": ("linux_x86_64", "linux_x86_64"),
    "--cxx11-abi": ("true", True),
    "--installed": ("there.json", "there.json"),
    "--torch-dir": ("/torch", "/torch"),
    "--update": ("https://h/index#sha256=0", "https://h/index#sha256=0"),
    "--keep": ("3", 3),
    "--ttl": ("2d", 172800.0),
    "--format": ("uv", "uv"),
    "--output": ("lock.toml", "lock.toml"),
    "--wheels": ("wheels", "wheels"),
    "--bundle": ("FILE.zip", "FILE.zip"),
    "--limit": ("gpus", "gpus"),
    "--run": ("20261130T010203Z-111111", "20261130T010203Z-111111"),
    "--inventory": ("hosts.yml", "hosts.yml"),
    "--dask": ("tcp://h:8786", "tcp://h:8786"),
    "--ray": ("auto", "auto"),
    "--canary": ("2", 2),
    "--max-failures": ("3", 3),
    "--node-timeout": ("20m", 1200.0),
    "--html": ("page.html", "page.html"),
    "--at": ("20260101T000000Z-1a2b", "20260101T000000Z-1a2b"),
}
OF_PIPS_COMMANDS = [
    (name, option)
    for name in ("install", "uninstall", "stage")
    for option in BY_COMMAND[name].options
]
OF_OTHERS = [
    (command.name, option)
    for command in COMMANDS
    if not command.takes_pip_options
    for option in command.options
]


def commands_of(option):
    return [command.name for command in COMMANDS if option in command.options]


class Names:
    """A machine that knows nothing."""

    def projects(self):
        return []

    def distributions(self, python):
        return []

    def transactions(self, python):
        return []

    def staged(self, python):
        return []


def written(option):
    return [option.name, VALUES[option.name][0]] if option.takes_value else [option.name]


def expected(option):
    return VALUES[option.name][1] if option.takes_value else True


def test_every_option_has_a_command_and_a_value_in_these_tests():
    assert [option.name for option in OPTIONS if not commands_of(option)] == []
    assert set(VALUES) == {option.name for option in OPTIONS if option.takes_value}
    assert len(BY_NAME) == len(OPTIONS)
    assert len(BY_COMMAND) == len(COMMANDS)


def test_no_command_of_ours_hides_a_command_of_pip_by_chance():
    assert set(BY_COMMAND) & COMMANDS_OF_PIP == {"install", "uninstall"}


@pytest.mark.parametrize(("command", "option"), OF_PIPS_COMMANDS)
def test_an_option_is_parsed_beside_those_of_pip(command, option):
    line = parse_command_line([command, "-U", *written(option), "x"])
    assert line.route.command == command
    assert line.words.has(option.name)
    assert getattr(own_options(line.words.checked(), {}), option.field) == expected(option)
    assert [word.value for word in line.words.all if word.argument] == ["x"]


@pytest.mark.parametrize("option", BY_COMMAND["explain"].options, ids=lambda option: option.name)
def test_an_option_of_explain_is_parsed(option):
    words = parse_command_line(["explain", *written(option), "x"]).words
    request = parse_explain(words, environ={}, configuration={}, read=str)
    holder = request.own if hasattr(request.own, option.field) else request
    assert getattr(holder, option.field) == expected(option)


@pytest.mark.parametrize("option", BY_COMMAND["bundle"].options, ids=lambda option: option.name)
def test_an_option_of_bundle_is_parsed(option):
    line = parse_command_line(["bundle", "-U", "-oFILE.zip", *written(option), "x"])
    request = parse_bundle(line.words, environ={}, configuration={}, read=str)
    own = request.install.own
    holder = own if hasattr(own, option.field) else request
    assert getattr(holder, option.field) == expected(option)
    assert [entry.text for entry in request.install.entries] == ["x"]


OF_FLEET = {
    "--inventory": "target",
    "--limit": "limit",
    "--dask": "target",
    "--ray": "target",
    "--max-failures": "tolerated",
    "--python": "python",
    "--canary": "canary",
    "--node-timeout": "node_timeout",
    "--html": "html",
    "--dry-run": "dry_run",
    "--require-cuda": "require_cuda",
}


@pytest.mark.parametrize("option", BY_COMMAND["fleet"].options, ids=lambda option: option.name)
def test_an_option_of_fleet_is_parsed(option):
    engine = [] if OF_FLEET.get(option.name) == "target" else ["--inventory", "hosts.yml"]
    words = ["fleet", "install", *engine, *written(option), "x"]
    request = parse_fleet(parse_command_line(words).words, environ={})
    assert request.arguments == ("x",)
    if option.name in OF_FLEET:
        assert getattr(request, OF_FLEET[option.name]) == expected(option)
    elif option.name == "--allow-partial":
        assert request.tolerated is None
    elif option.name == "--json":
        assert "--json" not in request.plan_words
    if option.name in ("--require-cuda", "--allow-torch-change", "--check-timeout"):
        assert request.node_words == tuple(written(option))
        assert request.plan_words == ("x",)
    elif option.name not in OF_FLEET and option.name not in ("--json", "--allow-partial"):
        assert request.plan_words == (*written(option), "x")


@pytest.mark.parametrize(("command", "option"), OF_OTHERS)
def test_an_option_is_parsed_where_typer_reads_it(command, option, monkeypatch):
    seen = run_by_typer(command, written(option), {}, monkeypatch)
    assert seen[option.field] == expected(option)
    assert parse_command_line([command, *written(option)]).words.has(option.name)


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS if option.variable], ids=lambda option: option.name
)
def test_a_variable_stands_for_an_option(option, monkeypatch):
    environ = {option.variable: written(option)[-1] if option.takes_value else "1"}
    assert option.variable == "SAFE_INSTALL_" + option.name[2:].upper().replace("-", "_")
    assert getattr(own_options((), environ), option.field) == expected(option)
    for command in set(commands_of(option)) & {name for name, _ in OF_OTHERS}:
        assert run_by_typer(command, [], environ, monkeypatch)[option.field] == expected(option)


def test_the_variables_of_other_commands_say_nothing():
    environ = {
        "SAFE_INSTALL_BUILD_TIMEOUT": "never",
        "SAFE_INSTALL_OFFLINE": "1",
        "CONDA_OVERRIDE_CUDA": "12.8",
        "UV_CUDA_DRIVER_VERSION": "junk",
        "UV_TORCH_BACKEND": "junk",
    }
    own = own_options((), environ, BY_COMMAND["verify"].options)
    assert own == OwnOptions()
    with pytest.raises(UsageError):
        own_options((), environ)


SOURCE = Path(__file__).resolve().parents[3] / "src" / "safe_install"
TAKING_A_VALUE = "|".join(option.name for option in OPTIONS if option.takes_value)
WITHOUT_VALUE = re.compile(rf"safe-install [^.;:]*(?:{TAKING_A_VALUE})(?=[.;:`]|$)", re.M)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("newer facts: safe-install wheels --update.", True),
        ("`safe-install wheels --update` brings newer", True),
        ("see --update in safe-install wheels --help.", False),
        ("safe-install wheels --check --torch 2.13.0+cpu.", False),
        ("safe-install verify --require-cuda.", False),
    ],
)
def test_a_command_without_the_value_of_its_option_is_seen(text, is_one):
    assert bool(WITHOUT_VALUE.search(text)) == is_one


def test_no_text_offers_a_command_that_lacks_the_value_of_its_option():
    """Who types what a hint says is not refused for it."""
    found = [
        (path.name, text)
        for path in sorted(SOURCE.rglob("*.py"))
        for text in texts_of(path)
        if WITHOUT_VALUE.search(text)
    ]
    assert found == []


def texts_of(path):
    """The strings of a module, as they are shown: what is computed stands as `{}`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(parts)
        if isinstance(node, ast.Constant) and node not in docstrings:
            yield str(node.value)


def run_by_typer(command, words, environ, monkeypatch):
    """What the command would be given: the fields of our options, and its own values."""
    seen = {}

    def run(world, own, **values):
        seen.update(vars(own), **values)

    app = surface.typer.Typer(add_completion=False)
    monkeypatch.setattr(surface, "app", app)
    for row in COMMANDS:
        surface.declare(row, run if row.name == command else None)
    argument = ["a.whl"] if BY_COMMAND[command].argument_required else []
    surface.run_command(command, [*argument, *words], World(environ, None, None))
    return seen


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_stands_in_the_help_of_its_commands_and_no_other(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    surface.show_help(command.name)
    line = r"^  (?:-[a-z], )?(--[a-z0-9-]+)(?: ([^ ]+))? "
    shown = re.findall(line, capsys.readouterr().out, re.MULTILINE)
    declared = [(option.name, option.metavar or "") for option in command.options]
    assert [row for row in shown if row != ("--help", "")] == declared


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_completed_for_its_commands(command):
    offered = complete([command.name], "--", Names())
    of_pip = {option.name for option in OPTIONS if find_option(option.name) is not None}
    assert [option.name for option in command.options if option.name not in offered] == []
    assert [
        name
        for name in BY_NAME
        if name in offered and name not in {o.name for o in command.options} | of_pip
    ] == []
    for option in command.options:
        if option.choices:
            assert complete([command.name, option.name], "", Names()) == list(option.choices)
        if option.takes_value:
            assert complete([command.name, option.name], "--", Names()) == []


def test_a_number_is_checked(monkeypatch):
    assert BY_NAME["--keep"].kind is Kind.NUMBER
    assert run_by_typer("history", [], {}, monkeypatch)["keep"] == 5
    with pytest.raises(UsageError, match="-1"):
        run_by_typer("history", ["--keep", "-1"], {}, monkeypatch)
