"""The program as a person with a Chinese locale meets it, on real environments: through a pipe and
on a terminal of 80 columns."""

from __future__ import annotations

import os
import pty
import re
import sys

import pytest

from safe_install.cli.terminal import count_columns
from tests.functional.conftest import need_python, read_document, run_process, serving
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage import RECIPES

TORCH = "torch==1.8.1+cu111"
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
NOTHING_SET = {
    "SAFE_INSTALL_LANGUAGE": "",
    "LANGUAGE": "",
    "LC_ALL": "",
    "LC_MESSAGES": "",
    "LANG": "",
}
CHINESE = {**NOTHING_SET, "LANG": "zh_CN.UTF-8"}
SIGN = re.compile("[\u4e00-\u9fff]")
# Lines that are copied as a whole: they are cut nowhere.
COPIED = "撤销命令："


@pytest.fixture
def environment(make_environment):
    need_python(serving("3.8"))
    return make_environment(serving("3.8"), TORCH)


def run_doctor_as_text(lab, variables):
    command = [sys.executable, "-m", "safe_install", "doctor"]
    python = str(lab.environment.executable)
    return run_process(
        [*command, "--python", python], {**lab.variables, **variables}, cwd=lab.folder
    )


@pytest.fixture
def broken(make_lab):
    lab = make_lab()
    BY_NAME["a library of torch is gone"].breaks(lab)
    return lab


def test_doctor_says_in_chinese_what_is_wrong(broken):
    done = run_doctor_as_text(broken, CHINESE)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert re.match("错误：torch 2.13.0\\+cpu 缺少 1 个文件：torch/lib/", told[0])
    python = str(broken.environment.executable)
    command = f"python -m safe_install --python {python} install --force-reinstall --no-deps"
    assert told[1] == f"  提示：{command} torch==2.13.0+cpu"
    answers = done.stdout.splitlines()
    assert re.match(r"driver +本机没有$", answers[1])
    assert re.match(r"\d+ 项检查，2 个错误：.*。$", answers[-2])
    assert answers[-1] == f"下一步：{command} torch==2.13.0+cpu"


@pytest.mark.parametrize(
    ("variables", "is_chinese"),
    [
        ({"LC_ALL": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, True),
        ({"SAFE_INSTALL_LANGUAGE": "zh"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii"}, False),
        ({"LANG": "zh_CN.UTF-8", "SAFE_INSTALL_LANGUAGE": "en"}, False),
        ({}, False),
    ],
)
def test_the_language_is_that_of_the_shell(variables, is_chinese, environment):
    done = environment.safe_install("install", "--dryrun", **{**NOTHING_SET, **variables})
    assert done.returncode == 2
    assert bool(SIGN.search(done.stderr)) is is_chinese
    first, hint = done.stderr.splitlines()
    if is_chinese:
        assert (first, hint) == ("错误：没有选项 --dryrun", "提示：您是不是想写：--dry-run？")
    else:
        assert (first, hint) == (
            "error: no such option: --dryrun",
            "hint: Did you mean: --dry-run?",
        )


def test_a_refused_install_a_rolled_back_one_and_an_undo(environment):
    refused = environment.safe_install("install", "harmful-tools", **CHINESE)
    assert refused.returncode == 11
    assert "错误：这会改变 torch 1.8.1+cu111：harmful-tools 1.0 需要 torch==2.4.1" in refused.stderr
    assert "已拒绝：没有改动 ./env (Python " in refused.stderr
    # pip's own lines stay as they are
    lost = environment.safe_install("install", "torch==2.4.1", **CHINESE)
    assert lost.returncode == 12
    assert "torch.cuda.is_available() 原来是 True，现在是 False" in lost.stderr
    assert "Installing collected packages: torch" in lost.stdout
    assert "已回滚：./env (Python " in lost.stdout
    kept = environment.safe_install("install", "--no-rollback", "torch==2.4.1", **CHINESE)
    assert "Installing collected packages: torch" in kept.stdout
    assert "不健康，但按 --no-rollback 的要求保留：./env" in kept.stdout
    undone = environment.safe_install("undo", **CHINESE)
    assert undone.returncode == 0, undone.stderr
    assert re.search(r"^已撤销：\d{8}T\d{6}Z-[0-9a-f]{6}（.*），环境：\./env", undone.stdout, re.M)
    assert re.search(r"^检查结果：torch 1\.8\.1\+cu111；CUDA 可用", undone.stdout, re.M)


def test_json_is_the_same_in_every_language(environment):
    documents = []
    for variables in ({"SAFE_INSTALL_LANGUAGE": "en"}, CHINESE):
        done = environment.safe_install("install", "harmful-tools", "--json", **variables)
        document = read_document(done)
        document.pop("timings")
        documents.append(document)
    assert documents[0] == documents[1]
    assert not SIGN.search(str(documents[1]))


@pytest.mark.real_process
def test_no_line_is_wider_than_the_terminal(broken):
    text = run_on_terminal(broken, CHINESE, columns=60)
    lines = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", text).splitlines()
    assert any(line.startswith("错误：") for line in lines)
    for line in lines:
        is_one_word = " " not in line.strip()
        assert count_columns(line) <= 60 or is_one_word or line.startswith(COPIED), line


def run_on_terminal(lab, variables, *, columns):
    """What doctor writes on a terminal of its own."""
    python = str(lab.environment.executable)
    command = [sys.executable, "-m", "safe_install", "doctor", "--quick", "--python", python]
    environ = {**lab.variables, **variables, "COLUMNS": str(columns), "TERM": "xterm"}
    child, master = pty.fork()
    if child == 0:
        os.chdir(lab.folder)
        os.execvpe(command[0], command, environ)
    written = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(master)
    os.waitpid(child, 0)
    return written.decode().replace("\r\n", "\n")
