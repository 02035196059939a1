# Checks torch and its extensions. Stand-alone: runs inside the managed interpreter, with the
# standard library only, in Python 3.6 syntax; imports nothing of ours.
# argv[1] is a JSON object: {"asked": "import" | "loader" | "files", "torch": bool,
#   "lib_dir": path or null, "skip": [step], "subjects": [{"name", "imports": [module],
#   "native": [pattern below a sys.path folder], "operation": source or null}]}
#   The subjects for "files": {"name", "files": [[path]]}.
# Each answer is a line, written at once, so that a crash shows the step in which it happened. It
# has a secret word and a JSON object. The words are on stdin, one for each answer: an imported
# module could write to the same pipe. For the same reason everything that an answer needs is
# defined here, before anything is imported.
import ctypes
import gc
import glob
import importlib.util
import json
import os
import re
import select
import signal
import sys
import time
import warnings

WORDS, ANSWERS = os.dup(0), os.dup(1)
NOTHING = os.open(os.devnull, os.O_RDONLY)
os.dup2(NOTHING, 0)  # imported modules must not read the words
os.dup2(2, 1)  # what they print must not mix with the answers
os.close(NOTHING)
READ, WRITE, LEAVE, CLOCK = os.read, os.write, os._exit, time.perf_counter
ENCODE = json.JSONEncoder().encode
WORD_SIZE = 16  # bytes
ERROR_SHOWN = 8000  # characters
WARNINGS_SHOWN = 20
SKIP = set()
BRACES = re.compile(r"(?<!\[)\{([^{}]*)\}")
# A forked copy of a process can safely call the loader, but not on macOS.
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"
CHILD_LIMIT = 60  # seconds
# Exit statuses of a copy. With any other status, a library has ended it.
LOADED, REFUSED = 17, 18
STDERR_SHOWN = 16000  # bytes
PIPE_SIZE = 65536  # bytes: what a pipe holds on Linux
DRIVER_LIBRARIES = (
    "libcuda.so.1:",
    "libnvidia-ml.so.1:",
    "libnvidia-ptxjitcompiler.so.1:",
    "libnvcuvid.so.1:",
)

# c10::cuda::device_count(), noexcept: torch.cuda.is_available() calls it by default.
DEVICE_COUNT = "_ZN3c104cuda12device_countEv"


def next_word():
    word = b""
    while len(word) < WORD_SIZE:
        chunk = READ(WORDS, WORD_SIZE - len(word))
        if not chunk:
            break
        word += chunk
    return word


def say(**answer):
    """Write an answer."""
    # The newline comes first: the pipe may hold the beginning of a line of another writer.
    line = b"\n" + next_word() + b" " + ENCODE(answer).encode("ascii") + b"\n"
    while line:
        line = line[WRITE(ANSWERS, line) :]


def describe(problem):
    """`OSError: libcudart.so.13: cannot open ...`, at most ERROR_SHOWN characters."""
    try:
        return ("%s: %s" % (type(problem).__name__, problem))[:ERROR_SHOWN]
    except BaseException:
        return "an exception whose text cannot be had"


def prefer_out_of_memory_kill():
    """Let the kernel kill this process if memory runs out, and not the one that restores files."""
    try:
        with open("/proc/self/oom_score_adj", "w") as adjustment:
            adjustment.write("1000")
    except OSError:
        pass


def step(kind, name, action):
    """Do one step and answer whether it worked. The result: that of `action`, None if it failed."""
    if "%s %s" % (kind, name) in SKIP:
        return None
    say(event="begin", kind=kind, name=name)
    started = CLOCK()
    error, value, more = None, None, {}
    try:
        value = action()
    except BaseException as problem:
        error = describe(problem)
        more = problem.answer if isinstance(problem, Died) else {}
    seconds = CLOCK() - started
    say(event="end", kind=kind, name=name, ok=error is None, error=error, seconds=seconds, **more)
    return value


def driver_library():
    try:
        return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None


