"""The command line that the module runs, and what the program's JSON document means. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

CHANGING = ("installed", "uninstalled", "undone", "synced")
LOCKED = 14  # another safe-install holds the environment: ask again
VERBS_OF_ONE_CHANGE = ("commit", "abandon", "undo")
INSTALLING_VERBS = ("install", "stage")
REMOVAL = {"install": ("uninstall", "--yes"), "stage": ("stage", "--remove", "--yes")}
MAX_ROWS = 200


class NoAnswer(Exception):
    """The program's output is not its JSON document."""


def words_for(wanted: Mapping[str, Any], *, only_plan: bool) -> List[str]:
    """The command line of the program for a task. `wanted`: the module's parameters; `only_plan`:
    True in check mode."""
    verb, options = wanted["verb"], list(wanted["options"])
    identifier = wanted["transaction"]
    if verb in INSTALLING_VERBS:
        return _installing_words(wanted, only_plan=only_plan)
    if verb in VERBS_OF_ONE_CHANGE:
        return ["status", identifier] if only_plan else [verb, identifier, *options]
    if verb == "status" and identifier:
        return ["status", identifier, *options]
    return [verb, *options]


def _installing_words(wanted: Mapping[str, Any], *, only_plan: bool) -> List[str]:
    verb, options, names = wanted["verb"], list(wanted["options"]), wanted["name"]
    if verb == "stage" and wanted["run"]:
        options += ["--run", wanted["run"]]
    if wanted["state"] == "absent":
        return ["inventory"] if only_plan else [*REMOVAL[verb], *options, *names]
    plan = ["--dry-run"] if only_plan else []
    return [verb, *plan, *options, *names]


def read_document(status: int, output: bytes) -> Dict[str, Any]:
    """The JSON document that the program wrote. `status`: its exit status. Errors: NoAnswer."""
    try:
        document = json.loads(output.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NoAnswer(f"the program ended with {status} and wrote no document") from None
    if not isinstance(document, dict) or document.get("exit_code") != status:
        raise NoAnswer(f"the program ended with {status}, and its document says something else")
    return document


def result_of(
    document: Mapping[str, Any], wanted: Mapping[str, Any], *, only_plan: bool
) -> Dict[str, Any]:
    """The result of the task, in Ansible's form."""
    steps = steps_of(document)
    is_inventory = document.get("command") == "inventory"
    if only_plan and is_inventory and wanted["verb"] in INSTALLING_VERBS:
        steps = steps_of_removal(document, wanted["name"])
    outcome = str(document.get("outcome"))
    result: Dict[str, Any] = {
        "code": outcome,
        "exit_code": document["exit_code"],
        "transaction": document.get("transaction"),
        "steps": steps[:MAX_ROWS],
        "changed": outcome in CHANGING,
        "diff": diff_of(steps),
    }
    if only_plan:
        result["changed"] = would_change(document, wanted, steps)
    if wanted["verb"] in ("status", "inventory"):
        result["details"] = short_details(document.get("details"))
        result["environment"] = document.get("environment")
    if document["exit_code"] != 0:
        result.update(failure_of(document), failed=True)
    return result


def would_change(
    document: Mapping[str, Any], wanted: Mapping[str, Any], steps: Sequence[Any]
) -> bool:
    """Would the task change files outside check mode? Staging counts as a change, because Ansible
    shows the difference of changed tasks only."""
    verb = wanted["verb"]
    if verb in INSTALLING_VERBS:
        return bool(steps)
    needed = {"commit": "staged", "undo": "committed"}.get(verb)
    states = [row.get("state") for row in changes_of(document)]
    return needed is not None and states == [needed]


def changes_of(document: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """The rows of changes in the document of `status`."""
    details = document.get("details")
    rows = details.get("changes") if isinstance(details, dict) else None
    return [row for row in rows or () if isinstance(row, dict)]


def steps_of(document: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The steps of the plan: what is added, replaced and removed."""
    plan = document.get("plan")
    rows = plan.get("steps") if isinstance(plan, dict) else None
    keys = ("action", "name", "version", "from_version")
    found = []
    for row in rows or ():
        if isinstance(row, dict):
            found.append({key: row.get(key) for key in keys})
    return found


def steps_of_removal(document: Mapping[str, Any], names: Sequence[str]) -> List[Dict[str, Any]]:
    """The steps that would remove these distributions, as far as the inventory has them."""
    asked = {normal_name(name) for name in names}
    details = document.get("details")
    rows = details.get("distributions") if isinstance(details, dict) else None
    found = []
    for row in rows or ():
        if normal_name(row["name"]) in asked:
            step = {"action": "remove", "name": row["name"], "version": None}
            found.append({**step, "from_version": row["version"]})
    return found


def normal_name(name: str) -> str:
    """The normalized name, as in the packaging specifications."""
    return re.sub(r"[-_.]+", "-", name).lower()


def diff_of(steps: Sequence[Mapping[str, Any]]) -> Dict[str, str]:
    """The distributions before and after, one a line, for Ansible's `--diff`."""
    before = [f"{one['name']}=={one['from_version']}" for one in steps if one["from_version"]]
    after = [f"{one['name']}=={one['version']}" for one in steps if one["version"]]
    return {"before": _lines(before), "after": _lines(after)}


def _lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in sorted(texts))


def failure_of(document: Mapping[str, Any]) -> Dict[str, str]:
    """The code, message and hint of a document with an exit status other than 0."""
    error = document.get("error")
    if isinstance(error, dict):
        names = {"code": "code", "msg": "message", "hint": "hint"}
        return {name: str(error.get(key, "")) for name, key in names.items()}
    finding = first_error(document)
    status, outcome = document["exit_code"], str(document.get("outcome"))
    if finding is None:
        return {"code": outcome, "msg": f"{outcome}: exit status {status}", "hint": ""}
    message = f"{outcome}: {finding.get('detail')}"
    return {"code": outcome, "msg": message, "hint": str(finding.get("hint", ""))}


def first_error(document: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """The first finding that is an error."""
    for finding in document.get("findings") or ():
        if isinstance(finding, dict) and finding.get("severity") == "error":
            return finding
    return None


def short_details(details: Any) -> Dict[str, Any]:
    """The details without the list of distributions, and with at most MAX_ROWS changes."""
    if not isinstance(details, dict):
        return {}
    short = {key: value for key, value in details.items() if key != "distributions"}
    if isinstance(details.get("changes"), list):
        rows = changes_of({"details": details})[:MAX_ROWS]
        short["changes"] = [_short_change(row) for row in rows]
    return short


def _short_change(row: Mapping[str, Any]) -> Dict[str, Any]:
    keys = ("id", "state", "detail", "fits", "expires", "undone_by")
    return {key: row.get(key) for key in keys}
