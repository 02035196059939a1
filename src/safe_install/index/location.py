"""Writes and reads the addresses of pages and files with the templates of the wheel index.

Fields: {torch} the release of torch, 2.8.1; {base} the release that the host names for its wheels,
2.8.0; {minor} 2.8; {digits} 28; {digits3} 281; {accelerator} cu126; {cuda} 12.6; {python} 311;
{project}; {version} and {tag} of a release; {file} the file name.
"""

from __future__ import annotations

import re
from dataclasses import replace
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


class HostFacts(Protocol):
    """The facts about the hosts of a project. A Project and torch's table have them."""

    @property
    def hosts(self) -> Sequence[HostEntry]:
        """The hosts in the order in which they are asked."""

    @property
    def builds(self) -> Sequence[Build]:
        """The known wheels."""

    @property
    def accelerator(self) -> Optional[str]:
        """The accelerator of all wheels, if the project's name has it."""


class Address(NamedTuple):
    """The address of a wheel, or of a page that lists it."""

    host: str
    url: str
    is_page: bool = False


def expand_template(template: str, **values: str) -> str:
    """The URL that a template makes of these values. `+` and other reserved characters of the path
    become %XX."""
    scheme, _, rest = template.partition("://")
    filled = rest.format(**values)
    host, slash, path = filled.partition("/")
    return f"{scheme}://{host}{slash}{quote(path, safe='/')}"


def fields_of_template(template: str) -> Tuple[str, ...]:
    """The names of the fields of a template."""
    return tuple(re.findall(r"{(\w*)}", template))


@lru_cache(maxsize=1024)
def _pattern(template: str, is_suffix: bool) -> Pattern[str]:
    path = template.partition("://")[2].partition("/")[2] if is_suffix else template
    pattern = compile_template(path, FIELDS).pattern
    return re.compile(f"(?:.*/)?{pattern}" if is_suffix else pattern, re.ASCII | re.DOTALL)


def read_template(template: str, url: str, *, anywhere: bool = False) -> Optional[Dict[str, str]]:
    """The values with which the template makes `url`; None if it cannot make it.

    `anywhere`: only the path counts, and it may lie below any folder. For copies and mirrors.
    """
    if len(url) > _MAX_URL:
        return None
    plain = unquote(url.partition("#")[0].partition("?")[0])
    if anywhere:
        plain = plain.partition("://")[2].partition("/")[2]
    found = _pattern(template, anywhere).fullmatch(plain)
    if found is None:
        return None
    return {name: value for name, value in found.groupdict().items() if value is not None}


# --- reading --------------------------------------------------------------------------------------


def read_location(
    host: HostEntry, url: str, *, found_in: str = "", anywhere: bool = False
) -> Optional[BuiltFor]:
    """What a wheel on this host was built for, from its address and the page that lists it. None:
    neither has the form of this host's addresses.

    `found_in`: the address of the page. `anywhere`: see read_template.
    """
    templates = [(host.wheel, url)] if host.wheel else []
    if found_in:
        templates += [(page, found_in) for page in host.pages]
    torch: Optional[str] = None
    accelerator: Optional[str] = None
    is_of_host = False
    # The address of the file comes first: its page may list files of other folders, too.
    for template, address in templates:
        values = read_template(template, address, anywhere=anywhere)
        if values is None:
            continue
        is_of_host = True
        torch = torch or torch_of_fields(values)
        accelerator = accelerator or values.get("accelerator")
    if not is_of_host:
        return None
    return BuiltFor(torch, accelerator or _only_accelerator(host))


def _only_accelerator(host: HostEntry) -> Optional[str]:
    """ "cpu" for a host that has CPU builds only."""
    return "cpu" if host.kinds == ("cpu",) else None


def read_built_for(
    facts: HostFacts, host: HostEntry, name: WheelName, url: str, *, found_in: str = ""
) -> BuiltFor:
    """What a wheel was built for, from its name and its address. If they differ, the name counts.

    `found_in`: the page that lists it.
    """
    own = names.parse_local(name.parsed_version.local or "", first=_grammars(facts, host))
    location = read_location(host, url, found_in=found_in)
    if location is None:
        location = _read_location_of_copy(facts, url, found_in)
    accelerator = own.accelerator or location.accelerator or facts.accelerator
    return BuiltFor(
        _combine_torch(host, own.torch, location.torch),
        accelerator or _only_accelerator(host),
        own.cxx11_abi,
    )


