"""Do we read every address as it is, and write it again? Measures it on real addresses, and writes
docs/hosts.md.

    scripts/report_hosts.py [--check | --write] [FILE.jsonl]

FILE has one JSON object a line, {"url": ...}; without it, tests/index/wheel_urls.jsonl: addresses
that were seen in public lock files, Dockerfiles and scripts. Of each, project, version, torch,
accelerator, C++ ABI, Python and platform are read, and from these alone the address is made, or the
page that lists it. --check fails where docs/hosts.md says otherwise.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence
from urllib.parse import unquote, urlsplit

from safe_install.index.catalog import known_mirrors, known_projects, load_project, torch_table
from safe_install.index.facts import HostEntry
from safe_install.index.filename import parse_filename
from safe_install.index.location import HostFacts, find_addresses, read_location, read_wheel_url

ROOT = Path(__file__).resolve().parents[1]
URLS = ROOT / "tests" / "index" / "wheel_urls.jsonl"
REPORT = ROOT / "docs" / "hosts.md"
START, END = "<!-- made by scripts/report_hosts.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Outcome:
    """What became of one address."""

    url: str
    kind: str  # "address", "page", or "missed"
    project: str = ""
    reason: str = ""  # why it was missed


def measure(url: str) -> Outcome:
    """Read one address and make it again."""
    name = parse_filename(urlsplit(url).path.rsplit("/", 1)[-1])
    if name is None:
        return Outcome(url, "missed", "", "its file name is not that of a wheel")
    project = name.project
    facts: Optional[HostFacts] = torch_table() if project == "torch" else None
    if project in known_projects():
        facts = load_project(project)
    if facts is None:
        return Outcome(url, "missed", project, "not a project of the wheel index")
    original = unmirrored(url)
    read = read_wheel_url(original, facts)
    assert read is not None
    home = next((host for host in facts.hosts if lies_on(host, original)), None)
    if home is None:
        return Outcome(
            url, "missed", project, f"{place_of(url)} is no host of the wheel index for it"
        )
    made = list(find_addresses(facts, read))
    if any(unquote(address.url) == unquote(original) for address in made if not address.is_page):
        return Outcome(url, "address", project)
    if any(address.is_page and address.host == home.host for address in made):
        return Outcome(url, "page", project)
    return Outcome(
        url, "missed", project, "neither its address nor its page can be made from what is read"
    )


def unmirrored(url: str) -> str:
    """The address that a mirror stands in for."""
    for mirror in known_mirrors().values():
        for start, by in mirror.pairs:
            if url.startswith(by + "/"):
                return start + url[len(by) :]
    return url


def lies_on(host: HostEntry, url: str) -> bool:
    """Is this address one of the host's?"""
    if host.repository:
        return (
            unquote(url)
            .lower()
            .startswith(f"https://github.com/{host.repository.lower()}/releases/download/")
        )
    return read_location(host, url) is not None


def place_of(url: str) -> str:
    """The host, and on a host of many publishers the publisher."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    owner = "/".join(parts.path.split("/")[1:3])
    return (
        f"{host}/{owner}"
        if host in ("github.com", "huggingface.co") or "amazonaws" in host
        else host
    )


def read_urls(path: Path) -> List[str]:
    return [
        json.loads(line)["url"] for line in path.read_text("utf-8").splitlines() if line.strip()
    ]


def render(outcomes: Sequence[Outcome]) -> str:
    """The table by host, and every miss with its reason."""
    counts: Dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(place_of(outcome.url), Counter())[outcome.kind] += 1
    lines = ["| host | addresses | made again | its page named | missed |", "|---|---|---|---|---|"]
    for host, kinds in sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        lines.append(
            f"| {host} | {sum(kinds.values())} | {kinds['address']} | {kinds['page']} | "
            f"{kinds['missed']} |"
        )
    total = Counter(outcome.kind for outcome in outcomes)
    lines.append(
        f"| all | {len(outcomes)} | {total['address']} | {total['page']} | {total['missed']} |"
    )
    found = len(outcomes) - total["missed"]
    lines += ["", f"{found} of {len(outcomes)}: {100 * found / len(outcomes):.1f} %.", ""]
    missed = [outcome for outcome in outcomes if outcome.kind == "missed"]
    if missed:
        lines += ["| missed | why |", "|---|---|"]
        lines += [
            f"| `{unquote(o.url.rsplit('/', 1)[-1])}` ({place_of(o.url)}) | {o.reason} |"
            for o in missed
        ]
    return "\n".join(lines)


def replaced(text: str, table: str) -> str:
    """The report with a new table between its two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table}\n{END}{after}"


def main(arguments: Iterable[str]) -> int:
    words = list(arguments)
    files = [Path(word) for word in words if not word.startswith("--")]
    table = render([measure(url) for url in read_urls(files[0] if files else URLS)])
    if "--write" in words:
        REPORT.write_text(replaced(REPORT.read_text("utf-8"), table), "utf-8")
        return 0
    if "--check" in words:
        text = REPORT.read_text("utf-8")
        return 0 if replaced(text, table) == text else 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
