# Stand-alone: runs inside the managed interpreter, standard library only, Python 3.6 syntax, imports nothing of ours.
# argv[1] is a JSON object: {"asked": "import" | "loader", "torch": bool, "lib_dir": path or null,
#   "subjects": [{"name", "imports": [module], "native": [pattern below a sys.path folder],
#                 "operation": source or null}], "skip": [step]}.
# Prints one JSON object a line, flushed at once, so that a crash names the step in which it happened.
import ctypes
import glob
import json
import os
import sys
import time
import warnings

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what imported modules print must not mix with the answers
SKIP = set()

# c10::cuda::device_count(), noexcept: the same question that torch.cuda.is_available() asks on its default path.
DEVICE_COUNT = "_ZN3c104cuda12device_countEv"


def say(**answer):
    ANSWERS.write(json.dumps(answer) + "\n")
    ANSWERS.flush()


def step(kind, name, action):
    """Run one question; its answer, its failure or its crash is told under (kind, name)."""
    if "%s %s" % (kind, name) in SKIP:
        return None
    say(event="begin", kind=kind, name=name)
    started = time.perf_counter()
    error, value = None, None
    try:
        value = action()
    except BaseException as problem:
        error = "%s: %s" % (type(problem).__name__, problem)
    say(event="end", kind=kind, name=name, ok=error is None, error=error, seconds=time.perf_counter() - started)
    return value


def driver_library():
    try:
        return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None


def native_files(patterns):
    """For each pattern the files below the first sys.path folder that has any."""
    found = []
    for pattern in patterns:
        for folder in sys.path:
            if folder and folder != os.getcwd():
                files = sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
                if files:
                    found.extend(files)
                    break
    return found


def load_all(files):
    # RTLD_NOW: every symbol must be there now, as when Python imports an extension module.
    for path in files:
        ctypes.CDLL(path, mode=getattr(os, "RTLD_NOW", 2))


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
        files = native_files(subject["native"])
        if files:
            step("native", subject["name"], lambda files=files: load_all(files))


def ask_cuda(torch):
    if driver_library() is None:
        say(event="cuda", available=None, devices=0)
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    for warning in caught:
        say(event="warning", text=str(warning.message).splitlines()[0])
    # device_count() may ask NVML, which counts devices that torch cannot use.
    say(event="cuda", available=available, devices=torch.cuda.device_count() if available else 0)
    return available


def compute(torch):
    if (torch.ones(8, device="cuda") * 2).sum().item() != 16:
        raise ArithmeticError("2 * 8 ones do not sum to 16 on the GPU")
    return True


def libraries():
    """The libraries in memory, as the kernel lists them."""
    try:
        with open("/proc/self/maps") as maps:
            paths = [line.split(None, 5)[-1].strip() for line in maps if ".so" in line]
    except (OSError, IndexError):
        return []
    return sorted({path for path in paths if path.startswith("/")})


def ask_imports(request):
    available = False
    if request["torch"]:

        def import_torch():
            return __import__("torch")

        torch = step("import", "torch", import_torch)
        if torch is not None:
            say(
                event="torch",
                version=str(torch.__version__),
                cuda=getattr(torch.version, "cuda", None),
                hip=getattr(torch.version, "hip", None),
            )
            say(event="libraries", paths=libraries())
            available = bool(step("cuda", "available", lambda: ask_cuda(torch)))
            if available:
                # A GPU on which torch itself cannot compute says nothing of an extension.
                available = bool(step("operation", "torch on cuda", lambda: compute(torch)))
    for subject in request["subjects"]:
        for module in subject["imports"]:
            step("import", module, lambda module=module: __import__(module))
        files = native_files(subject["native"])
        if files:
            step("native", subject["name"], lambda files=files: load_all(files))
        if subject["operation"]:
            for device in ["cpu"] + (["cuda"] if available else []):
                code = compile(subject["operation"], subject["name"], "exec")
                step(
                    "operation",
                    "%s on %s" % (subject["name"], device),
                    lambda code=code, device=device: exec(code, {"device": device}),
                )


def main():
    request = json.loads(sys.argv[1])
    SKIP.update(request["skip"])
    sys.path[:] = [path for path in sys.path if path]
    if request["asked"] == "loader":
        ask_loader(request)
    else:
        ask_imports(request)
    say(event="done")


if __name__ == "__main__":
    main()
    # Destructors of half-loaded libraries may crash at exit: what was asked has been answered.
    ANSWERS.flush()
    os._exit(0)