def _read_location_of_copy(facts: HostFacts, url: str, found_in: str) -> BuiltFor:
    """What the address of a copy says: its path has the form of one of the project's hosts."""
    for host in facts.hosts:
        found = read_location(host, url, found_in=found_in, anywhere=True)
        if found is not None:
            return found
    return BuiltFor()


def _grammars(facts: HostFacts, host: HostEntry) -> Tuple[str, ...]:
    """The grammars of a host's file names."""
    own = [host.filename]
    if host.filename == "dao":
        own.append("dao-container")
    for build in facts.builds:
        if build.host == host.host and build.filename:
            own.append(build.filename)
    return tuple(dict.fromkeys(own))


def _combine_torch(
    host: HostEntry, in_name: Optional[str], in_folder: Optional[str]
) -> Optional[str]:
    """The torch of a wheel, from its name and its folder: the more exact one, if they agree; else
    that of the name. It is given as exactly as the host's wheels need it."""
    torch = in_name
    if in_folder and (in_name is None or f"{in_folder}.".startswith(f"{in_name}.")):
        torch = in_folder
    if torch is None or container_of_name(torch):
        return torch
    parts = torch.split(".")
    if host.torch_match is TorchMatch.MINOR:
        return ".".join(parts[:2])
    if host.torch_match is TorchMatch.EXACT and len(parts) == 2:
        return f"{torch}.0"  # its folders are named X.Y, and their files are built for X.Y.0
    return torch


def read_wheel_url(url: str, facts: Optional[HostFacts] = None) -> Optional[WheelName]:
    """The name of the wheel at a URL, with what it was built for. None: it is not a wheel.

    `facts`: the hosts whose addresses count; without them only the name is read.
    """
    try:
        name = names.parse_filename(urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError:
        return None
    if name is None or facts is None:
        return name
    host = HostEntry("", Layout.FIND_LINKS, "plain")
    for known in facts.hosts:
        if read_location(known, url) is not None:
            host = known
            break
    return name.with_built_for(read_built_for(facts, host, name, url))


# --- writing --------------------------------------------------------------------------------------


def find_addresses(facts: HostFacts, name: WheelName) -> Iterator[Address]:
    """The possible addresses of a wheel, and of the pages that may list it. They are made from its
    name and what it was built for; no host is asked."""
    for host in facts.hosts:
        for torch in _spellings(name.built_for.torch):
            values = _values(name, torch)
            if host.wheel is not None:
                yield from _file_addresses(facts, host, name, values)
            pages = [page for page in host.pages if _can_expand(page, values)]
            for page in pages:
                yield Address(host.host, expand_template(page, **values), is_page=True)
        if host.repository:
            yield Address(host.host, releases_page(host.repository), is_page=True)


def releases_page(repository: str) -> str:
    """The address of a repository's releases in GitHub's REST API."""
    return f"https://api.github.com/repos/{repository}/releases"


def _spellings(torch: Optional[str]) -> Tuple[str, ...]:
    """The names that folders may have for a torch: `2.8` is also `2.8.0`."""
    if torch is None:
        return ("",)
    is_complete = torch.count(".") > 1 or container_of_name(torch)
    return (torch,) if is_complete else (torch, f"{torch}.0")


def _values(name: WheelName, torch: str) -> Dict[str, str]:
    """The fields of templates for a wheel."""
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
    facts: HostFacts, host: HostEntry, name: WheelName, values: Dict[str, str]
) -> Iterator[Address]:
    assert host.wheel is not None  # noqa: S101 - the caller checks it
    version = values["version"]
    known = [build.tag for build in facts.builds if build.tag and build.version == version]
    built_for = replace(name.built_for, torch=torch_of_fields(values))
    for grammar in _grammars(facts, host):
        file = names.render_filename(
            name.distribution,
            version,
            grammar=grammar,
            built_for=built_for,
            tags=(name.python, name.abi, name.platform),
            build=name.build,
        )
        for tag in dict.fromkeys([host.tag.format(**values), *known]):
            filled = {**values, "tag": tag, "file": file}
            if _can_expand(host.wheel, filled):
                yield Address(host.host, expand_template(host.wheel, **filled))
