"""The words of `fleet`: what to do on many machines, and how to reach them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import UsageError
from safe_install.resolve.command_line import Word, Words
from safe_install.resolve.option_rows import FLEET_VERBS, variable_of
from safe_install.resolve.own_options import OwnOptions, own_options, parse_limit
from safe_install.resolve.unheard_options import refuse_unheard

ENGINE_OPTIONS: Mapping[str, str] = {
    "--inventory": "ansible",
    "--dask": "dask",
    "--ray": "ray",
}
# Options for the controller; all others belong to the plan.
OF_FRONT = frozenset(
    [
        *ENGINE_OPTIONS,
        "--limit",
        "--python",
        "--json",
        "--dry-run",
        "--canary",
        "--max-failures",
        "--allow-partial",
        "--node-timeout",
        "--html",
    ]
)
# Options that a node needs when it stages, and that planning does not.
OF_NODES = frozenset(["--require-cuda", "--allow-torch-change", "--check-timeout"])
DEFAULT_NODE_TIMEOUT = 3600.0


@dataclass(frozen=True)
class FleetRequest:
    """`fleet VERB ...`."""

    verb: str  # one of FLEET_VERBS
    engine: str = ""  # "ansible"; "" where none was named
    target: str = ""  # its inventory, or its address
    limit: str = ""  # of an inventory: which hosts, in Ansible's words
    python: str = ""  # on every node, where nothing else names it
    plan_words: Tuple[str, ...] = ()  # of `bundle`
    node_words: Tuple[str, ...] = ()  # of `stage`
    check_words: Tuple[str, ...] = ()  # of whatever checks: `--check-timeout 10m`
    arguments: Tuple[str, ...] = ()  # what was named: distributions, a run
    canary: int = 0
    tolerated: Optional[int] = 0  # nodes that may fail; None: any
    node_timeout: Optional[float] = DEFAULT_NODE_TIMEOUT  # seconds for a call; None: no limit
    html: str = ""
    dry_run: bool = False
    require_cuda: bool = False

    @property
    def sends_all(self) -> bool:
        """Is everything sent, even what all nodes have? With --require-cuda each node checks itself
        even where nothing changes; and workers of Dask that join later get the same bundle."""
        return self.require_cuda or self.engine == "dask"


def parse_fleet(words: Words, *, environ: Mapping[str, str]) -> FleetRequest:
    """The request of a command line. Errors: UsageError."""
    written = words.checked()
    arguments = [word.value or "" for word in written if word.argument]
    verb = _find_verb(arguments)
    refuse_unheard("fleet", written)
    engine, target = _find_engine(words)
    own = own_options(written, environ)
    check = _find_check_words(words, environ)
    rest = _without_first_argument(written)
    request = FleetRequest(
        verb,
        engine,
        target,
        words.value("--limit") or "",
        python=words.value("--python") or "",
        plan_words=_texts(word for word in rest if word.name not in OF_FRONT | OF_NODES),
        node_words=(*_switches(own), *check),
        check_words=check,
        arguments=tuple(arguments[1:]),
        canary=_number(words, "--canary", 0),
        tolerated=_number(words, "--max-failures", 0),
        node_timeout=_parse_timeout(words.value("--node-timeout")),
        html=words.value("--html") or "",
        dry_run=own.dry_run,
        require_cuda=own.require_cuda,
    )
    if words.has("--allow-partial"):
        request = replace(request, tolerated=None)
    _check(request)
    return request


def _find_verb(arguments: Sequence[str]) -> str:
    verb = arguments[0] if arguments else ""
    if verb not in FLEET_VERBS:
        told = f"fleet {verb}: no such verb" if verb else "fleet needs a verb"
        raise UsageError(told, hint=f"Write safe-install fleet {'|'.join(FLEET_VERBS)}.")
    return verb


def _find_engine(words: Words) -> Tuple[str, str]:
    named = [option for option in ENGINE_OPTIONS if words.has(option)]
    if len(named) > 1:
        raise UsageError(
            f"{' and '.join(named)}: one of them reaches the nodes", hint="Name one of them."
        )
    if not named:
        return "", ""
    return ENGINE_OPTIONS[named[0]], words.value(named[0]) or ""


def _without_first_argument(written: Sequence[Word]) -> List[Word]:
    """All but the verb."""
    rest = list(written)
    verb = next(word for word in rest if word.argument)
    rest.remove(verb)
    return rest


def _find_check_words(words: Words, environ: Mapping[str, str]) -> Tuple[str, ...]:
    option = "--check-timeout"
    found = words.value(option) or environ.get(variable_of(option))
    return (option, found) if found else ()


def _switches(own: OwnOptions) -> Tuple[str, ...]:
    """Switches for the nodes. Set by a variable of the controller, they would not reach the nodes
    otherwise."""
    found = []
    if own.require_cuda:
        found.append("--require-cuda")
    if own.allow_torch_change:
        found.append("--allow-torch-change")
    return tuple(found)


def _texts(words: Iterable[Word]) -> Tuple[str, ...]:
    return tuple(text for word in words for text in word.text)


def _number(words: Words, option: str, default: int) -> int:
    text = words.value(option)
    if text is None:
        return default
    if not text.isdecimal():
        raise UsageError(f"{option} {text}: not a number", hint=f"Write {option} 2.")
    return int(text)


def _parse_timeout(text: Optional[str]) -> Optional[float]:
    if text is None:
        return DEFAULT_NODE_TIMEOUT
    return parse_limit(
        text, written=f"--node-timeout {text}", hint="Write seconds, or 30m or 2h (0: no limit)."
    )


def _check(request: FleetRequest) -> None:
    """Refuse a missing or meaningless option of the verb. Errors: UsageError."""
    takes_old_run = request.verb in ("undo", "status")
    if not request.engine and not takes_old_run:
        raise UsageError(
            f"fleet {request.verb} needs the nodes",
            hint="Name them: --inventory hosts.yml, --dask tcp://HOST:PORT or --ray ADDRESS.",
        )
    if request.limit and request.engine != "ansible":
        raise UsageError(
            "--limit needs --inventory", hint="Dask and Ray have no groups: leave it out."
        )
    if request.verb == "uninstall" and not request.arguments:
        raise UsageError(
            "fleet uninstall needs a name",
            hint="Name a distribution: safe-install fleet uninstall torch-scatter.",
        )
    if request.verb in ("verify", "diff") and request.arguments:
        raise UsageError(
            f"fleet {request.verb} takes no names: {request.arguments[0]}",
            hint="It is about whole environments.",
        )
    if takes_old_run and len(request.arguments) > 1:
        raise UsageError(
            f"fleet {request.verb} takes one run", hint="safe-install fleet status lists them."
        )
    if request.verb == "undo" and request.dry_run:
        raise UsageError(
            "fleet undo has no dry run", hint="safe-install fleet status says what is in place."
        )
