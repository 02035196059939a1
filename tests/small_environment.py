"""A small environment of plain files: distributions with RECORDs, no interpreter; built in a
millisecond."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple, Union

from packaging.utils import canonicalize_name

from safe_install.models import InstalledDistribution, Scheme
from safe_install.transaction import swap
from safe_install.transaction.recovery.transactions import list_transactions

Content = Union[str, bytes]


class SmallEnvironment:
    """`bin`, `lib/python3.11/site-packages`, `pyvenv.cfg`; files are named relative to
    site-packages."""

    def __init__(self, prefix: Path, *, fresh: bool = True) -> None:
        self.prefix = prefix
        self.site = prefix / "lib" / "python3.11" / "site-packages"
        self.scripts = prefix / "bin"
        self.scheme = Scheme(
            self.site, self.site, self.scripts, prefix, prefix / "include" / "python3.11"
        )
        if fresh:
            self._write()

    def _write(self) -> None:
        for folder in (self.site, self.scripts):
            folder.mkdir(parents=True, exist_ok=True)
        (self.prefix / "pyvenv.cfg").write_text("home = /usr/bin\n")
        (self.scripts / "python").write_text("#!interpreter\n")
        (self.scripts / "activate").write_text("# activate\n")

    def install(
        self, name: str, version: str, files: Mapping[str, Content], **options: object
    ) -> InstalledDistribution:
        """Write a distribution into the environment, as pip would have."""
        return write_distribution(self.site, name, version, files, **options)  # type: ignore[arg-type]

    def stage(
        self, transaction: swap.Transaction, name: str, version: str, files: Mapping[str, Content]
    ) -> None:
        """Write a distribution into the stage, as `pip install --root` would."""
        site = Path(f"{transaction.stage}{self.site}")
        site.mkdir(parents=True, exist_ok=True)
        write_distribution(site, name, version, files)

    def begin(self) -> swap.Transaction:
        """A transaction on this environment."""
        return swap.begin(self.prefix, command=["install", "x"], scheme=self.scheme)

    def find_unfinished(self) -> List[Tuple[str, str]]:
        """(transaction id, "journal" or "unfinished") of what a recovery would work on."""
        found = list_transactions(str(self.prefix))
        return [(name[len("txn-") :], what) for name, what in found if what != "committed"]


def let_time_pass(folder: Path) -> None:
    """Return when a file that is written here is younger than this call: kernels before 6.13 give
    files the time of their last tick, some milliseconds ago."""
    started = time.time_ns()
    probe = folder / ".time"
    probe.write_text("")
    while probe.stat().st_mtime_ns < started:
        time.sleep(0.001)
        probe.write_text("")
    probe.unlink()


def write_distribution(
    site: Path,
    name: str,
    version: str,
    files: Mapping[str, Content],
    *,
    rows: Sequence[str] = (),
    record: bool = True,
    installer: str = "pip",
) -> InstalledDistribution:
    """Files, dist-info and RECORD below `site`; `rows` are added to RECORD as they are."""
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    everything = dict(files)
    everything[f"{folder}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    everything[f"{folder}/INSTALLER"] = f"{installer}\n"
    lines = []
    for path, content in everything.items():
        data = content.encode() if isinstance(content, str) else content
        target = Path(os.path.normpath(site / path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    if record:
        (site / folder / "RECORD").write_text(
            "\n".join([*lines, *rows, f"{folder}/RECORD,,"]) + "\n"
        )
    return make_installed(site, name, version, installer=installer)


def make_installed(
    site: Path, name: str, version: str, *, installer: Optional[str] = "pip"
) -> InstalledDistribution:
    """The value for a distribution that lies in `site`."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    return InstalledDistribution(
        canonicalize_name(name), version, folder, site, installer=installer
    )
