"""What a person with a Chinese locale reads, and what stays English beside it."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from safe_install.cli import json_document, options, progress, text
from safe_install.cli.terminal import count_columns
from safe_install.cli.translation import speech
from safe_install.commands.doctor import list_checks
from safe_install.errors import Refused, UsageError
from safe_install.models import Finding, InstallResult, Outcome, Severity
from tests.factories import make_environment, make_health

TOLD = "1 file of torch 2.13.0+cpu is gone: torch/lib/libc10.so"
HINT = "Ask for a version that works with the installed torch, or permit the change with --allow-torch-change."
FINDING = Finding("files-missing", Severity.ERROR, "torch", TOLD, "safe-install recover")
CHECKS = [
    {"name": "records", "status": "found", "because": ""},
    {"name": "torch-import", "status": "cannot-tell", "because": "torch was not imported"},
]
QUESTIONS = [
    ["driver", "none here"],
    ["LD_LIBRARY_PATH", "/opt/lib (hides libcudart.so.12)"],
]
DIAGNOSIS = InstallResult(
    "doctor",
    Outcome.UNHEALTHY,
    1,
    findings=(FINDING,),
    details={"checks": CHECKS, "questions": QUESTIONS},
)
REFUSAL = Refused.by([Finding("torch-moved", Severity.ERROR, "torch", "no torch", HINT)])


@pytest.fixture(autouse=True)
def _chinese():
    speech.speak("zh_CN")
    yield
    speech.speak("en")


def test_the_help_of_a_command(capsys):
    assert options.show_help("doctor") == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: safe-install doctor [OPTIONS] [CHECK]...\n")
    assert "这个环境有什么问题、原因和办法。" in told
    assert re.search("--quick +不导入任何模块：只看文件和驱动。", told)
    speech.speak("en")
    options.show_help("doctor")
    assert re.search("--quick +Import nothing: only what files", capsys.readouterr().out)


def test_the_overview(capsys):
    assert options.show_help(None) == 0
    told = capsys.readouterr().out
    assert told.startswith("用法: safe-install REQ... [OPTIONS]\n")
    assert re.search(r"(?m)^环境：\n  doctor +这里有什么问题、原因和办法$", told)
    assert told.endswith("显示某个命令的选项。\n")
    assert not re.search("(?m)^[A-Z][a-z ]+:$", told), "no heading is left in English"


def test_doctor(capsys):
    text.show_result(DIAGNOSIS, program="python -m safe_install")
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "错误：torch 2.13.0+cpu 缺少 1 个文件：torch/lib/libc10.so",
        "  提示：python -m safe_install recover",
    ]
    assert told.out.splitlines() == [
        "driver           本机没有",
        "LD_LIBRARY_PATH  /opt/lib（遮住了 libcudart.so.12）",
        "torch-import：无法判断，因为没有导入 torch",
        "1 项检查，1 个错误。",
        "下一步：python -m safe_install recover",
    ]


def test_a_refusal(capsys):
    REFUSAL.environment = make_environment()
    text.show_error(REFUSAL, "install")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "错误：没有 torch"
    assert lines[1].startswith("提示：请要求一个能与已安装的 torch 一起工作的版本，")
    assert lines[2].startswith("已拒绝：没有改动 ")
    assert lines[2].endswith("。")


def test_a_word_that_was_mistyped(capsys):
    hint = "Did you mean: --dry-run?"
    text.show_error(UsageError("no such option: --dryrun", hint=hint), "install")
    assert capsys.readouterr().err == "错误：没有选项 --dryrun\n提示：您是不是想写：--dry-run？\n"


@pytest.mark.parametrize(
    ("outcome", "message", "line"),
    [
        (Outcome.INSTALLED, "", "已安装到 "),
        (Outcome.UNINSTALLED, "", "已从 "),
        (Outcome.UNDONE, "Undone: 20261124T124125Z-f55012 (+a 1).", "已撤销：20261124T124125Z-f55012（+a 1），环境："),
        (Outcome.ROLLED_BACK, "", "已回滚："),
    ],
)  # fmt: skip
def test_outcomes(outcome, message, line, capsys):
    result = InstallResult(
        "install",
        outcome,
        0,
        make_environment(),
        after=make_health(),
        message=message,
        transaction="20261124T124125Z-f55012",
    )
    text.show_result(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(line)
    if outcome is not Outcome.ROLLED_BACK:
        assert lines[1].startswith("检查结果：torch ")
        assert lines[2] == "撤销命令：safe-install undo 20261124T124125Z-f55012"


def test_what_is_said_meanwhile(capsys):
    reporter = progress.TextReporter()
    reporter.note("torch 2.13.0 will be installed: extensions are chosen for it")
    reporter.warn("no torch")
    reporter.found(FINDING)
    reporter.output("Collecting torch-scatter")
    reporter.announce("Successfully installed torch-scatter-2.1.2")
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "将安装 torch 2.13.0：扩展按它来选择",
        "警告：没有 torch",
        "错误：torch 2.13.0+cpu 缺少 1 个文件：torch/lib/libc10.so",
        "  提示：safe-install recover",
    ]
    assert told.out.splitlines() == [
        "Collecting torch-scatter",
        "Successfully installed torch-scatter-2.1.2",
    ]


def test_json_stays_english(monkeypatch):
    documents = []
    for language in ("zh_CN", "en"):
        speech.speak(language)
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        json_document.show_document(json_document.make_document(DIAGNOSIS))
        documents.append(out.getvalue())
    assert documents[0] == documents[1]
    assert json.loads(documents[0])["findings"][0]["detail"] == TOLD


def test_a_report_for_an_issue_stays_english(capsys):
    report = f"PyTorch version: N/A\n{TOLD}\nno torch\n"
    result = InstallResult("doctor", Outcome.UNHEALTHY, 1, details={"report": report})
    text.show_result(result)
    assert capsys.readouterr().out == report


def test_the_columns_of_a_table_are_aligned(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text.show_result(list_checks())
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.strip() and "\u2500" not in line]
    starts = {
        count_columns(line[: line.index(row[1])])
        for row in rows
        for line in lines
        if line.split(maxsplit=1) == row
    }
    assert ["interpreter", "解释器能启动，启动时运行的代码不会让它退出"] in rows
    assert len(starts) == 1, lines


RUN = "20261124T124125Z-f55012"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "Installed on 12 nodes, verified on each; 2 had nothing to change.",
            "已装到 12 个节点，并逐个验证；另有 2 个无需改动。",
        ),
        (
            f"{RUN}: 2 changed, 1 unknown. It did not come to its end: safe-install fleet undo {RUN} does.",
            f"{RUN}：2 个已改动、1 个未知。它没有完成：safe-install fleet undo {RUN} 会把它撤回。",
        ),
        ("1 node (n2): 1 thing differs", "1 个节点（n2）：1 处不同"),
        (
            "  torch: 2.8.0, with other files, on most nodes 2.8.0",
            "  torch：2.8.0，但文件不同，多数节点上是 2.8.0",
        ),
        ("stage: 2 nodes (a, b) (1.2 s)", "stage：2 个节点（a, b；1.2 秒）"),
        (
            "warning: a: its answer cannot be used: it is no JSON document (no such file)",
            "警告：a：它的应答无法使用：不是 JSON 文档（no such file）",
        ),
        ("error: fleet verify needs the nodes", "错误：fleet verify 需要指定节点"),
        (
            f"error: another safe-install works on {RUN} (process 12 on head)",
            f"错误：另一个 safe-install 正在处理 {RUN}（head 上的进程 12）",
        ),
        ("unknown", "未知"),  # a cell of the table of nodes
    ],
)
def test_a_change_on_many_machines(english, chinese):
    assert speech.say(english) == chinese
