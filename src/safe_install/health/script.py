# Stand-alone: runs inside the managed interpreter, standard library only, Python 3.6 syntax,
# imports nothing of ours. argv[1] is a JSON object: {"asked": "import" | "loader" | "files",
# "torch": bool, "lib_dir": path or null,
#   "subjects": [{"name", "imports": [module], "native": [pattern below a sys.path folder],
#                 "operation": source or null, "files": [[path]] for "files" only}], "skip":
#                 [step]}.
# Writes one answer a line at once, so that a crash names the step in which it happened: a word that
# it reads from its stdin for each answer, then a JSON object. A line without the next word is no
# answer: whatever is imported could
# write to the same pipe. What is needed for an answer is taken here, before anything else is
# imported.
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
os.dup2(NOTHING, 0)  # imported modules that read find no words
os.dup2(2, 1)  # what they print must not mix with the answers
os.close(NOTHING)
READ, WRITE, LEAVE, CLOCK = os.read, os.write, os._exit, time.perf_counter
ENCODE = json.JSONEncoder().encode
WORD_SIZE = 16  # bytes
ERROR_SHOWN = 8000  # characters
WARNINGS_SHOWN = 20
SKIP = set()
BRACES = re.compile(r"(?<!\[)\{([^{}]*)\}")
# A copy of a process is safe for the loader alone, except on macOS, whose frameworks do not bear
# it.
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"
CHILD_LIMIT = 60  # seconds
LOADED, REFUSED = 17, 18  # exit status of such a copy; a library may end it with any other
STDERR_SHOWN = 16000  # bytes
PIPE_SIZE = 65536  # bytes: what a pipe holds on Linux
DRIVER_LIBRARIES = (
    "libcuda.so.1:",
    "libnvidia-ml.so.1:",
    "libnvidia-ptxjitcompiler.so.1:",
    "libnvcuvid.so.1:",
)

# c10::cuda::device_count(), noexcept: the same question that torch.cuda.is_available() asks on its
# default path.
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
    # A line of its own, whatever was written to the pipe before.
    line = b"\n" + next_word() + b" " + ENCODE(answer).encode("ascii") + b"\n"
    while line:
        line = line[WRITE(ANSWERS, line) :]


def describe(problem):
    """`OSError: libcudart.so.13: cannot open ...`, of any exception, in a bounded length."""
    try:
        return ("%s: %s" % (type(problem).__name__, problem))[:ERROR_SHOWN]
    except BaseException:
        return "an exception whose text cannot be had"


def be_ended_first():
    """Where memory ends, the kernel ends this process and not the one that puts files back."""
    try:
        with open("/proc/self/oom_score_adj", "w") as adjustment:
            adjustment.write("1000")
    except OSError:
        pass


def step(kind, name, action):
    """Run one question; its answer, its failure or its crash is told under (kind, name)."""
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
    """A child process died of loading a file. `answer` is what the parent needs to say why."""

    def __init__(self, path, status, stderr):
        super().__init__(path)
        self.answer = {"file": path, "status": status, "stderr": stderr[-STDERR_SHOWN:]}


def expand(pattern):
    """A pattern with braces, `_*{_cuda,_cpu}.so`, as patterns without, in its order."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    return [
        pattern[: braces.start()] + word + pattern[braces.end() :]
        for word in braces.group(1).split(",")
    ]


def text_of_stars(pattern, name):
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.match("([^/]*)".join(parts) + "$", name).groups()


def find_alternatives(pattern, folder):
    """The files that a pattern names, as lists of those of which a process loads one only.

    With braces: the same text in place of the stars. Without: names that differ in numbers only.
    """
    patterns = expand(pattern)
    found = {}
    seen = set()
    for one in patterns:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), one))):
            # `_*.so` matches `_x_cuda.so`, too: a file belongs to the first alternative that names
            # it.
            if path in seen:
                continue
            seen.add(path)
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            key = re.sub(r"\d+", "#", name) if len(patterns) == 1 else text_of_stars(one, name)
            found.setdefault(key, []).append(path)
    return list(found.values())


def ask_driver_library():
    """What libcuda itself answers: the reason why torch cannot use it. Numbers: CUresult of
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
    """For each pattern the files below the first sys.path folder that has any: pairs of lists of
    files.

    First those that stand for each other, then those of them of which one must load: where the
    pattern says in which order the project takes them, the first.
    """
    groups = []
    for pattern in patterns:
        for folder in sys.path:
            found = find_alternatives(pattern, folder) if folder and folder != os.getcwd() else []
            if found:
                is_ordered = BRACES.search(pattern) is not None
                groups += [(files, files[:1] if is_ordered else files) for files in found]
                break
    return groups


def is_loaded(path):
    """Is it in this process already? The loader is asked, and loads nothing for it."""
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except (AttributeError, OSError):
        return False
    return True


def load(path):
    # RTLD_NOW: every symbol must be there now, as when Python imports an extension module.
    ctypes.CDLL(path, mode=getattr(os, "RTLD_NOW", 2))


def wait_for_child(child, reader):
    """The end of what a child process wrote, and its status as os.waitpid gives it.

    A process that the child leaves behind may keep the pipe open, and write on: the child's own end
    counts.
    """
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
        # what it wrote between the two questions
        output = (output + os.read(reader, PIPE_SIZE))[-STDERR_SHOWN:]
    return output.decode("utf-8", "replace"), status


