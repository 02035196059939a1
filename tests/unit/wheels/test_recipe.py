"""Every answer to "can this be built here, and how": tables, no processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.models import Device, Driver
from safe_install.wheels.build_log import (
    FileCount,
    count_files,
    explain_failure,
    find_error_lines,
    find_source,
    split_log,
)
from safe_install.wheels.recipe import (
    DEFAULT_TOOLS,
    LEGACY_BACKEND,
    BuildMachine,
    BuildPlan,
    BuildRecipe,
    BuildRefusal,
    BuildSystem,
    Gcc,
    count_jobs,
    describe_toolkit,
    parse_architectures,
    parse_build_system,
    plan_build,
    scrub_variables,
    select_tools,
    select_variables,
)
from safe_install.wheels.toolkit_choice import CUDA_HOME, Toolkit, Unusable
from tests.factories import make_distribution, make_environment

GIB = 1024**3
RECIPE = BuildRecipe("torch-scatter", Version("2.1.2"))
CUDA_118 = Toolkit(Path("/opt/cuda-11.8"), "11.8", ("35", "70", "80", "86", "90"))
CUDA_124 = Toolkit(Path("/opt/cuda-12.4"), "12.4", ("50", "70", "80", "90"))
CUDA_121 = Toolkit(Path("/opt/cuda-12.1"), "12.1")
CUDA_130 = Toolkit(Path("/usr/local/cuda"), "13.0", ("75", "80", "90", "120"))
MACHINE = BuildMachine(cores=8, memory=64 * GIB, compiler="/usr/bin/g++", has_python_headers=True)


def make_driver(*capabilities, declared=False):
    devices = tuple(Device(f"GPU {i}", capability) for i, capability in enumerate(capabilities))
    return Driver("535.104.05", "12.2", devices, declared)


def decide(
    torch="2.4.0+cu124",
    driver=None,
    toolkits=(),
    variables=None,
    jobs=None,
    forbidden_by="",
    **machine,
):
    return plan_build(
        make_environment(torch=torch, driver=driver),
        RECIPE,
        machine=dataclasses.replace(MACHINE, places=tuple(toolkits), **machine),
        variables={"PATH": "/usr/bin"} if variables is None else variables,
        jobs=jobs,
        forbidden_by=forbidden_by,
    )


@pytest.mark.parametrize(
    ("case", "check", "said"),
    [
        pytest.param({"torch": None}, "no-torch", "torch", id="no torch"),
        pytest.param(
            {"torch": "2.4.0+cpu", "compiler": None},
            "host-compiler",
            "C++ compiler",
            id="no compiler",
        ),
        pytest.param(
            {"torch": "2.4.0+cpu", "has_python_headers": False},
            "host-compiler",
            "Python 3.11",
            id="no headers",
        ),
        pytest.param({"driver": make_driver("8.0")}, "no-toolkit", "CUDA 12.4", id="no nvcc"),
        pytest.param(
            {"driver": make_driver("8.0"), "toolkits": [CUDA_130, CUDA_118]},
            "nvcc-mismatch",
            "CUDA 13.0",
            id="other majors",
        ),
        pytest.param(
            {"toolkits": [CUDA_124]}, "no-target-gpu", "none is visible", id="no GPU, none declared"
        ),
        pytest.param(
            {"toolkits": [CUDA_124], "driver": Driver("535.104.05", "12.2", (), True)},
            "no-target-gpu",
            "none is visible",
            id="a declared driver names no GPU",
        ),
        pytest.param(
            {"toolkits": [CUDA_124], "driver": make_driver("12.0")},
            "target-gpu",
            "capability 12.0",
            id="GPU too new for nvcc",
        ),
    ],
)
def test_refusals_say_what_is_missing_and_what_helps(case, check, said):
    answer = decide(**case)
    assert isinstance(answer, BuildRefusal)
    assert answer.check == check
    assert said in answer.detail
    assert answer.hint


@pytest.mark.parametrize("torch", ["2.9.1+cu128", "2.13.0+cpu"])
def test_what_compiles_nothing_needs_no_compiler_no_toolkit_and_no_gpu(torch):
    plan = plan_build(
        make_environment(torch=torch),
        BuildRecipe("deepspeed", Version("0.19.8"), variables={"A": "b"}, is_extension=False),
        machine=dataclasses.replace(MACHINE, compiler=None, has_python_headers=False),
        variables={"PATH": "/usr/bin"},
    )
    assert isinstance(plan, BuildPlan)
    assert (plan.jobs, plan.gpu_architectures, plan.toolkit_requirements) == (1, (), ())
    assert plan.variables == {"PATH": "/usr/bin", "A": "b"}


HALF = dataclasses.replace(CUDA_130, missing=("cusparse.h",))


def test_a_toolkit_of_cuda_13_is_brought_unless_it_is_forbidden():
    plan = decide("2.14.1+cu130", make_driver("8.0"))
    assert plan.toolkit is None
    assert plan.toolkit_requirements[0].startswith("cuda-toolkit[")
    for option in ("--no-toolkit", "--offline"):
        answer = decide("2.14.1+cu130", make_driver("8.0"), forbidden_by=option)
        assert (answer.check, f"{option} forbids fetching it" in answer.detail) == (
            "no-toolkit",
            True,
        )
        assert "cuda-nvcc-13-0" in answer.hint


def test_a_half_toolkit_is_refused_with_the_packages_that_complete_it():
    answer = decide("2.14.1+cu130", make_driver("8.0"), [HALF], forbidden_by="--no-toolkit")
    assert answer.check == "half-toolkit"
    assert "CUDA 13.0 without cusparse.h" in answer.detail
    assert "libcusparse-dev-13-0" in answer.hint
    # a whole one can be brought
    assert decide("2.14.1+cu130", make_driver("8.0"), [HALF]).toolkit_requirements


@pytest.mark.parametrize("torch", ["2.9.1+cu128", "1.13.1+cu117"])
def test_for_older_cuda_the_commands_that_install_it_are_the_hint(torch):
    answer = decide(torch, make_driver("8.0"), [CUDA_130])
    assert answer.check == "nvcc-mismatch"
    assert "package index" not in answer.detail
    assert [line.split(":")[0].strip() for line in answer.hint.splitlines()[1:]] == [
        "apt (NVIDIA's repository)",
        "conda",
        "runfile",
    ]


def test_a_named_home_that_is_not_used_is_a_warning():
    named = dataclasses.replace(CUDA_118, origin=CUDA_HOME)
    plan = decide(driver=make_driver("8.0"), toolkits=[named, CUDA_124])
    assert plan.warnings == (
        "/opt/cuda-11.8 (CUDA_HOME): CUDA 11.8, torch needs CUDA 12: it is not used",
    )
    other = Unusable("conda", Path("/conda"), "headers, and no nvcc")
    assert decide(driver=make_driver("8.0"), toolkits=[other, CUDA_124]).warnings == ()


NEWEST_13 = dataclasses.replace(CUDA_124, newest_gcc=13)


@pytest.mark.parametrize(
    ("gcc", "others", "variables", "hint"),
    [
        pytest.param(Gcc("/usr/bin/gcc", 13), (), {}, None, id="accepted"),
        pytest.param(
            Gcc("/usr/bin/gcc", 15), (), {}, "apt-get install gcc-13 g++-13", id="too new, no other"
        ),
        pytest.param(
            Gcc("/usr/bin/gcc", 15),
            (Gcc("/usr/bin/gcc-9", 9), Gcc("/usr/bin/gcc-12", 12), Gcc("/usr/bin/gcc-14", 14)),
            {},
            "Set CC=/usr/bin/gcc-12 CXX=/usr/bin/g++-12.",
            id="too new, the newest of those that fit",
        ),
        pytest.param(None, (), {}, None, id="clang, or none"),
        pytest.param(
            Gcc("/usr/bin/gcc", 15),
            (),
            {"NVCC_APPEND_FLAGS": "-allow-unsupported-compiler"},
            None,
            id="the person knows",
        ),
    ],
)
def test_a_gcc_that_nvcc_does_not_accept_is_found_before_the_compile(gcc, others, variables, hint):
    answer = decide(
        driver=make_driver("8.0"),
        toolkits=[NEWEST_13],
        gcc=gcc,
        other_gccs=others,
        variables={"PATH": "", **variables},
    )
    if hint is None:
        assert isinstance(answer, BuildPlan)
        return
    assert answer.check == "host-compiler"
    assert "accepts gcc 13 at most, and /usr/bin/gcc is gcc 15" in answer.detail
    assert hint in answer.hint


@pytest.mark.parametrize(
    ("case", "architectures"),
    [
        pytest.param(
            {"driver": make_driver("9.0", "8.0", "8.0")},
            ("8.0", "9.0"),
            id="the GPUs that are here",
        ),
        pytest.param({"driver": make_driver("8.0", declared=True)}, ("8.0",), id="declared"),
        pytest.param(
            {"variables": {"TORCH_CUDA_ARCH_LIST": "8.0;9.0+PTX"}},
            ("8.0", "9.0+PTX"),
            id="variable",
        ),
        pytest.param(
            {"variables": {"TORCH_CUDA_ARCH_LIST": "7.0"}, "driver": make_driver("8.0")},
            ("7.0",),
            id="variable over GPUs",
        ),
        pytest.param(
            {
                "variables": {"TORCH_CUDA_ARCH_LIST": "7.0"},
                "driver": make_driver("8.0", declared=True),
            },
            ("8.0",),
            id="declared over variable",
        ),
        pytest.param(
            {"variables": {"TORCH_CUDA_ARCH_LIST": "Ampere"}},
            ("Ampere",),
            id="a name is torch's to read",
        ),
    ],
)
def test_cuda_builds_know_their_gpus(case, architectures):
    plan = decide(toolkits=[CUDA_124], **case)
    assert isinstance(plan, BuildPlan)
    assert plan.gpu_architectures == architectures
    assert plan.variables["TORCH_CUDA_ARCH_LIST"] == ";".join(architectures)
    assert plan.variables["FORCE_CUDA"] == "1"
    assert plan.toolkit == CUDA_124


def test_every_build_tool_is_given_the_same_cuda_home():
    before = {
        "PATH": "/usr/bin",
        "CUDA_HOME": "/opt/cuda-11.8",
        "CUDACXX": "/opt/cuda-11.8/bin/nvcc",
        "HOME": "/root",
    }
    assert select_variables(before, Path("/work/cuda")) == {
        "CUDA_HOME": "/work/cuda",
        "CUDA_PATH": "/work/cuda",
        "CUDACXX": "/work/cuda/bin/nvcc",
        "PATH": "/work/cuda/bin:/usr/bin",
        "HOME": "/root",
    }


@pytest.mark.parametrize(
    ("toolkits", "chosen"),
    [
        pytest.param([CUDA_130, CUDA_121, CUDA_124], CUDA_124, id="same minor first"),
        pytest.param([CUDA_118, CUDA_121], CUDA_121, id="else the same major"),
    ],
)
def test_the_toolkit_is_of_torchs_major(toolkits, chosen):
    assert decide(toolkits=toolkits, driver=make_driver("8.0")).toolkit == chosen


def test_a_cpu_torch_is_never_built_for_cuda():
    plan = decide(
        "2.13.0+cpu", make_driver("8.0"), [CUDA_130], {"FORCE_CUDA": "1", "PATH": "/usr/bin"}
    )
    assert "FORCE_CUDA" not in plan.variables
    assert (plan.gpu_architectures, plan.toolkit, plan.variables["PATH"]) == ((), None, "/usr/bin")


def test_a_project_may_want_no_force_and_other_variables():
    recipe = dataclasses.replace(RECIPE, cuda_variables={}, variables={"BUILD_DOCS": "0"})
    environment = make_environment(torch="2.4.0+cu124", driver=make_driver("8.0"))
    plan = plan_build(
        environment, recipe, machine=dataclasses.replace(MACHINE, places=(CUDA_124,)), variables={}
    )
    assert "FORCE_CUDA" not in plan.variables
    assert plan.variables["BUILD_DOCS"] == "0"


@pytest.mark.parametrize(
    ("case", "jobs"),
    [
        pytest.param({}, 8, id="cores"),
        pytest.param({"memory": 5 * GIB}, 2, id="memory"),
        pytest.param({"memory": 0}, 1, id="at least one"),
        pytest.param({"variables": {"MAX_JOBS": "3"}}, 3, id="MAX_JOBS"),
        pytest.param({"variables": {"MAX_JOBS": "many"}}, 8, id="MAX_JOBS that is no number"),
        pytest.param({"variables": {"MAX_JOBS": "3"}, "jobs": 5}, 5, id="asked for"),
        pytest.param(
            {
                "torch": "2.4.0+cu124",
                "toolkits": [CUDA_124],
                "driver": make_driver("8.0"),
                "memory": 9 * GIB,
            },
            2,
            id="nvcc",
        ),
    ],
)
def test_jobs_fit_cores_and_memory(case, jobs):
    plan = decide(**{"torch": "2.4.0+cpu", **case})
    assert (plan.jobs, plan.variables["MAX_JOBS"]) == (jobs, str(jobs))


def test_count_jobs_is_never_more_than_cores():
    assert count_jobs(dataclasses.replace(MACHINE, cores=2), memory_per_job=GIB) == 2


def test_debug_information_is_left_out_unless_the_person_wants_it():
    assert decide("2.4.0+cpu").variables["CPPFLAGS"] == "-g0"
    assert decide("2.4.0+cpu", variables={"CPPFLAGS": "-g"}).variables["CPPFLAGS"] == "-g0 -g"


@pytest.mark.parametrize(
    "name",
    ["PIP_INDEX_URL", "UV_INDEX", "GITHUB_TOKEN", "HF_TOKEN", "MY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
     "TWINE_USERNAME", "OPENAI_API_KEY", "client_secret", "SSH_AUTH_SOCK", "PYTHONPATH", "PYTHONHOME"],
)  # fmt: skip
def test_secrets_do_not_reach_the_build(name):
    assert scrub_variables({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}
    assert name not in decide("2.4.0+cpu", variables={name: "x"}).variables


@pytest.mark.parametrize(
    "value", ["https://user:pass@host/simple", "a=b https://token@host/x", "https://h/?sig=x"]
)
def test_a_secret_in_an_address_does_not_reach_the_build(value):
    assert scrub_variables({"SAFE_INSTALL_MIRRORS": value, "PATH": "/bin"}) == {"PATH": "/bin"}


def test_what_a_build_needs_reaches_it():
    kept = {
        "PATH": "/bin",
        "CC": "gcc",
        "CXX": "g++",
        "HOME": "/root",
        "https_proxy": "http://u:p@p:1",
        "CFLAGS": "-O2",
    }
    assert scrub_variables(kept) == kept


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", ()),
        ("8.0", ("8.0",)),
        ("8.0;8.6+PTX", ("8.0", "8.6+PTX")),
        ("7.0 7.5, 8.0 7.0", ("7.0", "7.5", "8.0")),
    ],
)
def test_architecture_lists(text, entries):
    assert parse_architectures(text) == entries


PYPROJECT = """
[project]
name = "demo"
requires = ["wrong"]

