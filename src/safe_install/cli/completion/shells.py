"""The completion scripts of bash, zsh and fish, and where they are installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
MARK = "# completion of"  # ends our line in a start file, with the program's name

# The program gets the words so far and answers one word a line. The answer is never evaluated.
# The alias: bash looks for the completion of the word that was typed.
BASH = """\
# Completion of {name} for bash, written by {name} --install-completion.
{function}() {{
    local IFS=$'\\n'
    COMPREPLY=($({program} --complete "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
}}
complete -o bashdefault -o default -F {function} {name}
if [[ "$(alias pip 2>/dev/null)" == *{name}* ]]; then
    complete -o bashdefault -o default -F {function} pip
fi
"""

# zsh expands an alias before it completes, so `pip` needs nothing here.
ZSH = """\
#compdef {name}
# Completion of {name} for zsh, written by {name} --install-completion.
{function}() {{
    local -a found
    found=("${{(@f)$({program} --complete "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    found=(${{found:#}})
    if (( $#found )); then
        compadd -a found
    else
        _files
    fi
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef {function} {name}
"""

# `alias pip safe-install` of fish makes a function that completes as what it stands for.
FISH = """\
# Completion of {name} for fish, written by {name} --install-completion.
function {function}
    set -l words (commandline -opc) (commandline -ct)
    {program} --complete $words[2..-1] 2>/dev/null
end
function {function}_files
    test (count ({function})) -eq 0
end
complete -c {name} -f -a '({function})'
complete -c {name} -n {function}_files -F
"""
SCRIPTS: Mapping[str, str] = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@dataclass(frozen=True)
class Place:
    """Where a shell's script is installed."""

    script: Path
    # the start file with a line that reads the script; None where the shell finds the script itself
    start_file: Optional[Path]


def offer(argv: Sequence[str], started_as: str, environ: Mapping[str, str]) -> str:
    """The output of `--show-completion [SHELL]` (a shell's script) or of `--install-completion
    [SHELL]` (which installs it). Errors: UsageError."""
    option, _, value = argv[0].partition("=")
    named = value or (argv[1] if len(argv) > 1 else None)
    shell = choose_shell(named, parent_name(), environ)
    name, program = find_program(started_as, environ)
    script = render_script(shell, name, program)
    if option == "--show-completion":
        return script
    place = find_place(shell, name, environ)
    return "".join(f"{line}\n" for line in install_script(script, place, name))


def choose_shell(named: Optional[str], parent: Optional[str], environ: Mapping[str, str]) -> str:
    """The named shell, else the one that started this process, else $SHELL. Errors: UsageError."""
    if named is not None:
        if named in SHELLS:
            return named
        raise UsageError(
            f"completion for {named} is not known", hint=f"Name one of {', '.join(SHELLS)}."
        )
    login = Path(environ.get("SHELL", "")).name
    for name in (parent, login):
        if name in SHELLS:
            return str(name)
    raise UsageError(
        "the shell is not known", hint="Name it: safe-install --install-completion bash."
    )


def parent_name() -> Optional[str]:
    """The name of the parent process; None without /proc."""
    try:
        name = (
            Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8", errors="replace").strip()
        )
    except OSError:
        return None
    return name.lstrip("-") or None


def render_script(shell: str, name: str, program: Tuple[str, ...]) -> str:
    """The script for a shell. `name`: the command that is completed; `program`: the words that
    start it."""
    function = "_" + re.sub(r"[^A-Za-z0-9]", "_", name) + "_complete"
    words = " ".join(shlex.quote(word) for word in program)
    if shell != "fish":
        words = f"command {words}"  # no alias and no function of that name
    return SCRIPTS[shell].format(name=shlex.quote(name), function=function, program=words)


def find_program(started_as: str, environ: Mapping[str, str]) -> Tuple[str, Tuple[str, ...]]:
    """(the name to complete, the words that start the program from any folder).

    `started_as`: sys.argv[0]. A program on PATH is started by its name, so that in each environment
    its own one answers.
    """
    name = Path(started_as).name
    if name == "__main__.py":
        return "safe-install", (sys.executable, "-m", "safe_install")
    if shutil.which(name, path=environ.get("PATH")) is not None:
        return name, (name,)
    return name, (os.path.abspath(started_as),)  # noqa: PTH100


def find_place(shell: str, name: str, environ: Mapping[str, str]) -> Place:
    """Where the script of a shell is installed for this user."""
    home = Path(environ.get("HOME") or Path.home())
    if shell == "fish":
        configuration = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(configuration / "fish" / "completions" / f"{name}.fish", None)
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    script = data / "torch-safe-install" / f"{name}.{shell}"
    if shell == "bash":
        return Place(script, home / ".bashrc")
    return Place(script, Path(environ.get("ZDOTDIR") or home) / ".zshrc")


def install_script(script: str, place: Place, name: str) -> List[str]:
    """Write the script and the line that reads it. A second call changes nothing more. Errors:
    OSError.

    The result: what was done, and the shell command that removes it again.
    """
    place.script.parent.mkdir(parents=True, exist_ok=True)
    place.script.write_text(script, encoding="utf-8")
    quoted = shlex.quote(str(place.script))
    lines = [f"Written: {place.script}"]
    undo = f"rm {quoted}"
    if place.start_file is not None:
        mark = f"{MARK} {name}"
        _append_line(place.start_file, f"[ ! -r {quoted} ] || . {quoted}  {mark}")
        lines.append(f"Read by the last line of {place.start_file}")
        pattern = shlex.quote("/" + mark.replace(".", "[.]") + "$/d")
        undo += f"; sed -i {pattern} {shlex.quote(str(place.start_file))}"
    return [*lines, f"Undo with: {undo}", "It works in the next shell."]


def _append_line(path: Path, line: str) -> None:
    content = path.read_bytes() if path.exists() else b""
    written = os.fsencode(line)
    if written in content.splitlines():
        return
    separator = b"" if not content or content.endswith(b"\n") else b"\n"
    with path.open("ab") as file:
        file.write(separator + written + b"\n")
