"""Stand-alone: runs pip as if its Python had the environment markers of another machine.

    python -c "$(cat pip_script.py)" MARKERS PLACE [PIP'S WORDS]

pip's --python-version and --platform choose among the files of a project, and its markers
(`; python_version < "3.10"`) still speak of the Python that runs it. `MARKERS`: a JSON object
(PEP 508). `PLACE`: a folder or an archive that has this pip; "" for the one that is installed.
"""

import json
import runpy
import sys


def main():
    """Take our two words from the command line, and run pip with the rest."""
    markers = json.loads(sys.argv[1])
    place = sys.argv[2]
    del sys.argv[1:3]
    if place:
        sys.path.insert(0, place)
    from pip._vendor.packaging import markers as evaluated

    evaluated.default_environment = lambda: dict(markers)
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
