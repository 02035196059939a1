"""The error tree. An exception means "cannot go on"; an expected "no" is a value (Rejection,
Finding).

Every error has a stable `code` (kebab-case, in the JSON document), an exit status, a message that
names the input, and a hint that names the remedy. Errors are caught once, in `cli.main`.
"""

from __future__ import annotations

import errno
from typing import Any, Mapping, Optional, Sequence, Tuple

from safe_install.models import Environment, Finding, Rejection, Severity
from safe_install.redaction import redact


class SafeInstallError(Exception):
    """Base of all errors that end a command with a message."""

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
        self.environment: Optional[Environment] = None  # in which it happened if that is known
        self.details: Mapping[str, Any] = {}  # JSON values of one command only

    @property
    def headline(self) -> str:
        """The first line of the message."""
        return self.message.splitlines()[0]


def hint_for_oserror(error: OSError) -> str:
    """A hint on what to do about an error of the operating system."""
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
    """An operation of the operating system failed outside of a change; the environment is
    unchanged."""

    code = "system"
    exit_status = 1


class UsageError(SafeInstallError):
    """The command line is invalid."""

    code = "usage"
    exit_status = 2


class InputError(UsageError):
    """The command line names nothing to do, or a file that cannot be read. The exit status is
    pip's."""

    code = "input"
    exit_status = 1


class PipFailed(SafeInstallError):
    """pip ended with an error before anything was changed; its output says why."""

    code = "pip-failed"
    exit_status = 1

    def __init__(
        self, message: str, *, hint: str = "", output: str = "", exit_status: int = 1
    ) -> None:
        super().__init__(message, hint=hint)
        self.output = redact(output)  # of pip
        self.was_relayed = False  # the output was shown already
        self.exit_status = exit_status


class NoCandidate(SafeInstallError):
    """No file fits this environment; `rejections` has the reason for each."""

    code = "no-candidate"
    exit_status = 10
    projects: Tuple[str, ...] = ()  # the projects without a file
    is_open = False  # a host that did not answer, or was not asked, may have a file
    silent_hosts: Tuple[str, ...] = ()  # the hosts that did not answer
    lacking_offline = ""  # the requirement without a file, where no host may be asked


class Refused(SafeInstallError):
    """A check refuses the command; nothing was changed."""

    code = "refused"
    exit_status = 11

    @classmethod
    def by(cls, findings: Sequence[Finding], *, rejections: Sequence[Rejection] = ()) -> Refused:
        """The refusal with the message of the first error among these findings. `findings`: not
        empty."""
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        reason = errors[0] if errors else findings[0]
        return cls(reason.detail, hint=reason.hint, findings=findings, rejections=rejections)


class ExternallyManaged(SafeInstallError):
    """The interpreter belongs to the operating system (PEP 668). The exit status is pip's."""

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
        self.output = redact(output)  # of the build


class RollBackFailed(SafeInstallError):
    """The environment could not be restored. The journal is kept; the hint is the command that
    finishes the roll back."""

    code = "roll-back-failed"
    exit_status = 13


class EnvironmentLocked(SafeInstallError):
    """Another safe-install has locked this environment."""

    code = "environment-locked"
    exit_status = 14


class LeaderFailed(SafeInstallError):
    """The rank of this Slurm step that made the change has failed."""

    code = "leader-failed"
    exit_status = 1  # or the leader's own


class ProbeFailed(SafeInstallError):
    """The managed interpreter could not be probed."""

    code = "probe-failed"
    exit_status = 15


class DownloadFailed(SafeInstallError):
    """A file could not be fetched."""

    code = "download-failed"
    exit_status = 1


class HashMismatch(SafeInstallError):
    """A file does not have the expected hash. Nothing was changed."""

    code = "hash-mismatch"
    exit_status = 11


class WheelInvalid(SafeInstallError):
    """A wheel file contradicts its name, RECORD or metadata. Nothing was changed."""

    code = "wheel-invalid"
    exit_status = 11


class BundleInvalid(SafeInstallError):
    """A bundle is damaged, or the file is no bundle. Nothing was changed."""

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
    """A bug in this program. The transaction protects the environment."""

    code = "unexpected"
    exit_status = 1


class Interrupted(SafeInstallError):
    """A signal ended the command; the environment is as before."""

    code = "interrupted"
    exit_status = 130

    def __init__(self, message: str, *, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = 128 + signal_number
