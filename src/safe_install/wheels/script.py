"""Stand-alone: calls one PEP 517 build hook inside the managed interpreter, with the build tools on
its path.

Standard library only, Python 3.8 syntax. `argv[1]` names a JSON file:
{"backend": "setuptools.build_meta:__legacy__", "backend_path": [], "wheel_dir": "", "jobs": 2,
"result": ""}.
The working directory is the source tree. The wheel's file name is written to `result` as JSON.

A setup.py that switches ninja off compiles one file after the other, and the parallel mode of
build_ext is no
way out: torch swaps the compiler of all threads when it comes to a .cu file, and two extensions
that share a
source write the same object file. So extensions and their files are compiled in forked processes:
each has
its own compiler object, each extension its own folder for objects, and at most `jobs` compilers run
at once.
"""

import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

KNOWN_COMMANDS = ("setuptools.", "distutils.", "Cython.", "torch.")


class Slots:
    """A counting semaphore for forked processes: as many bytes in a pipe as compilers may run at
    once."""

    def __init__(self, count):
        self.taken, self.free = os.pipe()
        os.write(self.free, b"+" * count)

    def __enter__(self):
        os.read(self.taken, 1)

    def __exit__(self, *_details):
        os.write(self.free, b"+")


def say(text):
    """Tell the program that started us how far it is."""
    sys.stdout.flush()
    os.write(1, f"safe-install: {text}\n".encode())


def run_forked(tasks):
    """Run each task in its own process, all at once; True when all succeeded."""
    sys.stdout.flush()
    sys.stderr.flush()
    pids = []
    for task in tasks:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                task()
                status = 0
            except BaseException as error:  # noqa: BLE001 - the exit status is the answer
                if type(error).__name__ in ("CompileError", "LinkError"):
                    sys.stderr.write(f"{error}\n")  # the compiler has said why
                else:
                    traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    return wait_for(set(pids))


def wait_for(pids):
    """Wait until all processes ended, or one failed: nobody waits for the rest of a lost build."""
    while pids:
        pid, status = os.wait()
        if pid in pids and status != 0:
            return False
        pids.discard(pid)
    return True


def compile_in_parallel(slots):
    """Make every distutils compiler compile the files of one extension side by side."""
    from distutils.ccompiler import CCompiler
    from distutils.errors import CompileError

    def compile(
        self,
        sources,
        output_dir=None,
        macros=None,
        include_dirs=None,
        debug=0,
        extra_preargs=None,
        extra_postargs=None,
        depends=None,
    ):
        macros, objects, extra_postargs, options, build = self._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = self._get_cc_args(options, debug, extra_preargs)

        def compile_one(target):
            source, suffix = build[target]
            with slots:
                self._compile(target, source, suffix, arguments, extra_postargs, options)
            say(f"compiled {source}")

        wanted = [target for target in objects if target in build]
        if len(wanted) == 1:
            compile_one(wanted[0])
        elif not run_forked([lambda target=target: compile_one(target) for target in wanted]):
            raise CompileError("a file could not be compiled")
        return objects

    CCompiler.compile = compile


def build_in_parallel():
    """Make build_ext build the extensions side by side, each with its own folder for objects."""
    from distutils.command.build_ext import build_ext
    from distutils.errors import CompileError

    one_by_one = build_ext._build_extensions_serial

    def build_extensions(self):
        say(f"total {sum(len(extension.sources) for extension in self.extensions)}")
        own_way = getattr(self, "use_ninja", False) or not is_known(type(self).build_extension)
        if own_way or len(self.extensions) < 2:
            one_by_one(self)
            return
        folder = self.build_temp

        def build_one(extension):
            self.build_temp = str(Path(folder, extension.name))
            with self._filter_build_errors(extension):
                self.build_extension(extension)

        if not run_forked(
            [lambda extension=extension: build_one(extension) for extension in self.extensions]
        ):
            raise CompileError("an extension could not be built")

    build_ext._build_extensions_serial = build_extensions


def is_known(function):
    """Is this the build_extension of a tool, rather than of a project that may count on one
    process?"""
    return (function.__module__ + ".").startswith(KNOWN_COMMANDS)


def count_one_by_one():
    """Say how many files there are and which are compiled, and leave the rest to distutils."""
    from distutils.command.build_ext import build_ext
    from distutils.unixccompiler import UnixCCompiler

    build_all, compile_one = build_ext._build_extensions_serial, UnixCCompiler._compile

    def build_extensions(self):
        say(f"total {sum(len(extension.sources) for extension in self.extensions)}")
        build_all(self)

    def compile(self, target, source, *arguments):
        compile_one(self, target, source, *arguments)
        say(f"compiled {source}")

    build_ext._build_extensions_serial = build_extensions
    UnixCCompiler._compile = compile


def prepare_setuptools(jobs):
    """Let distutils use several processes where it can fork; else it stays as it is."""
    import setuptools  # noqa: F401 - first: it puts its own distutils in the place of Python's

    if jobs == 1:
        count_one_by_one()
    elif hasattr(os, "fork") and sys.platform.startswith("linux"):
        warnings.filterwarnings(
            "ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning
        )
        compile_in_parallel(Slots(jobs))
        build_in_parallel()


def load_backend(name, paths):
    """The object that PEP 517 calls the backend."""
    sys.path[:0] = [str(Path(path).resolve()) for path in paths]
    module, _, attributes = name.partition(":")
    backend = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else ():
        backend = getattr(backend, attribute)
    return backend


def end_compilers():
    """After a failure, end what the other processes still compile."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def main():
    """Read the order, build, write the result."""
    order = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    sys.path.pop(0)  # our own folder
    if order["backend"].startswith("setuptools."):
        prepare_setuptools(order["jobs"])
    try:
        wheel = load_backend(order["backend"], order["backend_path"]).build_wheel(
            order["wheel_dir"]
        )
    except BaseException:
        end_compilers()
        raise
    Path(order["result"]).write_text(json.dumps({"wheel": wheel}), "utf-8")


if __name__ == "__main__":
    main()
