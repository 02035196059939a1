"""Stand-alone: runs pip as if its Python were that of another machine.

    python -c "$(cat pip_script.py)" MARKERS PLACE [ARGUMENTS OF PIP]

pip's --python-version and --platform only select files. Markers (`; python_version < "3.10"`), and
in `pip install` also Requires-Python, are still compared with the Python that runs pip.

MARKERS: a JSON object with the environment markers (PEP 508). PLACE: a folder or archive with pip;
"": the installed pip.
"""

import json
import runpy
import sys


def main():
    """Take our two arguments from the command line, and run pip with the others."""
    markers = json.loads(sys.argv[1])
    place = sys.argv[2]
    del sys.argv[1:3]
    if place:
        sys.path.insert(0, place)
    set_markers(markers)
    set_python(markers["python_full_version"])
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def set_markers(markers):
    """Replace the values with which pip compares markers."""
    from pip._vendor.packaging import markers as evaluated

    evaluated.default_environment = lambda: dict(markers)


def set_python(full_version):
    """Replace the version with which pip compares Requires-Python."""
    from pip._internal.resolution.resolvelib.candidates import RequiresPythonCandidate

    version = tuple(int(part) for part in full_version.split(".")[:3])
    begin = RequiresPythonCandidate.__init__

    def begin_elsewhere(self, py_version_info):
        begin(self, py_version_info or version)

    RequiresPythonCandidate.__init__ = begin_elsewhere


if __name__ == "__main__":
    main()
