"""Addresses of pages and files, written from the templates of the wheel index and read by them.

Fields: {torch} the release of torch, 2.8.1; {base} the one under whose name its wheels lie, 2.8.0;
{minor} 2.8; {digits} 28; {digits3} 281; {accelerator} cu126; {cuda} 12.6; {python} 311; {project};
{version} and {tag} of a release; {file} the file name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, Iterator, NamedTuple, Optional, Pattern, Protocol, Sequence, Tuple
from urllib.parse import quote, unquote, urlsplit

from safe_install.index import filename as names
from safe_install.index.facts import Build, HostEntry, Layout, TorchMatch
from safe_install.index.filename import WheelName, compile_template, fields_of, torch_of_fields
from safe_install.models import BuiltFor
from safe_install.tags import container_of_name

FIELDS = {
    **names.FIELDS,
    "base": r"\d+\.\d+\.\d+",
    "python": r"\d{2,3}",
    "project": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "version": r"[^/]+",
    "tag": r"[^/]+",
    "file": r"[^/]+",
}
_MAX_URL = 4096


class Places(Protocol):
    """What is known about where something lies; a Project has it, and torch's table."""

    @property
    def hosts(self) -> Sequence[HostEntry]:
        """In the order in which they are asked."""

    @property
    def builds(self) -> Sequence[Build]:
        """Known wheels."""

    @property
    def accelerator(self) -> Optional[str]:
        """Of every wheel, where the project's name says it."""


class Address(NamedTuple):
    """Where a wheel lies, or the page that lists it."""

    host: str
    url: str
    is_page: bool = False


def expand_template(template: str, **values: str) -> str:
    """A URL template of the wheel index with its values; `+` and other reserved characters become
    %XX."""
    scheme, _, rest = template.partition("://")
    filled = rest.format(**values)
    host, slash, path = filled.partition("/")
    return f"{scheme}://{host}{slash}{quote(path, safe='/')}"


def fields_of_template(template: str) -> Tuple[str, ...]:
    """The names of its fields."""
    return tuple(re.findall(r"{(\w*)}", template))


@lru_cache(maxsize=1024)
def _pattern(template: str, is_suffix: bool) -> Pattern[str]:
    path = template.partition("://")[2].partition("/")[2] if is_suffix else template
    pattern = compile_template(path, FIELDS).pattern
    return re.compile(f"(?:.*/)?{pattern}" if is_suffix else pattern, re.ASCII | re.DOTALL)


def read_template(template: str, url: str, *, anywhere: bool = False) -> Optional[Dict[str, str]]:
    """The values that make `url` of the template, None when it is not of that form.

    `anywhere`: on any host and below any folder, for copies and mirrors.
    """
    if len(url) > _MAX_URL:
        return None
    plain = unquote(url.partition("#")[0].partition("?")[0])
    if anywhere:
        plain = plain.partition("://")[2].partition("/")[2]
    found = _pattern(template, anywhere).fullmatch(plain)
    return (
        None
        if found is None
        else {name: value for name, value in found.groupdict().items() if value is not None}
    )


# --- reading --------------------------------------------------------------------------------------


def read_location(
    host: HostEntry, url: str, *, found_in: str = "", anywhere: bool = False
) -> Optional[BuiltFor]:
    """What the address of a file, else of the page that lists it, says on one host; None: it is not
    of this host."""
    templates = [(host.wheel, url)] if host.wheel else []
    templates += [(page, found_in) for page in host.pages if found_in]
    answer: Optional[BuiltFor] = None
    for template, address in templates:
        values = read_template(template, address, anywhere=anywhere)
        if values is None:
            continue
        said = BuiltFor(torch_of_fields(values), values.get("accelerator"))
        # The file's own folder is nearer to the bytes than the page, which may list other folders
        # too.
        answer = (
            said
            if answer is None
            else BuiltFor(answer.torch or said.torch, answer.accelerator or said.accelerator)
        )
    if answer is not None and answer.accelerator is None and host.kinds == ("cpu",):
        return BuiltFor(answer.torch, "cpu")
    return answer


def read_built_for(
    project: Places, host: HostEntry, name: WheelName, url: str, *, found_in: str = ""
) -> BuiltFor:
    """What a wheel was built for: its name, completed by where it lies. The name is nearer to the
    bytes."""
    own = names.parse_local(name.parsed_version.local or "", first=_grammars(project, host))
    location = read_location(host, url, found_in=found_in)
    if location is None:
        location = next(
            (
                said
                for other in project.hosts
                for said in [read_location(other, url, found_in=found_in, anywhere=True)]
                if said is not None
            ),
            BuiltFor(),
        )
    return BuiltFor(
        _nearest_torch(project, host, own.torch, location.torch),
        own.accelerator
        or location.accelerator
        or project.accelerator
        or ("cpu" if host.kinds == ("cpu",) else None),
        own.cxx11_abi,
    )


