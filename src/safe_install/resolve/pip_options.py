"""pip's words, as data: its commands, and the options of `pip install` and `pip uninstall`.

Taken from pip 20.3.4, 23.2.1 and 26.3; a test compares this table with the help of every pip that
it finds.
Groups say what an option is about, and so which of our pip runs it belongs to:

- `general` and `index`, `select`, `build`: handed to every pip run that resolves or fetches (`pip
  wheel` has them all)
- `input`: names requirements
- `effect`: what happens to what is there (-U, --no-deps ...); only for the resolving run.
  --require-hashes is one:
  the lines of the fetching run carry no hashes, its files are compared with those of the plan
- `place`: sends the files elsewhere than into the environment
- `report`: what pip should only say
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

FETCH_GROUPS = ("general", "index", "select", "build")
INDEX_GROUPS = ("general", "index")
PLACE_KEYS = ("index-url", "extra-index-url", "find-links")  # with addresses and folders

COMMANDS = frozenset(
    [
        "install",
        "download",
        "uninstall",
        "freeze",
        "inspect",
        "list",
        "show",
        "check",
        "config",
        "search",
        "cache",
        "index",
        "wheel",
        "hash",
        "completion",
        "debug",
        "help",
        "lock",
    ]
)

_SELECT = "--pre --all-releases --only-final --no-binary --only-binary --prefer-binary --uploaded-prior-to"
_INDEX = "--index-url --extra-index-url --no-index --find-links --refresh-package"
_FETCH = (
    "--requirement --requirements-from-script --constraint --build-constraint --group --no-deps "
    "--only-deps --src"
    " --ignore-requires-python --no-build-isolation --check-build-dependencies --config-settings "
    "--require-hashes"
    f" --no-require-hashes --progress-bar --no-clean {_SELECT} {_INDEX}"
)
# The options of the other commands, without those that every command has; for completion, and
# nothing is decided by it.
COMMAND_OPTIONS: Mapping[str, str] = {
    "cache": "--format",
    "completion": "--bash --zsh --fish --powershell",
    "config": "--editor --global --user --site",
    "debug": "--platform --python-version --implementation --abi",
    "download": f"--dest --platform --python-version --implementation --abi {_FETCH}",
    "freeze": "--requirement --local --user --path --all --exclude-editable --exclude",
    "hash": "--algorithm",
    "index": f"--json --platform --python-version --implementation --abi --ignore-requires-python {_SELECT} {_INDEX}",
    "inspect": "--local --user --path",
    "list": "--outdated --uptodate --editable --local --user --path --format --not-required --exclude-editable"
    f" --include-editable --exclude {_SELECT} {_INDEX}",
    "lock": f"--output --editable {_FETCH}",
    "search": "--index",
    "show": "--files",
    "uninstall": "--requirement --yes --root-user-action --break-system-packages",
    "wheel": f"--wheel-dir --editable --no-verify {_FETCH}",
}


class Option(NamedTuple):
    """One option of pip, under its first name."""

    names: Tuple[str, ...]
    takes_value: bool
    group: str

    @property
    def key(self) -> str:
        """The name under which pip's configuration knows it: `no-deps`."""
        return next(name for name in self.names if name.startswith("--"))[2:]


def _options(group: str, *, values: Sequence[str] = (), flags: Sequence[str] = ()) -> List[Option]:
    found = [Option(tuple(text.split("/")), takes_value=True, group=group) for text in values]
    return found + [
        Option(tuple(text.split("/")), takes_value=False, group=group) for text in flags
    ]


OPTIONS: Tuple[Option, ...] = (
    *_options(
        "general",
        values=[
            "--log/--log-file/--local-log",
            "--exists-action",
            "--proxy",
            "--retries",
            "--timeout/--default-timeout",
            "--trusted-host",
            "--cert",
            "--client-cert",
            "--cache-dir",
            "--keyring-provider",
            "--resume-retries",
            "--use-feature",
            "--use-deprecated",
            "--progress-bar",
        ],
        flags=[
            "--isolated",
            "--require-virtualenv/--require-venv",
            "--debug",
            "--verbose/-v",
            "--quiet/-q",
            "--no-input",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--no-color",
            "--no-python-version-warning",
            "--no-proxy-env",
        ],
    ),
    *_options("general", values=["--python"]),
    *_options("help", flags=["--help/-h", "--version/-V"]),
    *_options(
        "index",
        values=["--index-url/-i/--pypi-url", "--extra-index-url", "--find-links/-f"],
        flags=["--no-index"],
    ),
    *_options(
        "select",
        values=[
            "--no-binary",
            "--only-binary",
            "--all-releases",
            "--only-final",
            "--uploaded-prior-to",
            "--refresh-package",
        ],
        flags=[
            "--pre",
            "--prefer-binary",
            "--ignore-requires-python",
        ],
    ),
    *_options(
        "build",
        values=[
            "--config-settings/-C",
            "--global-option",
            "--build-constraint",
            "--src/--source/--source-dir/--source-directory",
            "--build/-b/--build-dir/--build-directory",
        ],
        flags=[
            "--no-build-isolation",
            "--use-pep517",
            "--no-use-pep517",
            "--check-build-dependencies",
            "--no-clean",
        ],
    ),
    *_options(
        "input",
        values=[
            "--requirement/-r",
            "--constraint/-c",
            "--editable/-e",
            "--group",
            "--requirements-from-script",
        ],
    ),
    *_options(
        "effect",
        values=["--upgrade-strategy", "--install-option", "--root-user-action"],
        flags=[
            "--require-hashes",
            "--no-require-hashes",
            "--upgrade/-U",
            "--force-reinstall",
            "--ignore-installed/-I",
            "--no-deps/--no-dependencies",
            "--only-deps/--only-dependencies",
            "--compile",
            "--no-compile",
            "--no-user",
            "--no-warn-script-location",
            "--no-warn-conflicts",
            "--break-system-packages",
            "--yes/-y",
        ],
    ),
    *_options(
        "place",
        values=[
            "--target/-t",
            "--root",
            "--prefix",
            "--platform",
            "--python-version",
            "--implementation",
            "--abi",
        ],
        flags=["--user"],
    ),
    *_options("report", values=["--report"], flags=["--dry-run"]),
)

BY_NAME: Mapping[str, Option] = {name: option for option in OPTIONS for name in option.names}


def find_option(name: str) -> Option | None:
    """The option of this name; a unique beginning of a long name counts, as it does for pip."""
    if name in BY_NAME or not name.startswith("--"):
        return BY_NAME.get(name)
    found: Dict[int, Option] = {
        id(option): option for long, option in BY_NAME.items() if long.startswith(name)
    }
    return next(iter(found.values())) if len(found) == 1 else None
