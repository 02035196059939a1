"""A source distribution with a setup.py alone, where neither `wheel` nor a setuptools with
bdist_wheel is installed.

A fresh venv of Python 3.8 is such a place: pip 23.0.1 and setuptools 56. The setuptools that pip
brings into its isolated build is a stand-in from the index, whose backend writes the wheel.
"""

from __future__ import annotations

from tests.functional.conftest import Environment
from tests.lab.wheels import write_wheel
from tests.unit.wheels.crafted import make_sdist

BACKEND = """
import base64, hashlib, os, zipfile
INFO = "legacy-1.0.dist-info/"
FILES = {
    "legacy.py": "built = 'in isolation'\\n",
    INFO + "METADATA": "Metadata-Version: 2.1\\nName: legacy\\nVersion: 1.0\\n",
    INFO + "WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}
class __legacy__:
    @staticmethod
    def build_wheel(folder, config_settings=None, metadata_directory=None):
        rows = ""
        with zipfile.ZipFile(os.path.join(folder, "legacy-1.0-py3-none-any.whl"), "w") as archive:
            for path, text in FILES.items():
                archive.writestr(path, text)
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
                rows += "%s,sha256=%s,%d\\n" % (path, digest, len(text))
            archive.writestr(INFO + "RECORD", rows + INFO + "RECORD,,\\n")
        return "legacy-1.0-py3-none-any.whl"
"""
SETUP = "from setuptools import setup\nsetup(name='legacy', version='1.0', py_modules=['legacy'])\n"


def test_a_setup_py_is_built_in_isolation_where_wheel_is_missing(make_environment, tmp_path):
    environment: Environment = make_environment("3.8")
    assert environment.ask("import importlib.util as u; print(u.find_spec('wheel'))") == "None"
    assert environment.ask("import pip; print(pip.__version__)").startswith("23.0"), (
        "the pip of Python 3.8"
    )
    index = tmp_path / "index"
    index.mkdir()
    make_sdist(index, {"setup.py": SETUP, "legacy.py": "built = 'here'\n"}, name="legacy-1.0")
    write_wheel(
        index,
        "setuptools",
        "99.0",
        {"setuptools/__init__.py": "", "setuptools/build_meta.py": BACKEND},
    )
    write_wheel(index, "wheel", "99.0", {"wheel/__init__.py": ""})
    plain = environment.pip(
        "wheel", "--no-deps", "--find-links", str(index), "-w", str(tmp_path / "out"), "legacy"
    )
    assert "invalid command 'bdist_wheel'" in plain.stdout + plain.stderr
    completed = environment.safe_install("install", "--find-links", str(index), "legacy")
    assert completed.returncode == 0, completed.stderr
    assert environment.ask("import legacy; print(legacy.built)") == "in isolation"
    assert "wheel" not in " ".join(environment.freeze()), "nothing of the build stays"