[build-system]  # a comment
requires = [
    "setuptools>=61",   # a comment [with brackets]
    'torch>=2.0; python_version >= "3.8"',
    "numpy",
]
build-backend = "setuptools.build_meta"
backend-path = ["."]

[tool.x]
build-backend = "wrong"
"""


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("", BuildSystem((), LEGACY_BACKEND, ())),
        ("[tool.black]\nline-length = 100\n", BuildSystem((), LEGACY_BACKEND, ())),
        (
            '[build-system]\nrequires = ["setuptools", "torch"]',
            BuildSystem(("setuptools", "torch"), LEGACY_BACKEND),
        ),
        (
            PYPROJECT,
            BuildSystem(
                ("setuptools>=61", 'torch>=2.0; python_version >= "3.8"', "numpy"),
                "setuptools.build_meta",
                (".",),
            ),
        ),
        (
            "[build-system]\nrequires = []\nbuild-backend = 'hatchling.build'\n",
            BuildSystem((), "hatchling.build"),
        ),
    ],
)
def test_build_systems(text, system):
    assert parse_build_system(text) == system


@pytest.mark.parametrize(
    ("text", "system"),
    [
        (
            'build-system.requires = ["a"]\nbuild-system.build-backend = "b"',
            BuildSystem(("a",), "b"),
        ),
        ('build-system = {requires = ["a"], build-backend = "b"}', BuildSystem(("a",), "b")),
        ('[ build-system ]\nrequires = ["""a"""]', BuildSystem(("a",), LEGACY_BACKEND)),
        ('description = """\n[build-system]\nrequires = ["wrong"]\n"""', BuildSystem()),
        ('[build-system]\nrequires = ["a[x]>=1"]  # ]', BuildSystem(("a[x]>=1",), LEGACY_BACKEND)),
    ],
)
def test_toml_has_more_than_one_way_to_write_it(text, system):
    assert parse_build_system(text) == system


@pytest.mark.parametrize(
    "text",
    [
        "[build-system",
        '[build-system]\nrequires = ["a"\n[tool.x]\n',
        "build-system = 1",
        '[build-system]\nrequires = "setuptools"',
        "[build-system]\nrequires = [1]",
        "[build-system]\nbuild-backend = []",
        '[build-system]\nbackend-path = "."',
    ],
)
def test_what_is_no_build_system(text):
    with pytest.raises(ValueError):
        parse_build_system(text)


@pytest.mark.parametrize(
    ("requires", "tools"),
    [
        pytest.param((), ("ninja", "setuptools<81", "wheel"), id="none"),
        pytest.param(
            ("setuptools>=61", "wheel"), ("ninja", "setuptools<81", "wheel"), id="ours is in theirs"
        ),
        pytest.param(
            ("setuptools>=82",), ("ninja", "setuptools>=82", "wheel"), id="theirs is newer"
        ),
        pytest.param(
            ("torch==2.4", "torchvision", "nvidia-cuda-nvcc", "triton"),
            ("ninja", "setuptools<81", "wheel"),
            id="never torch",
        ),
        pytest.param(
            ("numpy", "pybind11>=2"),
            ("ninja", "pybind11>=2", "setuptools<81", "wheel"),
            id="numpy is installed",
        ),
        pytest.param(
            ("colorama; sys_platform == 'win32'",), ("ninja", "setuptools<81", "wheel"), id="marker"
        ),
        pytest.param(("not a requirement!",), ("ninja", "setuptools<81", "wheel"), id="unreadable"),
    ],
)
def test_tools(requires, tools):
    environment = make_environment(make_distribution("numpy", "1.26"), torch="2.4.0+cpu")
    assert select_tools(RECIPE, BuildSystem(requires), environment) == tools


def test_default_tools_keep_pkg_resources():
    assert "setuptools<81" in DEFAULT_TOOLS


GCC_LOG = """
building 'torch_scatter._scatter_cpu' extension
g++ -Wsign-compare -c csrc/scatter.cpp -o build/scatter.o -Werror=format
csrc/scatter.cpp: In function 'int f()':
csrc/scatter.cpp:12:3: error: 'foo' was not declared in this scope
   12 |   foo();
