"""A copy of hard links that is used by several tests is, before each, what it was copied from."""

from __future__ import annotations

import shutil

from tests.lab.stacks import copy_environment, restore_environment
from tests.treehash import read_tree

FILES = (
    "pyvenv.cfg",
    "lib/torch/.lock",
    "lib/torch/__init__.py",
    "lib/torch/lib/libc10.so",
    "lib/six.py",
    "bin/pip",
)


def test_what_a_test_changed_is_put_back(tmp_path):
    template, folder = tmp_path / "template", tmp_path / "copy"
    for name in FILES:
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        (template / name).write_text(name)
    (template / "bin" / "python").symlink_to("python3")
    (template / ".lock").write_text("")
    copy_environment(template, folder)
    bytecode = folder / "lib" / "torch" / "__pycache__" / "__init__.pyc"
    bytecode.parent.mkdir()
    bytecode.write_text("compiled")

    shutil.rmtree(folder / "lib" / "torch" / "lib")
    (folder / "lib" / "six.py").unlink()
    (folder / "lib" / "six.py").mkdir()
    (folder / "bin" / "python").unlink()
    replaced = folder / "bin" / "pip.new"
    replaced.write_text("bin/pip")
    replaced.replace(folder / "bin" / "pip")
    (folder / ".safe-install" / "txn-1").mkdir(parents=True)
    (folder / "lib" / "new.pth").write_text("import gone\n")

    restore_environment(template, folder)
    assert bytecode.read_text() == "compiled"
    shutil.rmtree(bytecode.parent)
    (template / ".lock").unlink()
    assert read_tree(folder) == read_tree(template)
    assert (folder / "bin" / "pip").samefile(template / "bin" / "pip")
