"""Makes the file that `safe-install wheels --update` takes: all documents of wheel_index/ in one,
and says its hash.

scripts/build_wheel_index.py [FILE]        default: dist/wheel-index-DATE.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Sequence

from safe_install.index.catalog import bundled_date
from safe_install.index.document import SCHEMA, parse_json
from safe_install.index.update import read_bundle

ROOT = Path(__file__).resolve().parents[1]


def make_bundle(folder: Path, date: str) -> str:
    """The text of the file; raises IndexInvalid when a document is not valid."""
    documents = {
        path.stem: parse_json(path.read_text("utf-8"), path.name)
        for path in sorted(folder.glob("*.json"))
        if path.stem != "schema"
    }
    text = json.dumps(
        {"schema": SCHEMA, "date": date, "documents": documents},
        ensure_ascii=False,
        sort_keys=False,
    )
    read_bundle(text, "the new file")
    return text


def main(arguments: Sequence[str]) -> int:
    target = (
        Path(arguments[0]) if arguments else ROOT / "dist" / f"wheel-index-{bundled_date()}.json"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    text = make_bundle(ROOT / "wheel_index", bundled_date())
    target.write_text(text, "utf-8")
    print(f"{target}#sha256={hashlib.sha256(text.encode()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