csrc/scatter.cpp:13:3: error: 'bar' was not declared in this scope
error: command '/usr/bin/g++' failed with exit code 1
""".splitlines()


def test_the_first_errors_of_a_compiler_are_told():
    assert find_error_lines(GCC_LOG) == (
        "csrc/scatter.cpp:12:3: error: 'foo' was not declared in this scope",
        "csrc/scatter.cpp:13:3: error: 'bar' was not declared in this scope",
    )


@pytest.mark.parametrize(
    ("lines", "done", "total"),
    [
        pytest.param(["running build_ext"], 0, 0, id="nothing known"),
        pytest.param(
            ["safe-install: total 4", "safe-install: compiled csrc/a.cpp"], 1, 4, id="our own lines"
        ),
        pytest.param(["[1/3] c++ -c a.cpp", "[2/3] c++ -c b.cpp"], 2, 3, id="one ninja"),
        pytest.param(
            ["safe-install: total 5", "[1/2] a", "[2/2] b", "[1/3] c", "[2/3] d"],
            4,
            5,
            id="a ninja for each extension",
        ),
        pytest.param(["[1/1] a", "[1/1] b", "[1/1] c"], 3, 3, id="extensions of one file"),
        pytest.param(["[1/2] a", "[2/2] b", "[1/3] c"], 3, 5, id="without a total"),
        pytest.param(["see [3/7] there", "safe-install: total x"], 0, 0, id="not at the start"),
    ],
)
def test_files_are_counted(lines, done, total):
    count = FileCount()
    for line in lines:
        count = count_files(count, line)
    assert (count.done, count.total) == (done, total)


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (
            "[1/2] c++ -MMD -Iinclude -c /tmp/b/csrc/cpu/basis_cpu.cpp -o basis_cpu.o",
            "basis_cpu.cpp",
        ),
        ("safe-install: compiled csrc/scatter.cpp", "scatter.cpp"),
        ("running build_ext", ""),
    ],
)
def test_the_source_that_a_line_is_about(line, source):
    assert find_source(line) == source


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("c++: fatal error: Killed signal terminated program cc1plus", "MAX_JOBS=1"),
        ("csrc/x.cpp:1:10: fatal error: THC/THC.h: No such file or directory", "too old"),
        (
            "#error -- unsupported GNU version! gcc versions later than 10 are not supported!",
            "older gcc",
        ),
        ("fatal error: Python.h: No such file or directory", "headers of this Python"),
        ("ModuleNotFoundError: No module named 'pkg_resources'", "setuptools below 82"),
        ("ModuleNotFoundError: No module named 'psutil'", "pyproject.toml does not name"),
        ("  ImportError: No module named 'cmake.backend'", "pyproject.toml does not name"),
        (
            "UserWarning: Failed to initialize NumPy: No module named 'numpy' (of torch)",
            "read the log",
        ),
        ("error: <urlopen error [Errno 110] Connection timed out>", "network"),
        ("OSError: [Errno 28] No space left on device", "disk"),
        (
            "RuntimeError: The detected CUDA version (12.3) mismatches the version that was",
            "CUDA_HOME",
        ),
        ("fatal error: cusparse.h: No such file or directory", "development package"),
        ("something nobody has seen", "read the log"),
    ],
)
def test_known_failures_have_a_hint(line, hint):
    assert hint in explain_failure(["building", line])


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (["a", "", "Traceback (most recent call last):", "ValueError: no"], ("ValueError: no",)),
        (["only", "", "these words"], ("only", "these words")),
        ([], ()),
        (["x.cpp:1: error: same"] * 9, ("x.cpp:1: error: same",)),
        (
            [f"x.cpp:{i}: error: e" for i in range(9)],
            tuple(f"x.cpp:{i}: error: e" for i in range(6)),
        ),
    ],
)
def test_error_lines(log, lines):
    assert find_error_lines(log) == lines


def test_colours_are_taken_out_of_a_log():
    assert split_log("x.c:1: \x1b[01;31merror:\x1b[m no\nnext") == ["x.c:1: error: no", "next"]


def test_the_toolkit_is_named_with_what_completes_it():
    toolkit = Toolkit(Path("/usr/local/cuda"), "13.0", origin="nvcc on PATH")
    assert describe_toolkit(toolkit) == "CUDA toolkit: 13.0 in /usr/local/cuda (nvcc on PATH)"
    completed = dataclasses.replace(toolkit, completed=("cusparse.h", "cublas_v2.h"))
    assert describe_toolkit(completed).endswith(
        ", cusparse.h, cublas_v2.h from the environment's nvidia packages"
    )