def _grammars(project: Places, host: HostEntry) -> Tuple[str, ...]:
    rows = [
        build.filename for build in project.builds if build.host == host.host and build.filename
    ]
    containers = ["dao-container"] if host.filename == "dao" else []
    return tuple(dict.fromkeys([host.filename, *containers, *rows]))


def _nearest_torch(
    project: Places, host: HostEntry, said: Optional[str], lies_in: Optional[str]
) -> Optional[str]:
    """X.Y.Z where the folder knows it and the name agrees; as exact as the host's wheels are
    bound."""
    torch = (
        lies_in if lies_in and (said is None or (lies_in + ".").startswith(said + ".")) else said
    )
    if torch is None:
        return None
    parts = torch.split(".")
    if container_of_name(torch):
        return torch
    if host.torch_match is TorchMatch.MINOR:
        return ".".join(parts[:2])
    if host.torch_match is TorchMatch.EXACT and len(parts) == 2:
        return f"{torch}.0"  # its folders say X.Y, and what lies there was built for X.Y.0
    return torch


def read_wheel_url(url: str, project: Optional[Places] = None) -> Optional[WheelName]:
    """A wheel's URL: its name, completed by what the places of the project say. None for anything
    else."""
    try:
        name = names.parse_filename(urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError:
        return None
    if name is None or project is None:
        return name
    host = next((host for host in project.hosts if read_location(host, url) is not None), None)
    if host is None:
        host = HostEntry("", Layout.FIND_LINKS, "plain")
    return name.with_built_for(read_built_for(project, host, name, url))


# --- writing --------------------------------------------------------------------------------------


def find_addresses(project: Places, name: WheelName) -> Iterator[Address]:
    """Where a wheel lies, from what it is alone: project, version, torch, accelerator, C++ ABI and
    wheel tags.

    The addresses of the file that the templates make, and those of the pages that list it.
    """
    for host in project.hosts:
        for torch in _spellings(name.built_for.torch):
            values = _values(name, torch)
            if host.wheel is not None:
                yield from _file_addresses(project, host, name, values)
            for page in host.pages:
                if _can_expand(page, values):
                    yield Address(host.host, expand_template(page, **values), is_page=True)
        if host.repository:
            yield Address(host.host, releases_page(host.repository), is_page=True)


def releases_page(repository: str) -> str:
    """The page of a repository's releases in GitHub's REST API."""
    return f"https://api.github.com/repos/{repository}/releases"


def _spellings(torch: Optional[str]) -> Tuple[str, ...]:
    if torch is None:
        return ("",)
    return (torch,) if torch.count(".") > 1 or container_of_name(torch) else (torch, f"{torch}.0")


def _values(name: WheelName, torch: str) -> Dict[str, str]:
    values = fields_of(torch, name.built_for.accelerator or "", cxx11_abi=name.built_for.cxx11_abi)
    python = re.match(r"(?:cp|py)(\d{2,3})", name.python)
    values.update(
        base=torch,
        python=python.group(1) if python else "",
        project=name.project,
        version=name.parsed_version.public,
    )
    return values


def _can_expand(template: str, values: Dict[str, str]) -> bool:
    return all(values.get(field) for field in fields_of_template(template))


def _file_addresses(
    project: Places, host: HostEntry, name: WheelName, values: Dict[str, str]
) -> Iterator[Address]:
    assert host.wheel is not None  # noqa: S101 - asked by the caller
    known = [
        build.tag for build in project.builds if build.tag and build.version == values["version"]
    ]
    for grammar in _grammars(project, host):
        file = names.render_filename(
            name.distribution,
            values["version"],
            grammar=grammar,
            built_for=BuiltFor(
                torch_of_fields(values), name.built_for.accelerator, name.built_for.cxx11_abi
            ),
            tags=(name.python, name.abi, name.platform),
            build=name.build,
        )
        for tag in dict.fromkeys([host.tag.format(**values), *known]):
            filled = {**values, "tag": tag, "file": file}
            if _can_expand(host.wheel, filled):
                yield Address(host.host, expand_template(host.wheel, **filled))
