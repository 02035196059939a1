# Stand-alone: runs inside the managed interpreter, standard library only, Python 3.6 syntax,
# imports nothing of ours. Writes one answer: a word of 16 letters that it reads from its stdin, and
# a JSON object of interpreter facts and installed distributions. What else is on stdout is no
# answer: it comes from what runs at every start of this Python. torch is not imported: its files
# are read.
import ast
import glob
import importlib.util
import json
import os
import platform
import re
import site
import stat
import sys
import sysconfig

LARGEST = 100000000  # bytes: what is read here has a hundredth of it
HEADER = re.compile(r"^(Name|Version|Requires-Dist|Provides-Extra):[ \t]*(.*?)[ \t\r]*$", re.M)


def read_plain(path):
    """The bytes of a file; None where there is none, or what is no file, or has no end."""
    try:
        # Without waiting: a FIFO in its place would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        os.close(descriptor)
        return None
    try:
        with open(descriptor, "rb") as file:
            return file.read()
    except OSError:
        return None


def read_text(path):
    content = read_plain(path)
    if content is None:
        return None
    return content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def first_line(path):
    text = read_text(path)
    return text.strip() if text else None


def read_metadata(path):
    """Name, version and requirements of METADATA or PKG-INFO; only the part above the description
    is looked at."""
    text = read_text(path)
    if text is None:
        return None
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    found = {"requires": []}
    for key, value in HEADER.findall(head):
        if key == "Requires-Dist":
            found["requires"].append(value)
        elif key in ("Name", "Version"):
            found.setdefault(key.lower(), value)
    return found if found.get("name") and found.get("version") else None


def read_direct_url(folder):
    text = read_text(os.path.join(folder, "direct_url.json"))
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def dist_info(location, entry):
    folder = os.path.join(location, entry)
    found = read_metadata(os.path.join(folder, "METADATA"))
    if found is None:
        return None
    direct_url = read_direct_url(folder)
    dir_info = direct_url.get("dir_info") if direct_url else None
    found.update(
        metadata_path=folder,
        location=location,
        installer=first_line(os.path.join(folder, "INSTALLER")),
        direct_url=direct_url,
        editable=isinstance(dir_info, dict) and bool(dir_info.get("editable")),
        has_record=os.path.isfile(os.path.join(folder, "RECORD")),
        requested=os.path.isfile(os.path.join(folder, "REQUESTED")),
    )
    return found


def egg_info(location, entry, editable=False):
    path = os.path.join(location, entry)
    found = read_metadata(os.path.join(path, "PKG-INFO") if os.path.isdir(path) else path)
    if found is None:
        return None
    requires = read_text(os.path.join(path, "requires.txt")) if os.path.isdir(path) else None
    if requires:
        # Sections after the first blank line belong to extras.
        plain = requires.split("\n[", 1)[0] if not requires.startswith("[") else ""
        found["requires"] = [line.strip() for line in plain.splitlines() if line.strip()]
    found.update(
        metadata_path=path,
        location=location,
        installer=None,
        direct_url=None,
        editable=editable,
        has_record=False,
        requested=False,
    )
    return found


def egg_link(location, entry):
    source = (read_text(os.path.join(location, entry)) or "").splitlines()
    if not source or not os.path.isdir(source[0].strip()):
        return None
    source = source[0].strip()
    for name in sorted(os.listdir(source)):
        if name.endswith(".egg-info"):
            found = egg_info(source, name, editable=True)
            if found:
                found["location"] = location
                return found
    return None


READERS = ((".dist-info", dist_info), (".egg-info", egg_info), (".egg-link", egg_link))