def load_in_child(path):
    """Load a file in a copy of this process, which may die of it. Errors: OSError, Died."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads: the child calls the loader and nothing else
        warnings.simplefilter("ignore")
        try:
            child = os.fork()
        except OSError:  # no memory or no process left for a copy: that is not the file's fault
            os.close(reader)
            os.close(writer)
            load(path)
            return
    if child == 0:
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


def load_one(files, load_file):
    """Load the first file that loads. Errors: what became of the first one, OSError or Died."""
    first = None
    for path in files:
        try:
            return load_file(path)
        except (OSError, Died) as problem:
            if str(problem).startswith(DRIVER_LIBRARIES) and driver_library() is None:
                return None  # without a driver nobody can say
            first = first or problem
    raise first


def load_needed(groups, load_file):
    """Load one file of each group; what is loaded already is not loaded again.

    Errors: OSError; Died, with the files that are undecided in its answer.
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
    """Files of which a copy of the asking process died: here nothing but torch is loaded."""
    library = os.path.join(request["lib_dir"] or "", "libtorch_python.so")
    try:
        load(library)
    except OSError:
        __import__("torch")
    for subject in request["subjects"]:
        groups = [(files, files) for files in subject["files"]]
        step("native", subject["name"], lambda groups=groups: load_needed(groups, load_in_child))


def ask_loader(request):
    lib_dir = request["lib_dir"]

    def load_torch():
        ctypes.CDLL(os.path.join(lib_dir, "libtorch_python.so"), mode=getattr(os, "RTLD_NOW", 2))

    def count():
        if driver_library() is None:
            return None
        try:
            library = ctypes.CDLL(os.path.join(lib_dir, "libc10_cuda.so"))
        except OSError:
            return 0
        function = library[DEVICE_COUNT]
        function.restype = ctypes.c_int
        return function() & 0xFF  # the function returns an 8 bit number, a CUDA limit of torch

    if request["torch"]:
        step("import", "torch", load_torch)
        devices = step("cuda", "devices", count)
        say(event="cuda", available=None if devices is None else devices > 0, devices=devices or 0)
    for subject in request["subjects"]:
        groups = native_files(subject["native"])
        if groups:
            step("native", subject["name"], lambda groups=groups: load_needed(groups, load))


def import_without_collecting(name):
    """A module whose import makes so many objects that stay that a tenth of it is looking among
    them for garbage. What is made afterwards is collected as ever."""
    gc.disable()
    try:
        return __import__(name)
    finally:
        getattr(gc, "freeze", int)()  # from Python 3.7 on
        gc.enable()


def import_torch():
    """torch, with a file: a folder without __init__.py can be imported, too, and is an empty
    namespace."""
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
    """Is there anything that torch.cuda.is_available() could use? A ROCm build uses the driver of
    AMD."""
    if getattr(getattr(torch, "version", None), "hip", None) and os.path.exists("/dev/kfd"):
        return True
    return driver_library() is not None


def ask_cuda(torch):
    if not has_driver(torch):
        say(event="cuda", available=None, devices=0)
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    for warning in caught[:WARNINGS_SHOWN]:
        say(event="warning", text=(str(warning.message).splitlines() or [""])[0][:ERROR_SHOWN])
    # device_count() may ask NVML, which counts devices that torch cannot use.
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


def cross_numpy(torch):
    """An array to a tensor and back: a torch that was built for another numpy imports and cannot do
    this."""
    numpy = __import__("numpy")
    if torch.from_numpy(numpy.ones(3)).numpy().tolist() != [1.0, 1.0, 1.0]:
        raise ArithmeticError("an array of ones is another one after torch.from_numpy")


def libraries():
    """The libraries in memory, as the kernel lists them."""
    try:
        with open("/proc/self/maps") as maps:
            paths = [line.split(None, 5)[-1].strip() for line in maps if ".so" in line]
    except (OSError, IndexError):
        return []
    return sorted({path for path in paths if path.startswith("/")})


def ask_torch(torch):
    """Does torch compute, speak with numpy and see a GPU? Returns whether it computes on that GPU:
    where torch itself does not, an extension is not to blame."""
    step("operation", "torch on cpu", lambda: compute(torch, "cpu"))
    if is_installed("numpy"):
        step("operation", "torch.from_numpy", lambda: cross_numpy(torch))
    available = step("cuda", "available", lambda: ask_cuda(torch))
    if available:
        return bool(step("operation", "torch on cuda", lambda: compute(torch, "cuda")))
    if available is False:
        step("cuda", "driver", ask_driver_library)
    return False


def ask_imports(request):
    available = False
    if request["torch"]:
        torch = step("import", "torch", import_torch)
        if torch is not None:
            say(event="libraries", paths=libraries())
            available = ask_torch(torch)
    for subject in request["subjects"]:
        for module in subject["imports"]:
            step("import", module, lambda module=module: __import__(module))
        groups = native_files(subject["native"])
        if groups:
            load_file = load_in_child if CAN_FORK else load
            step(
                "native",
                subject["name"],
                lambda groups=groups, load_file=load_file: load_needed(groups, load_file),
            )
        if subject["operation"]:
            for device in ["cpu"] + (["cuda"] if available else []):
                # With its asserts, however the interpreter was started.
                code = compile(subject["operation"], subject["name"], "exec", optimize=0)
                step(
                    "operation",
                    "%s on %s" % (subject["name"], device),
                    lambda code=code, device=device: exec(code, {"device": device}),
                )


def main():
    be_ended_first()
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
    # Destructors of half-loaded libraries may crash at exit: what was asked has been answered.
    LEAVE(0)
