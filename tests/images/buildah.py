"""Debian's buildah, asked to build images and to run commands in them, in a storage of its own that
one call removes.

`--isolation chroot` needs no container runtime. The layers are overlays, as they are with Docker;
where the kernel refuses that (inside of a container), the driver `vfs` copies each layer. The
commands in an image use the network of this machine, so a server on loopback is reached.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

PROGRAMS = ("buildah", "debootstrap")


class Buildah:
    """Images below one folder. Only root can use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # `RUN --mount=type=cache` keeps its folders below TMPDIR: they are this storage's own.
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self._policy = folder / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.driver = "overlay"
        if self.call("info").returncode != 0:
            self.driver = "vfs"

    @property
    def variables(self) -> Dict[str, str]:
        """For buildah itself. Nothing of whoever runs the tests goes into an image by this way."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
        return {
            **kept,
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            "BUILDAH_ISOLATION": "chroot",
        }

    def command(self, *words: str) -> List[str]:
        """A command line of buildah on this storage."""
        storage = ["--storage-driver", self.driver, "--root", str(self.folder / "root")]
        return ["buildah", *storage, "--runroot", str(self.folder / "run"), *words]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Any command of buildah."""
        return subprocess.run(
            self.command(*words),
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def must(self, *words: str) -> str:
        """A command of buildah that has to succeed; what it printed."""
        done = self.call(*words)
        assert done.returncode == 0, f"buildah {' '.join(words)}\n{done.stdout}"
        return done.stdout.strip()

    def build_words(
        self,
        tag: str,
        context: Path,
        *,
        arguments: Optional[Mapping[str, str]] = None,
        volumes: Sequence[str] = (),
    ) -> List[str]:
        """The words of a build of `context`/Dockerfile; `volumes` ("HOST:PLACE:ro") are mounted in
        each RUN."""
        words = [
            "bud",
            "--pull-never",
            "--format",
            "docker",
            "--signature-policy",
            str(self._policy),
            "--tag",
            tag,
        ]
        for name, value in (arguments or {}).items():
            words += ["--build-arg", f"{name}={value}"]
        for volume in volumes:
            words += ["--volume", volume]
        return [*words, "--file", str(context / "Dockerfile"), str(context)]

    def import_archive(self, archive: Path, tag: str) -> None:
        """An image of one layer, from a tar file of a root folder."""
        container = self.must("from", "scratch")
        self.must("add", "--quiet", container, str(archive), "/")
        self.must(
            "commit", "--quiet", "--rm", "--signature-policy", str(self._policy), container, tag
        )

    def configuration(self, image: str) -> Dict[str, Any]:
        """What `docker inspect` calls Config: Entrypoint, Cmd, Env, User, Healthcheck ..."""
        found = json.loads(self.must("inspect", "--type", "image", image))["Docker"]["config"]
        assert isinstance(found, dict)
        return found

    def start(self, image: str) -> Container:
        """A container of the image, whose changes are its own."""
        return Container(
            self, self.must("from", "--pull-never", "--signature-policy", str(self._policy), image)
        )

    def remove_all(self) -> None:
        """Containers, images, caches: the whole folder."""
        self.call("rm", "--all")
        self.call("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)


class Container:
    """A container in which commands can be run one after the other."""

    def __init__(self, buildah: Buildah, name: str) -> None:
        self.buildah = buildah
        self.name = name

    def run(
        self,
        *command: str,
        user: Optional[str] = None,
        variables: Optional[Mapping[str, str]] = None,
        volumes: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """A command with the image's own variables and these."""
        words = ["run"]
        if user is not None:
            words += ["--user", user]
        for name, value in (variables or {}).items():
            words += ["--env", f"{name}={value}"]
        for volume in volumes:
            words += ["--volume", volume]
        return self.buildah.call(*words, self.name, "--", *command)

    def shell(self, script: str, **options: Any) -> str:
        """A shell script that has to succeed; what it printed."""
        done = self.run("/bin/sh", "-euc", script, **options)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def mount(self) -> Path:
        """The root folder of the container, as this machine sees it."""
        return Path(self.buildah.must("mount", self.name))

    def remove(self) -> None:
        """The container and what was changed in it."""
        self.buildah.must("rm", self.name)