def installed_distributions(paths):
    found, broken, torches = {}, [], {}
    for location in paths:
        try:
            # What is installed comes before the link of a development install: that is imported
            # later.
            entries = sorted(
                os.listdir(location), key=lambda name: (name.endswith(".egg-link"), name)
            )
        except OSError:
            continue
        if location.endswith(".egg"):
            egg = egg_info(location, "EGG-INFO")
            if egg:
                found.setdefault(re.sub(r"[-_.]+", "-", egg["name"]).lower(), egg)
        for entry in entries:
            if entry.startswith("~"):
                broken.append(os.path.join(location, entry))
                continue
            for ending, reader in READERS:
                if not entry.endswith(ending):
                    continue
                distribution = reader(location, entry)
                if distribution is None:
                    broken.append(os.path.join(location, entry))
                    break
                key = re.sub(r"[-_.]+", "-", distribution["name"]).lower()
                # the first on the path is the one that is imported
                found.setdefault(key, distribution)
                if key == "torch":
                    torches.setdefault(location, distribution)
                break
    return found, broken, torches


def version_constants(path):
    """The module-level constants of torch/version.py, parsed and not run."""
    text = read_text(path)
    return None if text is None else constants_in(text)


def constants_in(text):
    """The module-level constants of a Python file, by name; none where it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is None:
            continue
        try:
            literal = ast.literal_eval(value)
        except (ValueError, TypeError):
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = literal
    return found


def cxx11_abi(lib_dir):
    """c10::Error's constructor takes a std::string: its mangled name in libc10.so tells which
    one."""
    content = read_plain(os.path.join(lib_dir, "libc10.so")) or b""
    if b"_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_string" in content:
        return True
    if b"_ZN3c105ErrorC2ENS_14SourceLocationESs" in content:
        return False
    return None


def torch_files(paths):
    """The first of these folders that holds torch's files, and what they say."""
    for location in paths:
        found = torch_in(os.path.join(location, "torch"))
        if found:
            return found
    return None


def torch_in(folder):
    """What the files of a package torch say; None where there is no torch/version.py."""
    constants = version_constants(os.path.join(folder, "version.py"))
    if constants is None:
        return None
    lib_dir = os.path.join(folder, "lib")
    return {
        "folder": folder,
        "version": constants.get("__version__"),
        "cuda": constants.get("cuda"),
        "hip": constants.get("hip"),
        "git_version": constants.get("git_version"),
        "lib_dir": lib_dir if os.path.isdir(lib_dir) else None,
        "cxx11_abi": cxx11_abi(lib_dir),
    }


def imported_torch():
    """The torch that `import torch` would take, by Python's own search, which does not run it.

    The finder of an editable install leads to a folder that is not on sys.path.
    """
    own_path = list(sys.path)
    # The first entry is the folder of the caller.
    sys.path[:] = [path for path in sys.path if path and path != os.getcwd()]
    try:
        spec = importlib.util.find_spec("torch")
        folders = list(spec.submodule_search_locations or ()) if spec and spec.origin else []
    except Exception:
        return None  # a finder of somebody else that is broken
    finally:
        sys.path[:] = own_path
    return torch_in(folders[0]) if folders else None


def torch_module(location):
    """What `import torch` would take from this folder, and which kind of module that is."""
    folder = os.path.join(location, "torch")
    if glob.glob(os.path.join(glob.escape(folder), "__init__.*")):
        return folder, "package"
    if os.path.isfile(folder + ".py"):
        return folder + ".py", "module"
    return folder, "namespace" if os.path.isdir(folder) else ""


def torch_places(paths, torches):
    """Every folder that holds torch's files or its metadata: the second of two is hidden, or hides
    the first."""
    places = []
    for location in paths:
        module, files = torch_module(location)
        distribution = torches.get(location)
        if files or distribution:
            places.append(
                {
                    "location": os.path.realpath(location),
                    "torch": os.path.realpath(module),
                    "files": files,
                    "version": distribution["version"] if distribution else None,
                    "editable": bool(distribution and distribution["editable"]),
                }
            )
    return places


