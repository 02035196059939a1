# Reads the facts of an interpreter and its installed distributions. Stand-alone: runs inside the
# managed interpreter, with the standard library only, in Python 3.6 syntax; imports nothing of
# ours. torch is not imported; its files are read.
#
# It writes one line: a word of 16 letters, which it reads from stdin, and a JSON object. The word
# marks the answer, since files that run at every start of this Python may write to stdout, too.
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
    """The bytes of a regular file; None if it cannot be read or is too large."""
    try:
        # O_NONBLOCK, since opening a FIFO would wait for a writer.
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
    """The text of a regular file; None if it cannot be read."""
    content = read_plain(path)
    if content is None:
        return None
    return content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def read_stripped(path):
    text = read_text(path)
    return text.strip() if text else None


def read_metadata(path):
    """Name, version and requirements of METADATA or PKG-INFO; None if it has no name or version."""
    text = read_text(path)
    if text is None:
        return None
    # The description comes after the first blank line.
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
    """The distribution of a dist-info folder; None if it has no valid metadata."""
    folder = os.path.join(location, entry)
    found = read_metadata(os.path.join(folder, "METADATA"))
    if found is None:
        return None
    direct_url = read_direct_url(folder)
    dir_info = direct_url.get("dir_info") if direct_url else None
    found.update(
        metadata_path=folder,
        location=location,
        installer=read_stripped(os.path.join(folder, "INSTALLER")),
        direct_url=direct_url,
        editable=isinstance(dir_info, dict) and bool(dir_info.get("editable")),
        has_record=os.path.isfile(os.path.join(folder, "RECORD")),
        requested=os.path.isfile(os.path.join(folder, "REQUESTED")),
    )
    return found


def read_egg_requires(path):
    """The requirements in a requires.txt, without those in its sections, which are for extras.
    None: there is no such file, or it is empty."""
    text = read_text(path)
    if not text:
        return None
    plain = "" if text.startswith("[") else text.split("\n[", 1)[0]
    return [line.strip() for line in plain.splitlines() if line.strip()]


def egg_info(location, entry, editable=False):
    """The distribution of an egg-info folder or file; None if it has no valid metadata."""
    path = os.path.join(location, entry)
    is_folder = os.path.isdir(path)
    found = read_metadata(os.path.join(path, "PKG-INFO") if is_folder else path)
    if found is None:
        return None
    requires = read_egg_requires(os.path.join(path, "requires.txt")) if is_folder else None
    if requires is not None:
        found["requires"] = requires
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
    """The distribution to whose sources a link of setuptools leads; None if there is none."""
    lines = (read_text(os.path.join(location, entry)) or "").splitlines()
    source = lines[0].strip() if lines else ""
    if not os.path.isdir(source):
        return None
    for name in sorted(os.listdir(source)):
        if name.endswith(".egg-info"):
            found = egg_info(source, name, editable=True)
            if found:
                found["location"] = location
                return found
    return None


READERS = ((".dist-info", dist_info), (".egg-info", egg_info), (".egg-link", egg_link))


def find_reader(entry):
    """The function that reads the metadata with this file name; None if it is not metadata."""
    for ending, reader in READERS:
        if entry.endswith(ending):
            return reader
    return None