class Died(Exception):
    """Loading a file ended a child process. `answer`: the keys for the answer of the step."""

    def __init__(self, path, status, stderr):
        super().__init__(path)
        self.answer = {"file": path, "status": status, "stderr": stderr[-STDERR_SHOWN:]}


def expand(pattern):
    """The alternatives of a pattern with braces, `_*{_cuda,_cpu}.so`, as patterns without them."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [before + word + after for word in braces.group(1).split(",")]


def text_of_stars(pattern, name):
    """The texts in a name for which the stars of a pattern stand."""
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.match("([^/]*)".join(parts) + "$", name).groups()


def find_alternatives(pattern, folder):
    """The files that match a pattern, in lists of alternatives. A process loads only one of a list.

    With braces, alternatives have the same text in place of the stars. Without braces, they differ
    only in numbers.
    """
    patterns = expand(pattern)
    found = {}
    seen = set()
    for one in patterns:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), one))):
            if path in seen:  # `_*.so` also matches `_x_cuda.so`: the first match counts
                continue
            seen.add(path)
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            key = re.sub(r"\d+", "#", name) if len(patterns) == 1 else text_of_stars(one, name)
            found.setdefault(key, []).append(path)
    return list(found.values())


def ask_driver_library():
    """Answer what libcuda says, which is the reason if torch cannot use it. `status`: CUresult of
    cuda.h."""
    library = driver_library()
    if library is None:
        return
    version, devices = ctypes.c_int(), ctypes.c_int()
    known = library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value > 0
    status = library.cuInit(0)
    counted = status == 0 and library.cuDeviceGetCount(ctypes.byref(devices)) == 0
    paths = [path for path in libraries() if os.path.basename(path).startswith("libcuda.so")]
    say(
        event="libcuda",
        path=paths[0] if paths else None,
        cuda="%d.%d" % (version.value // 1000, version.value % 1000 // 10) if known else None,
        status=status,
        devices=devices.value if counted else None,
    )


def native_files(patterns):
    """The files to load, as pairs: (alternatives, those of which one must load).

    For each pattern the files below the first sys.path folder that has any. If the pattern has an
    order, the first alternative must load.
    """
    groups = []
    for pattern in patterns:
        is_ordered = BRACES.search(pattern) is not None
        for folder in [path for path in sys.path if path and path != os.getcwd()]:
            found = find_alternatives(pattern, folder)
            if found:
                groups += [(files, files[:1] if is_ordered else files) for files in found]
                break
    return groups


def is_loaded(path):
    """Is the file loaded in this process? Nothing is loaded to find out."""
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except (AttributeError, OSError):
        return False
    return True


def load(path):
    """Load a file. Errors: OSError."""
    # RTLD_NOW: every symbol must be found now, as when Python imports an extension module.
    ctypes.CDLL(path, mode=getattr(os, "RTLD_NOW", 2))


def wait_for_child(child, reader):
    """The end of a child's output, and its status as os.waitpid gives it. The end of the pipe is
    not waited for: a process that the child leaves behind may keep it open."""
    output = b""
    while True:
        is_readable = bool(select.select([reader], [], [], 0.1)[0])
        chunk = os.read(reader, PIPE_SIZE) if is_readable else b""
        output = (output + chunk)[-STDERR_SHOWN:]
        is_closed = is_readable and not chunk
        ended, status = os.waitpid(child, 0 if is_closed else os.WNOHANG)
        if ended:
            break
    if not is_closed and select.select([reader], [], [], 0)[0]:
        # what it wrote after the last read
        output = (output + os.read(reader, PIPE_SIZE))[-STDERR_SHOWN:]
    return output.decode("utf-8", "replace"), status


def load_in_child(path):
    """Load a file in a forked copy of this process, which may crash. Errors: OSError, Died."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns if there are threads, but the child only calls the loader.
        warnings.simplefilter("ignore")
        try:
            child = os.fork()
        except OSError:  # there is no memory or no process left for a copy
            os.close(reader)
            os.close(writer)
            load(path)
            return
    if child == 0:
        load_and_exit(path, writer)
    os.close(writer)
    try:
        output, status = wait_for_child(child, reader)
    finally:
        os.close(reader)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if code == REFUSED:
        raise OSError(output.rpartition("\n")[2])
    if code != LOADED:
        raise Died(path, code, output)


