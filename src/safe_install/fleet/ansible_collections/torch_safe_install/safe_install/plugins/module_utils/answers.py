"""What the module asks of the program, and what its answers mean. Pure: values in, values out."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

CHANGING = ("installed", "uninstalled", "undone", "synced")
LOCKED = 14  # another safe-install holds the environment: ask again
OF_ONE_CHANGE = ("commit", "abandon", "undo")
PLACING = ("install", "stage")
REMOVAL = {"install": ("uninstall", "--yes"), "stage": ("stage", "--remove", "--yes")}
MOST_ROWS = 200


class NoAnswer(Exception):
    """What the program wrote is no document of it."""


def words_for(wanted: Mapping[str, Any], *, only_plan: bool) -> List[str]:
    """The words of the program for what a task asks; `only_plan`: in check mode."""
    verb, options, names = wanted["verb"], list(wanted["options"]), wanted["name"]
    if verb == "stage" and wanted["run"]:
        options += ["--run", wanted["run"]]
    if verb in PLACING and wanted["state"] == "absent":
        return ["inventory"] if only_plan else [*REMOVAL[verb], *options, *names]
    if verb in PLACING:
        plan = ["--dry-run"] if only_plan else []
        return [verb, *plan, *options, *names]
    if verb in OF_ONE_CHANGE:
        identifier = wanted["transaction"]
        return ["status", identifier] if only_plan else [verb, identifier, *options]
    if verb == "status" and wanted["transaction"]:
        return ["status", wanted["transaction"], *options]
    return [verb, *options]


def read_document(status: int, output: bytes) -> Dict[str, Any]:
    """The document that the program wrote. Errors: NoAnswer."""
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
    """The result of the task, as Ansible has them."""
    steps = steps_of(document)
    if only_plan and document.get("command") == "inventory" and wanted["verb"] in PLACING:
        steps = steps_of_removal(document, wanted["name"])
    outcome = str(document.get("outcome"))
    result: Dict[str, Any] = {
        "code": outcome,
        "exit_code": document["exit_code"],
        "transaction": document.get("transaction"),
        "steps": steps[:MOST_ROWS],
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
    """Would the task have changed files, had it not been asked for the plan alone? What would be
    staged counts: Ansible shows the difference of such tasks alone."""
    verb = wanted["verb"]
    if verb in PLACING:
        return bool(steps)
    needed = {"commit": "staged", "undo": "committed"}.get(verb)
    states = [row.get("state") for row in changes_of(document)]
    return needed is not None and states == [needed]


def changes_of(document: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """The rows of `status`."""
    details = document.get("details")
    rows = details.get("changes") if isinstance(details, dict) else None
    return [row for row in rows or () if isinstance(row, dict)]


def steps_of(document: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """What comes, is replaced and goes."""
    plan = document.get("plan")
    rows = plan.get("steps") if isinstance(plan, dict) else None
    keys = ("action", "name", "version", "from_version")
    return [{key: row.get(key) for key in keys} for row in rows or () if isinstance(row, dict)]


def steps_of_removal(document: Mapping[str, Any], names: Sequence[str]) -> List[Dict[str, Any]]:
    """The same for what would be removed, from an inventory."""
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
    """As the packaging specifications compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def diff_of(steps: Sequence[Mapping[str, Any]]) -> Dict[str, str]:
    """The distributions that differ, before and after, for `--diff`."""
    before = [f"{one['name']}=={one['from_version']}" for one in steps if one["from_version"]]
    after = [f"{one['name']}=={one['version']}" for one in steps if one["version"]]
    return {"before": _lines(before), "after": _lines(after)}


def _lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in sorted(texts))


def failure_of(document: Mapping[str, Any]) -> Dict[str, str]:
    """Our code, message and hint."""
    error = document.get("error")
    if isinstance(error, dict):
        names = {"code": "code", "msg": "message", "hint": "hint"}
        return {ours: str(error.get(theirs, "")) for ours, theirs in names.items()}
    finding = first_error(document)
    status, outcome = document["exit_code"], str(document.get("outcome"))
    if finding is None:
        return {"code": outcome, "msg": f"{outcome}: exit status {status}", "hint": ""}
    message = f"{outcome}: {finding.get('detail')}"
    return {"code": outcome, "msg": message, "hint": str(finding.get("hint", ""))}


def first_error(document: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """The finding that is the reason."""
    for finding in document.get("findings") or ():
        if isinstance(finding, dict) and finding.get("severity") == "error":
            return finding
    return None


def short_details(details: Any) -> Dict[str, Any]:
    """Without the lists that grow with an environment."""
    if not isinstance(details, dict):
        return {}
    short = {key: value for key, value in details.items() if key != "distributions"}
    keys = ("id", "state", "detail", "fits", "expires", "undone_by")
    if isinstance(details.get("changes"), list):
        rows = changes_of({"details": details})[:MOST_ROWS]
        short["changes"] = [{key: row.get(key) for key in keys} for row in rows]
    return short
