"""The part of an environment.yml that pip installs, and the part that conda does."""

from __future__ import annotations

import pytest

from safe_install.errors import InputError
from safe_install.snapshot.conda_reader import accepts_python, exact_python, parse_conda_file

EXPORTED = """\
name: lab
channels:
  - pytorch
  - defaults
dependencies:
  - _libgcc_mutex=0.1=main
  - pytorch::pytorch=2.1.0=py3.11_cuda12.1_cudnn8.9.2_0  # from a channel
  - python=3.11.7=h955ad1f_0
  - python-dateutil=2.9
  - pip=24.0
  - pip:
      - torch-scatter==2.1.2+pt21cu121
      # a comment
      - "six==1.16.0"
      - --find-links https://data.pyg.org/whl/torch-2.1.0+cu121.html
prefix: /opt/conda/envs/lab
variables:
  A: b
"""


def test_an_exported_file():
    found = parse_conda_file(EXPORTED, "environment.yml")
    assert found.pip == (
        "torch-scatter==2.1.2+pt21cu121",
        "six==1.16.0",
        "--find-links https://data.pyg.org/whl/torch-2.1.0+cu121.html",
    )
    assert found.python == "=3.11.7=h955ad1f_0"
    assert found.names == ("libgcc-mutex", "torch", "python", "python-dateutil", "pip")


def test_what_names_no_package_is_passed_over():
    found = parse_conda_file('dependencies:\n- "*[license=MIT]"\n- numpy\n', "e.yml")
    assert found.names == ("numpy",)


@pytest.mark.parametrize(
    ("text", "pip"),
    [
        ("", ()),
        ("dependencies:\n- python\n- pip:\n  - six==1.0\n", ("six==1.0",)),
        ("dependencies:\n- pip:\n  - six==1.0\n- numpy\n", ("six==1.0",)),
        ("name: x\ndependencies:\n  - numpy\n", ()),
        ("dependencies:\n  - pip\n  - pip:\n    - a @ https://h/a.whl#sha256=00\n",
         ("a @ https://h/a.whl#sha256=00",)),
        ('dependencies:\n- pip:\n  - "a; python_version > \\"3.8\\""\n',
         ('a; python_version > "3.8"',)),
        ("dependencies:\n- pip:\n  - 'a; python_version > ''3.8'' '\n",
         ("a; python_version > '3.8' ",)),
        ('dependencies:\n- pip:\n  - "-e ./\\u00fc"\n', ("-e ./\u00fc",)),
    ],
)  # fmt: skip
def test_shapes(text, pip):
    assert parse_conda_file(text, "e.yml").pip == pip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dependencies: [python, pip]\n", "e.yml, line 1"),
        ("dependencies:\n\t- python\n", "e.yml, line 2: a tab"),
        ("dependencies:\n  numpy: 1\n", "e.yml, line 2"),
        ("dependencies:\n- pip: [six==1.0]\n", "e.yml, line 2"),
        ("dependencies:\n- {pip: [six==1.0]}\n", "e.yml, line 2"),
        ("dependencies:\n- pip:\n  - [six==1.0]\n", "e.yml, line 3"),
        ("dependencies:\n- pip:\n  - >\n    six\n", "e.yml, line 3"),
        ('dependencies:\n- pip:\n  - "six\n', "e.yml, line 3"),
        ("dependencies:\n- pip:\n  - 'six\n", "e.yml, line 3"),
    ],
)
def test_what_is_not_understood_is_an_error(text, said):
    with pytest.raises(InputError, match=said):
        parse_conda_file(text, "e.yml")


@pytest.mark.parametrize(
    ("specification", "is_accepted"),
    [
        ("", True),
        ("=3.11", True),
        ("3.11", True),
        ("==3.11", True),
        ("=3.11.7=h955ad1f_0_cpython", True),
        ("3.11.*", True),
        (">=3.10,<3.12", True),
        ("<=3.11", True),
        ("!=3.10", True),
        ("*", True),
        ("=" + "9" * 9999, True),  # nothing that is understood
        ("=3.1", False),
        ("3.10", False),
        ("=3.11.6", False),
        ("<3.11", False),
        (">=3.12", False),
        ("!=3.11", False),
    ],
)
def test_python(specification, is_accepted):
    assert accepts_python(specification, "3.11.7") == is_accepted


@pytest.mark.parametrize(
    ("specification", "version"),
    [
        ("=3.11.7=h955ad1f_0_cpython", "3.11.7"),
        ("==3.8", "3.8"),
        ("3.11", "3.11"),
        (">=3.10,<3.12", ""),
        ("3.11.*", ""),
        ("", ""),
    ],
)
def test_the_one_python(specification, version):
    assert exact_python(specification) == version
