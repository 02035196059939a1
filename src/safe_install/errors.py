"""The error tree. An exception means "cannot go on"; an expected "no" is a value (Rejection,
Finding).

Every error has a stable `code` (kebab-case, part of the JSON document), the exit status of the
contract, a message that names the input, and a hint that names the remedy. They are caught once, in
`cli.main`.
"""

from __future__ import annotations

import errno
from typing import Any, Mapping, Optional, Sequence, Tuple

from safe_install.models import Environment, Finding, Rejection, Severity
from safe_install.redaction import redact


class SafeInstallError(Exception):
    """Base of everything that ends a command with a message."""

    code = "error"
    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        findings: Sequence[Finding] = (),
        rejections: Sequence[Rejection] = (),
    ) -> None:
        super().__init__(redact(message))
        self.message = redact(message)
        self.hint = redact(hint)
        self.findings: Tuple[Finding, ...] = tuple(findings)
        self.rejections: Tuple[Rejection, ...] = tuple(rejections)
        self.environment: Optional[Environment] = None  # where it happened, once that is known
        # for the JSON document: what only one command has to say
        self.details: Mapping[str, Any] = {}

    @property
    def headline(self) -> str:
        """The first line of the message."""
        return self.message.splitlines()[0]


def hint_for_oserror(error: OSError) -> str:
    """A hint on what to do about an error of the file system."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Run as the user that owns this environment, or choose another one with --python (or your own: --user)."
    if error.errno == errno.EROFS:
        return "It lies on a file system that is mounted read-only: mount it writable, or use another environment."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "Free some space there (df -h, and df -i for the number of files), then run it again."
        )
    if error.errno == errno.EAGAIN:
        return (
            "This user may start no more processes or threads: end some, or raise the limit "
            "(ulimit -u, the pids limit of the container)."
        )
    if error.errno == errno.EBUSY:
        return "Something else works there: run it again when that has ended."
    return "Look at that path and its disk, then run it again."


class SystemFailed(SafeInstallError):
    """The operating system refused something outside of a change; the environment is unchanged."""

    code = "system"
    exit_status = 1


class UsageError(SafeInstallError):
    """The command line is invalid."""

    code = "usage"
    exit_status = 2


class InputError(UsageError):
    """The command line names nothing to do, or a requirements file that cannot be read. Exit status
    as in pip."""

    code = "input"
    exit_status = 1


class PipFailed(SafeInstallError):
    """pip ended with an error before anything was changed; its own output says why."""

    code = "pip-failed"
    exit_status = 1

    def __init__(
        self, message: str, *, hint: str = "", output: str = "", exit_status: int = 1
    ) -> None:
        super().__init__(message, hint=hint)
        self.output = redact(output)  # pip's own words
        self.was_relayed = False  # they have been shown
        self.exit_status = exit_status


class NoCandidate(SafeInstallError):
    """No file fits this environment; `rejections` has the reason for each."""

    code = "no-candidate"
    exit_status = 10
    projects: Tuple[str, ...] = ()  # those for which nothing fits
    is_open = False  # a host that did not answer, or was not asked, may have one
    lacking_offline = ""  # the requirement of which no place has a file, where no host may be asked


class Refused(SafeInstallError):
    """A check refuses the command; nothing was changed."""

    code = "refused"
    exit_status = 11

    @classmethod
    def by(cls, findings: Sequence[Finding], *, rejections: Sequence[Rejection] = ()) -> Refused:
        """The refusal for the first error among these findings, which have at least one."""
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        reason = errors[0] if errors else findings[0]
        return cls(reason.detail, hint=reason.hint, findings=findings, rejections=rejections)


class ExternallyManaged(SafeInstallError):
    """The interpreter belongs to the operating system (PEP 668); rule and exit status as in pip."""

    code = "externally-managed-environment"
    exit_status = 1


class BuildFailed(SafeInstallError):
    """A source build ended with an error; the message names the log file. Nothing was changed."""

    code = "build-failed"
    exit_status = 1

    def __init__(
        self, message: str, *, hint: str = "", findings: Sequence[Finding] = (), output: str = ""
    ) -> None:
        super().__init__(message, hint=hint, findings=findings)
        self.output = redact(output)  # the build's own words


class RollBackFailed(SafeInstallError):
    """The environment could not be restored. The journal is kept, and the hint is the command that
    finishes the roll back."""

    code = "roll-back-failed"
    exit_status = 13


class EnvironmentLocked(SafeInstallError):
    """Another safe-install has locked this environment."""

    code = "environment-locked"
    exit_status = 14


class LeaderFailed(SafeInstallError):
    """The rank of this step that made the change for all has failed."""

    code = "leader-failed"
    exit_status = 1  # else the leader's own


class ProbeFailed(SafeInstallError):
    """The managed interpreter could not be probed."""

    code = "probe-failed"
    exit_status = 15


class DownloadFailed(SafeInstallError):
    """A file could not be fetched, or is not the file that was promised."""

    code = "download-failed"
    exit_status = 1


class HashMismatch(SafeInstallError):
    """A file's bytes are not the ones that were promised. Nothing was changed."""

    code = "hash-mismatch"
    exit_status = 11


class WheelInvalid(SafeInstallError):
    """A wheel file is not what its name, RECORD or metadata say. Nothing was changed."""

    code = "wheel-invalid"
    exit_status = 11


class BundleInvalid(SafeInstallError):
    """A bundle is damaged, or is not one. Nothing was changed."""

    code = "bundle-invalid"
    exit_status = 11


class EngineFailed(SafeInstallError):
    """An engine that reaches many nodes (Ansible, Dask, Ray) is missing, or cannot go on."""

    code = "engine-failed"
    exit_status = 1


class IndexInvalid(SafeInstallError):
    """A wheel index document cannot be used; the message names the file and the key."""

    code = "index-invalid"
    exit_status = 1


class Unexpected(SafeInstallError):
    """An error of this program; the environment has what the transaction guarantees."""

    code = "unexpected"
    exit_status = 1


class Interrupted(SafeInstallError):
    """A signal ended the command; the environment is as before."""

    code = "interrupted"
    exit_status = 130

    def __init__(self, message: str, *, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = 128 + signal_number