def load_and_exit(path, writer):
    """Load a file and end the process, with LOADED or REFUSED. It may write to `writer` only."""
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_LIMIT)
        load(path)
        LEAVE(LOADED)
    except BaseException as problem:
        os.write(2, ("\n" + str(problem).replace("\n", " ")).encode("utf-8", "replace"))
    finally:
        LEAVE(REFUSED)


def load_one(files, load_file):
    """Load the first file that can be loaded. Errors: OSError or Died of the first file, if none
    can."""
    first = None
    for path in files:
        try:
            return load_file(path)
        except (OSError, Died) as problem:
            if str(problem).startswith(DRIVER_LIBRARIES) and driver_library() is None:
                return None  # it cannot be tried without a driver
            first = first or problem
    raise first


def load_needed(groups, load_file):
    """Load one file of each group, unless one of its alternatives is already loaded.

    Errors: OSError; Died, with the files that crashed as "files" in its answer.
    """
    died = None
    undecided = []
    for files, candidates in groups:
        if any(is_loaded(path) for path in files):
            continue
        try:
            load_one(candidates, load_file)
        except Died as problem:
            died = died or problem
            undecided.append(candidates)
    if died is not None:
        died.answer["files"] = undecided
        raise died


def ask_files(request):
    """Load files that crashed a copy of another process. In this one only torch is loaded."""
    library = os.path.join(request["lib_dir"] or "", "libtorch_python.so")
    try:
        load(library)
    except OSError:
        __import__("torch")
    for subject in request["subjects"]:
        groups = [(files, files) for files in subject["files"]]
        step("native", subject["name"], lambda groups=groups: load_needed(groups, load_in_child))


def count_devices(lib_dir):
    """The number of devices that torch can use, by its own library; None without a driver."""
    if driver_library() is None:
        return None
    try:
        library = ctypes.CDLL(os.path.join(lib_dir, "libc10_cuda.so"))
    except OSError:
        return 0
    function = library[DEVICE_COUNT]
    function.restype = ctypes.c_int
    return function() & 0xFF  # its type has 8 bits


def ask_loader(request):
    """The light check: load the libraries of torch and its extensions, import nothing."""
    if request["torch"]:
        lib_dir = request["lib_dir"]
        step("import", "torch", lambda: load(os.path.join(lib_dir, "libtorch_python.so")))
        devices = step("cuda", "devices", lambda: count_devices(lib_dir))
        say(event="cuda", available=None if devices is None else devices > 0, devices=devices or 0)
    for subject in request["subjects"]:
        groups = native_files(subject["native"])
        if groups:
            step("native", subject["name"], lambda groups=groups: load_needed(groups, load))


def import_without_collecting(name):
    """Import a large module without garbage collection, which takes a tenth of the time: nearly all
    of its objects stay."""
    gc.disable()
    try:
        return __import__(name)
    finally:
        getattr(gc, "freeze", int)()  # from Python 3.7 on
        gc.enable()


def import_torch():
    """Import torch. Errors: ImportError for a folder without __init__.py, which Python imports as
    an empty namespace package."""
    torch = import_without_collecting("torch")
    if getattr(torch, "__file__", None) is None:
        folders = ", ".join(getattr(torch, "__path__", []))
        raise ImportError(
            "%s has no __init__.py: it is what is left of a torch that was removed" % folders
        )
    describe_torch(torch)
    return torch


def text_or_none(value):
    return value if value is None else str(value)


def describe_torch(torch):
    version = getattr(torch, "version", None)
    place = torch.__file__
    if os.path.basename(place).startswith("__init__."):
        place = os.path.dirname(place)
    say(
        event="torch",
        version=str(getattr(torch, "__version__", "of an unknown version")),
        cuda=text_or_none(getattr(version, "cuda", None)),
        hip=text_or_none(getattr(version, "hip", None)),
        folder=os.path.realpath(place),
    )


