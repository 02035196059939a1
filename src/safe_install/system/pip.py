"""Runs pip's command line. No other module does it, and pip is never imported.

pip resolves, downloads and builds ordinary requirements. It never writes into the managed
environment itself.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, cast

from safe_install.errors import PipFailed, ProbeFailed
from safe_install.models import Interpreter
from safe_install.pip_output import InstallationReport, failure_line, is_disk_full, is_of_getpass
from safe_install.system import process
from safe_install.system.askpass import AskPass
from safe_install.system.downloads import KeptDownloads
from safe_install.system.pip_command import (
    OLDEST_PIP,
    build_options,
    command_for_markers,
    find_own_pip,
    pip_environment,
    select_pip,
    unpack,
)
from safe_install.system.read_only import READ_ONLY_ERROR, READ_ONLY_HINT, Protection

SSH_REFUSAL = "Bad owner or permissions on"  # OpenSSH, readconf.c
LineReader = Callable[[str], None]


class PipRunner:
    """The pip for one managed interpreter."""

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        cache_dir: Path,
        has_wheel: bool = True,
        answer: Optional[process.Answer] = None,
        askpass: Optional[AskPass] = None,
        protection: Optional[Protection] = None,
        markers: Optional[Mapping[str, str]] = None,
    ) -> None:
        """Select a pip, and unpack it if it is a wheel. Errors: ProbeFailed, if there is none.

        `has_wheel`: is the project `wheel` installed there? `answer`: answers pip's questions;
        None: it must not ask. `askpass`: answers git and ssh. `protection`: the folders that builds
        must not change. `markers`: those of another machine for which it plans; None: this one.
        """
        found = select_pip(interpreter, None) or find_own_pip(interpreter)
        if found is None:
            raise ProbeFailed(
                f"no pip {OLDEST_PIP} or newer was found for {interpreter.executable}",
                hint=f"Run `{interpreter.executable} -m ensurepip --upgrade`, or install pip beside safe-install.",
            )
        self.interpreter = interpreter
        self.pip = unpack(found, interpreter, cache_dir)
        self._build_options = build_options(self.pip.version, has_wheel=has_wheel)
        self._answer = answer
        self._askpass = askpass
        self._protection = protection or Protection()
        self._planning = self.pip.command
        if markers is not None:
            self._planning = command_for_markers(self.pip, markers)

    def _environment(self, *, named_only: bool = False) -> Dict[str, str]:
        """The variables of a pip process. `named_only`: see pip_environment."""
        variables = pip_environment(self.pip.version, named_only=named_only)
        if self._answer is None:
            variables["PIP_NO_INPUT"] = "1"
        elif self._askpass is not None:
            variables.update(self._askpass.variables(variables))
        return variables

    def _run_protected(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        temporary: Optional[Path] = None,
        **options: Any,
    ) -> process.Completed:
        """Run a pip that may build. The environment is read-only to it, if that is possible.

        `temporary`: its TMPDIR; None: a new folder, which is removed at the end, since a killed pip
        leaves its downloads there. `options`: see process.run.
        """
        if temporary is not None:
            return self._run_with_ssh_fallback({**env, "TMPDIR": str(temporary)}, command, options)
        folder = tempfile.mkdtemp(prefix="safe-install-")
        try:
            return self._run_with_ssh_fallback({**env, "TMPDIR": folder}, command, options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_with_ssh_fallback(
        self, env: Mapping[str, str], command: Sequence[str], options: Mapping[str, Any]
    ) -> process.Completed:
        """Run a command, and again without a user namespace if ssh refuses to work in one."""
        answer = process.run(self._protection.wrap(command), env=env, **options)
        if answer.returncode == 0 or not self._protection.in_user_namespace:
            return answer
        if SSH_REFUSAL not in answer.stdout + answer.stderr:
            return answer
        # In a user namespace the owner of root's files is "nobody", and ssh refuses its
        # configuration.
        self._protection = replace(self._protection, in_user_namespace=False)
        return process.run(self._protection.wrap(command), env=env, **options)

    def passthrough(self, arguments: Sequence[str]) -> int:
        """Run pip as if the user had typed it. The result: its exit status."""
        return process.run_attached([*self.pip.command, *arguments])

    def dry_run(
        self,
        arguments: Sequence[str],
        *,
        constraints: Sequence[str],
        find_links: Sequence[Path],
        on_output: LineReader,
        on_error: LineReader,
        downloads: Optional[KeptDownloads] = None,
    ) -> InstallationReport:
        """pip's installation report (format 1) on what `pip install ARGUMENTS` would install.

        `arguments`: the user's own, without --report and --dry-run. `constraints`: lines of a
        constraints file. `on_output`, `on_error`: get the lines of stdout and stderr. `downloads`:
        keeps the files that pip downloads. Errors: PipFailed with pip's whole output.
        """
        environment = self._environment()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="safe-install-"))
            if downloads is not None:
                stack.enter_context(downloads.watching())
            report = Path(folder) / "report.json"
            command = [*self._planning, "install", "--dry-run", "--report", str(report)]
            command += self._build_options
            if constraints:
                listed = Path(folder) / "constraints.txt"
                listed.write_text("\n".join(constraints) + "\n", encoding="utf-8")
                command += ["--constraint", str(listed)]
            for directory in find_links:
                command += ["--find-links", str(directory)]
            answer = self._run_protected(
                [*command, *arguments],
                env=environment,
                temporary=downloads.temporary if downloads is not None else None,
                on_stdout=on_output,
                on_stderr=_without_getpass_warning(on_error),
                answer=self._answer,
            )
            if answer.returncode != 0:
                raise _failed(answer, "pip could not resolve the requirements")
            try:
                found = dict(json.loads(report.read_text(encoding="utf-8")))
                return cast(InstallationReport, found)
            except (OSError, ValueError) as error:
                raise PipFailed(
                    f"pip {self.pip.version} wrote no usable installation report: {error}",
                    hint="Upgrade pip in that environment: safe-install -U pip.",
                    output=answer.stdout + answer.stderr,
                ) from error

    def fetch(
        self,
        lines: Sequence[str],
        directory: Path,
        *,
        options: Sequence[str],
        on_line: LineReader,
        on_error: Optional[LineReader] = None,
    ) -> None:
        """Put a wheel for each requirement into `directory`. It is downloaded, or built with build
        isolation.

        `lines`: as in requirements.txt. `options`: the user's index and selection options.
        `on_line`: gets the lines of output; `on_error`: those of stderr. Errors: PipFailed.
        """
        with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
            listed = Path(folder) / "requirements.txt"
            listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
            command = [*self.pip.command, "wheel", "--no-deps", "--wheel-dir", str(directory)]
            # The user's options come last, so they override ours.
            command += [*self._build_options, *options]
            answer = self._run_protected(
                [*command, "--requirement", str(listed)],
                env=self._environment(named_only=True),
                on_stdout=on_line,
                on_stderr=on_error or on_line,
                answer=self._answer,
            )
        if answer.returncode != 0:
            raise _failed(answer, "pip could not fetch or build what it resolved")

    def build(
        self,
        requirement: str,
        directory: Path,
        *,
        config_settings: Sequence[str],
        options: Sequence[str],
        on_line: LineReader,
        on_error: Optional[LineReader] = None,
    ) -> None:
        """Build one requirement into `directory` with `config_settings` ("KEY=VALUE"). Errors:
        PipFailed. The other arguments are those of `fetch`.

        It is not part of `fetch`, since pip uses these settings only for requirements on its
        command line.
        """
        command = [*self.pip.command, "wheel", "--no-deps", "--wheel-dir", str(directory)]
        command += [*self._build_options, *options]
        for setting in config_settings:
            command += ["--config-settings", setting]
        environment = self._environment(named_only=True)
        environment.pop("PIP_CONFIG_SETTINGS", None)  # it is part of `config_settings`
        answer = self._run_protected(
            [*command, requirement],
            env=environment,
            on_stdout=on_line,
            on_stderr=on_error or on_line,
            answer=self._answer,
        )
        if answer.returncode != 0:
            raise _failed(answer, f"pip could not fetch or build {requirement}")

    def stage_editable(
        self,
        path: str,
        *,
        root: Path,
        options: Sequence[str],
        on_line: LineReader,
        on_error: Optional[LineReader] = None,
    ) -> None:
        """Make an editable install of the project at `path` below the folder `root`. Its build may
        use the network. Errors: PipFailed. The other arguments are those of `fetch`."""
        command = [*self.pip.command, "install", "--root", str(root), "--no-deps"]
        command += ["--ignore-installed", "--use-pep517", "--no-warn-script-location"]
        command += [*options, "--editable", path]
        answer = self._run_protected(
            command,
            env=self._environment(named_only=True),
            on_stdout=on_line,
            on_stderr=on_error or on_line,
            answer=self._answer,
        )
        if answer.returncode != 0:
            raise _failed(answer, f"pip could not make an editable install of {path}")

    def install_target(
        self,
        requirements: Sequence[str],
        target: Path,
        *,
        only_wheels: bool = False,
        offline: bool = False,
        dry_run: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        """Install build tools into the folder `target`, from the user's own index. Errors:
        PipFailed.

        `options`: the user's index options. `offline`: only from --find-links folders in pip's
        configuration. `dry_run`: only check whether they are available.
        """
        command = [*self.pip.command, "install", "--target", str(target), "--upgrade", "--quiet"]
        if only_wheels:
            command += ["--only-binary", ":all:", "--no-compile"]
        if offline:
            command.append("--no-index")
        if dry_run:
            command.append("--dry-run")
        answer = self._run_protected(
            [*command, *options, *requirements],
            env=self._environment(named_only=True),
            answer=self._answer,
        )
        if answer.returncode != 0:
            raise _failed(answer, f"pip could not fetch the build tools {' '.join(requirements)}")


def passthrough(executable: Path, arguments: Sequence[str]) -> Optional[int]:
    """Run the interpreter's own pip in the foreground. The result: its exit status; None: it has no
    pip."""
    if not _has_pip(executable):
        return None
    return process.run_attached([str(executable), "-m", "pip", *arguments])


def _has_pip(executable: Path) -> bool:
    # Its usual place is looked at first, since to start the interpreter is slow.
    prefix = executable.parent.parent
    if any(prefix.glob("lib/python3*/site-packages/pip/__main__.py")):
        return True
    # `pip.__main__` and not `pip`: any folder called pip in PYTHONPATH can be imported.
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip.__main__') is None)"
    return process.run([str(executable), "-c", code], timeout=60).returncode == 0


def _without_getpass_warning(reader: LineReader) -> LineReader:
    """A reader that does not get Python's warning about a password that is not read from a
    terminal. This process reads it from one."""

    def read(line: str) -> None:
        if not is_of_getpass(line):
            reader(line)

    return read


def _failed(answer: process.Completed, sentence: str) -> PipFailed:
    reason = answer.ended_by or failure_line(answer.stderr)
    output = answer.stdout + answer.stderr
    return PipFailed(
        f"{sentence}: {reason}",
        hint=_hint_for(output),
        output=output,
        exit_status=answer.returncode if answer.returncode > 0 else 1,
    )


def _hint_for(output: str) -> str:
    if is_disk_full(output):
        return _explain_full_disk()
    if READ_ONLY_ERROR in output:
        return READ_ONLY_HINT
    return ""


def _explain_full_disk() -> str:
    """The hint on a full disk. pip does not say which folder was full, but it is nearly always the
    one for temporary files."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free // 2**20
    return (
        f"pip downloads and builds in {folder}, which has {free} MiB free: name a folder with more "
        "room, "
        "TMPDIR=/path/to/folder, and run the command again."
    )