def normalize(name):
    """The canonical name of a project (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def list_entries(location):
    """The names in a folder, links of setuptools last: the folder itself comes before them on
    sys.path. None if it cannot be read."""
    try:
        names = os.listdir(location)
    except OSError:
        return None
    return sorted(names, key=lambda name: (name.endswith(".egg-link"), name))


def installed_distributions(paths):
    """The distributions in these folders: those by name, the paths of unreadable metadata, and the
    metadata of torch by folder."""
    found, broken, torches = {}, [], {}
    for location in paths:
        entries = list_entries(location)
        if entries is None:
            continue
        if location.endswith(".egg"):
            egg = egg_info(location, "EGG-INFO")
            if egg:
                found.setdefault(normalize(egg["name"]), egg)
        for entry in entries:
            reader = find_reader(entry)
            is_leftover = entry.startswith("~")  # of an interrupted pip
            if reader is None and not is_leftover:
                continue
            distribution = None if is_leftover else reader(location, entry)
            if distribution is None:
                broken.append(os.path.join(location, entry))
                continue
            key = normalize(distribution["name"])
            # The first one on the path is imported.
            found.setdefault(key, distribution)
            if key == "torch":
                torches.setdefault(location, distribution)
    return found, broken, torches


def constants_in(text):
    """The module-level constants of a Python source, by name; none if it is not valid Python. It is
    not run."""
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
    """The C++ ABI of torch's libraries; None if it is not known. The constructor of c10::Error has
    a std::string as argument, and its mangled name in libc10.so contains the ABI."""
    content = read_plain(os.path.join(lib_dir, "libc10.so")) or b""
    if b"_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_string" in content:
        return True
    if b"_ZN3c105ErrorC2ENS_14SourceLocationESs" in content:
        return False
    return None


def torch_files(paths):
    """What the files of torch say, from the first of these folders that has them; else None."""
    for location in paths:
        found = torch_in(os.path.join(location, "torch"))
        if found:
            return found
    return None


def torch_in(folder):
    """What the files of torch in its own folder say; None without a version.py."""
    text = read_text(os.path.join(folder, "version.py"))
    if text is None:
        return None
    constants = constants_in(text)
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
    """The torch that `import torch` would take. Python searches it, without running it: an editable
    install may lead to a folder that is not on sys.path."""
    own_path = list(sys.path)
    # Without the working folder, which is on the path for `python -c`.
    sys.path[:] = [path for path in sys.path if path and path != os.getcwd()]
    try:
        spec = importlib.util.find_spec("torch")
        folders = list(spec.submodule_search_locations or ()) if spec and spec.origin else []
    except Exception:
        return None  # a broken finder of another package
    finally:
        sys.path[:] = own_path
    return torch_in(folders[0]) if folders else None


def torch_module(location):
    """The path that `import torch` would take from this folder, and its kind: "package", "module",
    "namespace", or "" if there is none."""
    folder = os.path.join(location, "torch")
    if glob.glob(os.path.join(glob.escape(folder), "__init__.*")):
        return folder, "package"
    if os.path.isfile(folder + ".py"):
        return folder + ".py", "module"
    return folder, "namespace" if os.path.isdir(folder) else ""


def torch_places(paths, torches):
    """All folders that have files or metadata of torch, in the order of sys.path."""
    places = []
    for location in paths:
        module, files = torch_module(location)
        distribution = torches.get(location)
        if not files and not distribution:
            continue
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
    """Name and version of the C library: ["glibc", "2.36"]; ["", ""] if they are not known."""
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
    """The paths of `pip install --user`; None if this Python does not use them."""
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
    """The environment markers (PEP 508)."""
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
    """The platform for which wheels must be: "linux-x86_64".

    On macOS it is that of the running system and its processor, as in packaging.tags. sysconfig
    would name the one for which Python was built, such as macosx-10.9-universal2.
    """
    if sys.platform != "darwin":
        return sysconfig.get_platform()
    release, _, machine = platform.mac_ver()
    parts = release.split(".")
    if not machine or len(parts) < 2 or not all(part.isdigit() for part in parts[:2]):
        return sysconfig.get_platform()
    # From macOS 11 on, minor releases have no tags of their own.
    minor = parts[1] if int(parts[0]) < 11 else "0"
    return "macosx-%s.%s-%s" % (parts[0], minor, machine)


def externally_managed():
    """The text of EXTERNALLY-MANAGED (PEP 668); None if the environment is not."""
    if sys.prefix != sys.base_prefix:
        return None
    return read_text(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))


def search_paths():
    """The folders of sys.path, each once, without the working folder."""
    paths = []
    for path in sys.path:
        if path and path != os.getcwd() and os.path.isdir(path):
            real = os.path.abspath(path)
            if real not in paths:
                paths.append(real)
    return paths


def ensurepip_wheel():
    """The wheel of pip that is bundled with this Python; None if there is none."""
    bundled = os.path.join(os.path.dirname(os.__file__), "ensurepip", "_bundled", "pip-*.whl")
    # Debian has the wheels in a folder of its own.
    wheels = glob.glob(bundled) or glob.glob("/usr/share/python-wheels/pip-*.whl")
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