def libc():
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        return [name, version]
    except (AttributeError, ValueError, OSError):
        pass
    for loader in glob.glob("/lib/ld-musl-*.so.1"):
        import subprocess

        answer = subprocess.Popen(
            [loader], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ).communicate()[0]
        match = re.search(rb"Version (\d+\.\d+)", answer)
        if match:
            return ["musl", match.group(1).decode()]
    return ["", ""]


def scheme_paths(name=None, variables=None):
    paths = sysconfig.get_paths(name, vars=variables) if name else sysconfig.get_paths()
    return {key: paths[key] for key in ("purelib", "platlib", "scripts", "data", "include")}


def user_scheme():
    if not site.ENABLE_USER_SITE:
        return None
    name = "posix_user"
    if os.name == "nt":
        name = "nt_user"
    elif sys.platform == "darwin":
        name = "osx_framework_user"
    if name not in sysconfig.get_scheme_names():
        name = "posix_user"
    return scheme_paths(name)


def markers():
    implementation = sys.implementation.version
    full = "%d.%d.%d" % tuple(implementation[:3])
    if implementation.releaselevel != "final":
        full += implementation.releaselevel[0] + str(implementation.serial)
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_version": "%d.%d" % sys.version_info[:2],
        "sys_platform": sys.platform,
    }


def machine_platform():
    """What wheels have to be for. On a Mac sysconfig names what this Python was built for, such as
    macosx-10.9-universal2; wheels are for the system that runs and its processor (as packaging.tags
    has it).
    """
    release, _, machine = platform.mac_ver()
    parts = release.split(".")
    if (
        sys.platform != "darwin"
        or len(parts) < 2
        or not machine
        or not all(part.isdigit() for part in parts[:2])
    ):
        return sysconfig.get_platform()
    # From macOS 11 on minor releases have no tags of their own.
    minor = parts[1] if int(parts[0]) < 11 else "0"
    return "macosx-%s.%s-%s" % (parts[0], minor, machine)


def externally_managed():
    if sys.prefix != sys.base_prefix:
        return None
    return read_text(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))


def search_paths():
    """The folders of sys.path; that of the caller must not count as a place of distributions."""
    paths = []
    for path in sys.path:
        if path and path != os.getcwd() and os.path.isdir(path):
            real = os.path.abspath(path)
            if real not in paths:
                paths.append(real)
    return paths


def ensurepip_wheel():
    wheels = glob.glob(
        os.path.join(os.path.dirname(os.__file__), "ensurepip", "_bundled", "pip-*.whl")
    )
    # Debian takes the wheels out of ensurepip and keeps them here.
    wheels = wheels or glob.glob("/usr/share/python-wheels/pip-*.whl")
    return max(wheels) if wheels else None


def interpreter_facts():
    return {
        "executable": sys.executable,
        "version": "%d.%d.%d" % sys.version_info[:3],
        "implementation": sys.implementation.name,
        "abiflags": getattr(sys, "abiflags", "")
        or ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
        "platform": machine_platform(),
        "libc": libc(),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "scheme": scheme_paths(),
        "user_site": site.getusersitepackages() if site.ENABLE_USER_SITE else None,
        "user_base": site.getuserbase() if site.ENABLE_USER_SITE else None,
        "user_scheme": user_scheme(),
        "ensurepip_wheel": ensurepip_wheel(),
        "externally_managed": externally_managed(),
        "conda": os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
        "markers": markers(),
    }


def main():
    paths = search_paths()
    found, broken, torches = installed_distributions(paths)
    answer = {
        "result": "success",
        "paths": paths,
        "installed": found,
        "broken": broken,
        "torch": imported_torch() or torch_files(paths),
        "torch_places": torch_places(paths, torches),
    }
    answer.update(interpreter_facts())
    return answer


def write_answer():
    word, chunk = b"", b"?"
    while chunk and len(word) < 16:
        chunk = os.read(0, 16 - len(word))
        word += chunk
    line = b"\n" + word + b" " + json.dumps(main()).encode("ascii") + b"\n"
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    write_answer()
