"""argv -> request -> use case -> report -> exit status. The one place that catches SafeInstallError.

Typer declares the commands and draws their help. The words of install, uninstall and explain are read by
`resolve.request` instead, because pip's options must keep their order and their spelling.
"""

from __future__ import annotations

import codecs
import locale
import os
import re
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence
from urllib.parse import unquote, urlsplit

from safe_install import __version__
from safe_install.cli import terminal
from safe_install.errors import InputError, Interrupted, SafeInstallError, SystemFailed, Unexpected, mend_of
from safe_install.events import Reporter
from safe_install.models import DEFAULT_NETWORK, InstallResult, NetworkSettings, Outcome
from safe_install.redaction import redact_words
from safe_install.resolve.command_line import OUR_COMMANDS, Route, route
from safe_install.resolve.pip_settings import is_true

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
COMPLETION_OPTIONS = ("--install-completion", "--show-completion")
OUTCOMES: Mapping[int, Outcome] = {
    10: Outcome.REFUSED,
    11: Outcome.REFUSED,
    13: Outcome.ROLLBACK_FAILED,
    130: Outcome.ROLLED_BACK,
    143: Outcome.ROLLED_BACK,
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _catch_signals()
    terminal.prepare_streams()
    if "--no-color" in words or is_true(os.environ.get("PIP_NO_COLOR")):
        os.environ["NO_COLOR"] = "1"
    if words and words[0].partition("=")[0] in COMPLETION_OPTIONS:
        return _guarded(words, "completion", lambda reporter: _offer_completion(words))
    chosen = route(words)
    if chosen.command == "pip":
        chosen = _route_help(chosen)
    asks_for_help = "--help" in chosen.arguments or "-h" in chosen.arguments
    if chosen.command == "version" and _is_called_pip(sys.argv[0]):
        # Whatever looks for a pip reads its version in the second word.
        return _guarded(words, "pip", lambda reporter: _pass_to_pip(words))
    if chosen.command in ("help", "version") or (asks_for_help and chosen.command != "pip"):
        return _show_help(chosen)
    if chosen.command == "unknown":
        return _guarded(words, "install", lambda reporter: _refuse_unknown(chosen.arguments))
    if chosen.command == "pip":
        return _guarded(words, "pip", lambda reporter: _pass_to_pip(chosen.arguments))
    run = COMMANDS[chosen.command]
    return _guarded(words, chosen.command, lambda reporter: run(chosen.arguments, words, reporter))


def _route_help(chosen: Route) -> Route:
    """`help install` is ours, `help freeze` is pip's, `help` alone is --help."""
    words = list(chosen.arguments)
    while words and words[0].startswith("-"):
        words.pop(0)
    if words[:1] != ["help"]:
        return chosen
    if len(words) == 1:
        return Route("help", ())
    return Route(words[1], ("--help",)) if words[1] in OUR_COMMANDS else chosen


def _guarded(words: Sequence[str], command: str, run: Callable[[Reporter], Any]) -> int:
    """Run, render the result or the error, return the exit status."""
    try:
        return _run(words, command, run)
    except KeyboardInterrupt:
        return 130  # while the answer was being written


def _run(words: Sequence[str], command: str, run: Callable[[Reporter], Any]) -> int:
    from safe_install.cli import json_document, text
    from safe_install.cli.progress import TextReporter

    as_json = command != "pip" and ("--json" in words or is_true(os.environ.get("SAFE_INSTALL_JSON")))
    quiet = _count_short(words, "q", "--quiet")
    verbose = _count_short(words, "v", "--verbose") > 0
    reporter = TextReporter(quiet=quiet, json_on_stdout=as_json)
    try:
        result = run(reporter)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what somebody sent must not reach a terminal raw
        if reporter.made is not None:
            _ignore_signals()
        reporter.close()
        if not isinstance(error, (SafeInstallError, OSError, KeyboardInterrupt)):
            text.show_traceback(error)
        return _show_failure(command, _failure(error, reporter.made), as_json=as_json, verbose=verbose)
    finally:
        reporter.close()
    if reporter.made is not None:
        _ignore_signals()
    if isinstance(result, int):
        return result
    if as_json:
        json_document.show_document(json_document.make_document(result))
    else:
        text.show_result(result, quiet=reporter.quiet, program=_program(words, sys.argv[0]), verbose=verbose)
    return int(result.exit_status)


def _program(words: Sequence[str], started_as: str) -> str:
    """What to type for another command on the same environment: the program as it was started, and its --python."""
    name = Path(started_as).name
    if name == "__main__.py":
        program = "python -m safe_install"
    elif name.endswith(".pyz"):
        program = shlex.quote(started_as)
    else:
        program = "safe-install"
    python = _last_python(words)
    return program if python is None else f"{program} --python {shlex.quote(python)}"


def _is_called_pip(started_as: str) -> bool:
    """Was the program started by a link that is named as pip is: `pip`, `pip3`, `pip3.11`?"""
    return re.fullmatch(r"pip[0-9.]*", Path(started_as).name) is not None


def _last_python(words: Sequence[str]) -> Optional[str]:
    """Of several `--python` the last one counts: an alias may have written the first."""
    found = list(_python_words(words))
    return found[-1] if found else None


def _python_words(words: Sequence[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        if word == "--python" and number + 1 < len(words):
            yield words[number + 1]
        elif word.startswith("--python="):
            yield word.partition("=")[2]


def _failure(error: BaseException, made: Optional[str]) -> SafeInstallError:
    """What ended the command, in our words; `made`: the change that it had committed before."""
    if isinstance(error, SafeInstallError):
        told = error
    elif isinstance(error, OSError):
        told = SystemFailed(f"{error}: the environment is as it was", hint=mend_of(error))
    elif isinstance(error, KeyboardInterrupt):
        told = Interrupted("interrupted: nothing was changed", signal_number=signal.SIGINT)
    else:
        told = Unexpected(
            f"unexpected {type(error).__name__}: {error}",
            hint="This is a mistake of safe-install: please report it with the lines above.",
        )
    if made is not None:
        told.message = f"{told.message.partition(': ')[0]} after the change was made, verified and kept ({made})"
        told.hint = f"Nothing is left to be done; to take it back: safe-install undo {made}"
    return told


def _ignore_signals() -> None:
    """All is done but the telling: nothing that comes now may cut it short."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def _show_failure(command: str, error: SafeInstallError, *, as_json: bool, verbose: bool) -> int:
    from safe_install.cli import json_document, text

    if as_json:
        outcome = OUTCOMES.get(error.exit_status, Outcome.ERROR)
        empty = InstallResult(command, outcome, error.exit_status, error.environment)
        json_document.show_document(json_document.make_document(empty, error))
    text.show_error(error, command, verbose=verbose)
    return error.exit_status


def _count_short(words: Sequence[str], letter: str, long: str) -> int:
    """How often an option was given: -q, -qq, --quiet."""
    clusters = [word for word in words if word.startswith("-") and not word.startswith("--")]
    letters = sum(word.count(letter) for word in clusters if set(word[1:]) <= set("qUvyI"))
    return letters + sum(1 for word in words if word == long)


def _catch_signals() -> None:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: children ended, stage removed, lock given back."""

    def end(number: int, _: object) -> None:
        raise Interrupted(f"ended by {signal.Signals(number).name}: nothing was changed", signal_number=number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


# --- the commands ----------------------------------------------------------------------------------


def _refuse_unknown(words: Sequence[str]) -> Any:
    from safe_install.resolve.command_line import unknown_command

    raise unknown_command(words)


def _world(words: Sequence[str], reporter: Reporter, network: NetworkSettings) -> Any:
    from safe_install.ports import World
    from safe_install.wheels.store import find_cache

    return World(os.environ, reporter, find_cache(os.environ), _as_kept(words), network)


def _filling_world(words: Sequence[str], reporter: Reporter, network: NetworkSettings) -> Any:
    """The world of a command that fetches or builds: its cache can be written."""
    from safe_install.ports import World
    from safe_install.wheels.store import choose_cache

    cache, problem = choose_cache(os.environ)
    if problem:
        reporter.warn(
            f"{problem}: the cache is a temporary folder, and what is fetched or built is not kept. Name one that can "
            "be written: SAFE_INSTALL_CACHE_DIR"
        )
    return World(os.environ, reporter, cache, _as_kept(words), network)


def _as_kept(words: Sequence[str]) -> Sequence[str]:
    """The command for the history, which keeps no password of an index."""
    return ("safe-install", *redact_words(words))


def _read_location(location: str, network: NetworkSettings) -> str:
    """The text of a requirements file: a path, or a URL."""
    if location.startswith(("http://", "https://")):
        from safe_install.pipeline.choice import make_client

        page = make_client(_world((), Reporter(), network)).get_page(location)
        if not page.text:
            told = page.detail or page.status.value
            raise InputError(f"{location} could not be read: {told}", hint="Correct the address, or give a local copy.")
        return page.text
    path = Path(unquote(urlsplit(location).path) if location.startswith("file://") else location)
    try:
        return _decode(path.read_bytes())
    except (OSError, UnicodeDecodeError, LookupError) as error:
        raise InputError(f"Could not open requirements file: {location}: {error}", hint="Correct the path.") from error


def _decode(content: bytes) -> str:
    """As pip reads it: the byte order mark, else a coding line, else UTF-8, else the locale."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    for line in content.split(b"\n")[:2]:
        match = re.match(rb"#.*coding[:=]\s*([-\w.]+)", line)
        if match:
            return content.decode(match.group(1).decode("ascii"))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(locale.getpreferredencoding(False))


def _configuration(python: Optional[str]) -> Mapping[str, str]:
    from safe_install.environment.interpreter import find_interpreter
    from safe_install.system.pip_configuration import read_configuration

    prefix = find_interpreter(python, os.environ).parent.parent
    return read_configuration(prefix, os.environ, "install")


def _configured_network(general: Sequence[str] = ()) -> NetworkSettings:
    """Of the commands that take none of pip's options; `general`: those that stand before the command."""
    from safe_install.resolve.request import parse_network
    from safe_install.system.pip_configuration import read_configuration

    return parse_network(general, read_configuration(Path(sys.prefix), os.environ, "install"))


def _named_python(arguments: Sequence[str]) -> Optional[str]:
    return _last_python(arguments) or os.environ.get("SAFE_INSTALL_PYTHON")


def _install(arguments: Sequence[str], words: Sequence[str], reporter: Reporter) -> Any:
    from safe_install.commands.install import install
    from safe_install.resolve.request import parse_install, parse_network

    configuration = _configuration(_named_python(arguments))
    request = parse_install(
        arguments,
        environ=os.environ,
        configuration=configuration,
        read=partial(_read_location, network=parse_network(arguments, configuration)),
    )
    if request.place not in (None, "user"):
        return _install_elsewhere(request)
    reporter.quiet = max(reporter.quiet, request.quiet)  # PIP_QUIET and pip.conf, too
    reporter.log_file = request.log_file
    reporter.shows_progress = request.shows_progress
    return install(request, _filling_world(words, reporter, request.network))


def _install_elsewhere(request: Any) -> int:
    """--target, --root, --prefix and the like leave the environment alone: pip does that by itself."""
    from safe_install.commands.install import refuse_place
    from safe_install.environment.interpreter import find_interpreter

    executable = find_interpreter(request.own.python, os.environ)
    refuse_place(request, executable)
    return _pass_to_pip(("install", *request.pip_arguments), executable)


def _uninstall(arguments: Sequence[str], words: Sequence[str], reporter: Reporter) -> Any:
    from safe_install.commands.uninstall import uninstall
    from safe_install.resolve.request import parse_network, parse_uninstall

    configuration = _configuration(_named_python(arguments))
    network = parse_network(arguments, configuration)
    request = parse_uninstall(
        arguments,
        environ=os.environ,
        configuration=configuration,
        read=partial(_read_location, network=network),
    )
    reporter.quiet = max(reporter.quiet, request.quiet)
    reporter.log_file = request.log_file
    return uninstall(request, _filling_world(words, reporter, network))


def _explain(arguments: Sequence[str], words: Sequence[str], reporter: Reporter) -> Any:
    from safe_install.commands.explain import explain
    from safe_install.resolve.request import parse_explain

    request = parse_explain(arguments, environ=os.environ)
    return explain(request, _filling_world(words, reporter, _configured_network()))


def _by_typer(command: str) -> Callable[[Sequence[str], Sequence[str], Reporter], Any]:
    def run(arguments: Sequence[str], words: Sequence[str], reporter: Reporter) -> Any:
        from safe_install.cli.options import run_command

        network = _configured_network(route(words).general) if command == "wheels" else DEFAULT_NETWORK
        return run_command(command, arguments, _world(words, reporter, network))

    return run


COMMANDS: Dict[str, Callable[[Sequence[str], Sequence[str], Reporter], Any]] = {
    "install": _install,
    "uninstall": _uninstall,
    "explain": _explain,
    **{name: _by_typer(name) for name in ("verify", "history", "undo", "recover", "wheels", "check-wheel")},
}


def _offer_completion(words: Sequence[str]) -> int:
    """`--show-completion [SHELL]` prints the script of a shell; `--install-completion [SHELL]` puts it in place."""
    from safe_install.cli.completion import shells

    option, _, value = words[0].partition("=")
    named = value or (words[1] if len(words) > 1 else None)
    shell = shells.choose_shell(named, shells.parent_name(), os.environ)
    name, program = shells.find_program(sys.argv[0], os.environ)
    script = shells.render_script(shell, name, program)
    if option == "--show-completion":
        sys.stdout.write(script)
        return 0
    place = shells.find_place(shell, name, os.environ)
    for line in shells.install_script(script, place, name):
        sys.stdout.write(f"{line}\n")
    return 0


def _pass_to_pip(arguments: Sequence[str], executable: Optional[Path] = None) -> int:
    """pip with its own output and exit status."""
    from safe_install.environment.interpreter import find_interpreter, read_environment
    from safe_install.system import pip

    words: List[str] = list(arguments)
    if executable is None:
        python = _named_python(words)
        if python is not None:
            words = _without_python(words)
        executable = find_interpreter(python, os.environ)
    status = pip.passthrough(executable, words)
    if status is None:
        from safe_install.wheels.store import find_cache

        interpreter = read_environment(executable, None).interpreter
        status = pip.PipRunner(interpreter, cache_dir=find_cache(os.environ)).passthrough(words)
    return status


def _without_python(words: Sequence[str]) -> List[str]:
    kept: List[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--python" and rest:
            rest.pop(0)
        elif not word.startswith("--python="):
            kept.append(word)
    return kept


def _show_help(chosen: Route) -> int:
    from safe_install.cli.options import show_help

    if chosen.command == "version":
        sys.stdout.write(f"safe-install {__version__} (Python {sys.version.split()[0]})\n")
        return 0
    return show_help(None if chosen.command == "help" else chosen.command)
