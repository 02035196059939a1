"""The line that makes pip bring exactly a step: files, folders, repositories, with and without
hashes."""

from __future__ import annotations

import pytest

from safe_install.models import Action, Origin, Step
from safe_install.resolve.step_lines import direct_requirement, requirement_line

SHA = "1" * 64
GIT = {"url": "https://github.com/o/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
LOCAL_GIT = {"url": "file:///work/r", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
IN_FOLDER = {"subdirectory": "python"}


def step(url="https://h/x.whl", info=None, sha256=None):
    origin = Origin.REPOSITORY if info and "vcs_info" in info else Origin.WHEEL
    return Step(
        Action.ADD, "demo", "1.0", url=url, sha256=sha256, origin=origin, download_info=info
    )


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (GIT, "demo @ git+https://github.com/o/r.git@abc"),
        ({**GIT, **IN_FOLDER}, "demo @ git+https://github.com/o/r.git@abc#subdirectory=python"),
        # pip before 23.3 takes `name @ git+file:///...` for a path.
        (LOCAL_GIT, "git+file:///work/r@abc#egg=demo"),
        ({**LOCAL_GIT, **IN_FOLDER}, "git+file:///work/r@abc#egg=demo&subdirectory=python"),
    ],
)
def test_a_repository_is_named_by_its_commit(info, line):
    found = step(url=info["url"], info=info, sha256=SHA)
    assert requirement_line(found) == line
    assert direct_requirement(found) == line  # it has no file, and so no hash


@pytest.mark.parametrize(
    ("info", "sha256", "line"),
    [
        (None, None, "demo @ https://h/x.whl"),
        (None, SHA, f"demo @ https://h/x.whl#sha256={SHA}"),
        (
            {"url": "https://h/x.tar.gz", **IN_FOLDER},
            SHA,
            f"demo @ https://h/x.tar.gz#subdirectory=python&sha256={SHA}",
        ),
    ],
)
def test_on_a_command_line_the_hash_stands_in_the_address(info, sha256, line):
    assert direct_requirement(step(info=info, sha256=sha256)) == line


def test_on_a_command_line_a_local_file_has_its_address_too():
    assert direct_requirement(step(url="file:///folder/x.whl")) == "demo @ file:///folder/x.whl"
