"""Which files of requirements are copied for pip, which cannot read what only we can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from safe_install.cli.locations import copy_streams
from safe_install.resolve.command_line import split_words


def located(value: str) -> Optional[str]:
    """Where pip is told to read the requirements."""
    (word,) = copy_streams(split_words(["-r", value])).all
    assert word.text[-1] == word.value or word.text == ("-r", value)
    return word.value


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp"])
def test_a_file_that_all_can_read_stays_as_it_is_written(folder: str) -> None:
    path = Path(folder, f"requirements-{os.getpid()}.txt")
    path.write_text("six\n")
    try:
        assert located(str(path)) == str(path)
        assert located(os.path.relpath(path)) == os.path.relpath(path)
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["no-such-file.txt", "https://host/requirements.txt", "/", "a\0b"])
def test_what_cannot_be_read_stays_for_its_reader(name: str) -> None:
    assert located(name) == name


def test_a_pipe_is_copied_and_can_be_read_again() -> None:
    read, write = os.pipe()
    os.write(write, b"six\n")
    os.close(write)
    copy = located(f"/dev/fd/{read}")
    os.close(read)
    assert copy is not None
    for _ in range(2):
        assert Path(copy).read_text() == "six\n"


def test_a_file_that_is_open_here_alone_is_copied(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    with (tmp_path / "requirements.txt").open() as stream:
        copy = located(f"/proc/self/fd/{stream.fileno()}")
    assert copy is not None and not copy.startswith(("/proc/", "/dev/"))
    assert Path(copy).read_text() == "six\n"