def has_driver(torch):
    """Is there a driver for this build of torch? A ROCm build uses the one of AMD."""
    if getattr(getattr(torch, "version", None), "hip", None) and os.path.exists("/dev/kfd"):
        return True
    return driver_library() is not None


def ask_cuda(torch):
    """Answer whether CUDA is available, and return it."""
    if not has_driver(torch):
        say(event="cuda", available=None, devices=0)
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    for warning in caught[:WARNINGS_SHOWN]:
        say(event="warning", text=(str(warning.message).splitlines() or [""])[0][:ERROR_SHOWN])
    # Only asked if CUDA is available: device_count() may ask NVML, which counts devices that torch
    # cannot use.
    say(
        event="cuda",
        available=available,
        devices=int(torch.cuda.device_count()) if available else 0,
    )
    return available


def compute(torch, device):
    if (torch.ones(8, device=device) * 2).sum().item() != 16:
        raise ArithmeticError("2 * 8 ones do not sum to 16 on %s" % device)
    return True


def is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def convert_numpy(torch):
    """Make an array a tensor and back, which a torch that was built for another numpy cannot do."""
    numpy = __import__("numpy")
    if torch.from_numpy(numpy.ones(3)).numpy().tolist() != [1.0, 1.0, 1.0]:
        raise ArithmeticError("an array of ones is another one after torch.from_numpy")


def libraries():
    """The paths of the libraries in memory, from the kernel."""
    try:
        with open("/proc/self/maps") as maps:
            paths = [line.split(None, 5)[-1].strip() for line in maps if ".so" in line]
    except (OSError, IndexError):
        return []
    return sorted({path for path in paths if path.startswith("/")})


def ask_torch(torch):
    """Try torch on the CPU, with numpy and on a GPU. The result: does it compute on the GPU? If it
    does not, extensions are not tried there."""
    step("operation", "torch on cpu", lambda: compute(torch, "cpu"))
    if is_installed("numpy"):
        step("operation", "torch.from_numpy", lambda: convert_numpy(torch))
    available = step("cuda", "available", lambda: ask_cuda(torch))
    if available:
        return bool(step("operation", "torch on cuda", lambda: compute(torch, "cuda")))
    if available is False:
        step("cuda", "driver", ask_driver_library)
    return False


def ask_imports(request):
    """The full check: import torch and its extensions, load their files, run their operations."""
    devices = ["cpu"]
    if request["torch"]:
        torch = step("import", "torch", import_torch)
        if torch is not None:
            say(event="libraries", paths=libraries())
            if ask_torch(torch):
                devices.append("cuda")
    for subject in request["subjects"]:
        ask_subject(subject, devices)


def ask_subject(subject, devices):
    for module in subject["imports"]:
        step("import", module, lambda module=module: __import__(module))
    groups = native_files(subject["native"])
    if groups:
        load_file = load_in_child if CAN_FORK else load
        step("native", subject["name"], lambda: load_needed(groups, load_file))
    if not subject["operation"]:
        return
    for device in devices:
        # optimize=0 keeps its asserts, however the interpreter was started.
        code = compile(subject["operation"], subject["name"], "exec", optimize=0)
        name = "%s on %s" % (subject["name"], device)
        step("operation", name, lambda code=code, device=device: exec(code, {"device": device}))


def main():
    prefer_out_of_memory_kill()
    request = json.loads(sys.argv[1])
    SKIP.update(request["skip"])
    sys.path[:] = [path for path in sys.path if path]
    if request["asked"] == "loader":
        ask_loader(request)
    elif request["asked"] == "files":
        ask_files(request)
    else:
        ask_imports(request)
    say(event="done")


if __name__ == "__main__":
    main()
    # Without destructors: those of partly loaded libraries may crash.
    LEAVE(0)
