"""Variables of the shell, files of the working folder, the ways to the hosts."""

from __future__ import annotations

import socket

from tests.lab.breakage.around import write_pip_settings
from tests.lab.breakage.recipe import Lab, Recipe, rows
from tests.lab.breakage.torch_parts import extend_torch

INIT = "torch/__init__.py"
# As torch._logging does it.
READS_LOGS = """\
import os
if os.environ.get("TORCH_LOGS"):
    raise ValueError("Invalid log settings: " + os.environ["TORCH_LOGS"])
"""
# A Python that these variables do not reach runs doctor; else nothing could.
BY_ANOTHER_PYTHON = ["sh", "-c", 'exec "$0" -E "$@"']
WARNS = "import warnings\nwarnings.warn('the old name is deprecated', DeprecationWarning)\n"


def torch_does_not_understand_a_variable(lab: Lab) -> None:
    extend_torch(lab, INIT, before=READS_LOGS)
    lab.variables["TORCH_LOGS"] = "nonsense"


def warnings_are_errors_in_this_shell(lab: Lab) -> None:
    extend_torch(lab, INIT, before=WARNS)
    lab.variables["PYTHONWARNINGS"] = "error::DeprecationWarning:torch"


def a_file_of_the_working_folder_hides_a_module_of_Python(lab: Lab) -> None:
    extend_torch(lab, INIT, before="from random import Random\n")
    (lab.folder / "random.py").write_text("print('my numbers')\n")


def a_folder_of_the_working_folder_hides_what_torch_requires(lab: Lab) -> None:
    extend_torch(lab, INIT, before="from numpy import ndarray\n")
    lab.must_pip("numpy==2.0.0")
    (lab.folder / "numpy").mkdir()
    (lab.folder / "numpy" / "__init__.py").write_text("")


def PYTHONHOME_that_leads_nowhere(lab: Lab) -> None:
    lab.variables["PYTHONHOME"] = str(lab.folder / "gone")
    lab.prefix_words += BY_ANOTHER_PYTHON


def PYTHONPATH_with_a_module_of_Python(lab: Lab) -> None:
    """As `pip install --target` puts the package enum34 there."""
    packages = lab.folder / "packages"
    packages.mkdir()
    (packages / "enum.py").write_text("__version__ = '1.1.10'\n")
    lab.variables["PYTHONPATH"] = str(packages)
    lab.prefix_words += BY_ANOTHER_PYTHON


def closed_address() -> str:
    """An address of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def a_proxy_that_does_not_run(lab: Lab) -> None:
    lab.variables["HTTPS_PROXY"] = closed_address()


def a_proxy_of_pip_that_does_not_run(lab: Lab) -> None:
    write_pip_settings(lab, f"proxy = {closed_address()}\n")


def an_index_that_does_not_run(lab: Lab) -> None:
    write_pip_settings(lab, f"index-url = {closed_address()}/simple\n")


def certificates_that_are_gone(lab: Lab) -> None:
    lab.variables["SSL_CERT_FILE"] = str(lab.folder / "gone" / "cacert.pem")


RECIPES = rows(
    Recipe(
        torch_does_not_understand_a_variable,
        "variables",
        ('TORCH_LOGS is "nonsense"', "unset TORCH_LOGS"),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        warnings_are_errors_in_this_shell,
        "variables",
        ("PYTHONWARNINGS", "the old name is deprecated"),
        mends=True,
    ),
    Recipe(
        PYTHONHOME_that_leads_nowhere,
        "interpreter",
        ("PYTHONHOME is ", "unset PYTHONHOME"),
        mends=True,
    ),
    Recipe(
        PYTHONPATH_with_a_module_of_Python,
        "interpreter",
        ("packages/enum.py", "unset PYTHONPATH"),
        mends=True,
    ),
    Recipe(
        a_file_of_the_working_folder_hides_a_module_of_Python,
        "working-folder",
        ("random.py as random", "Rename"),
    ),
    Recipe(
        a_folder_of_the_working_folder_hides_what_torch_requires,
        "working-folder",
        ("numpy as numpy", "cannot import name 'ndarray'"),
    ),
    Recipe(
        a_proxy_that_does_not_run,
        "network",
        ("HTTPS_PROXY is http://127.0.0.1", "nothing listens"),
        severity="warning",
        mends=True,
    ),
    Recipe(
        a_proxy_of_pip_that_does_not_run,
        "network",
        ("pip's setting proxy is http://127.0.0.1",),
        severity="warning",
    ),
    Recipe(
        an_index_that_does_not_run,
        "network",
        ("pip's setting index-url is http://127.0.0.1",),
        severity="warning",
    ),
    Recipe(
        certificates_that_are_gone,
        "network",
        ("SSL_CERT_FILE names", "cacert.pem"),
        severity="warning",
        mends=True,
    ),
)
