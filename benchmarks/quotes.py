"""Check the quoted figures of README.md against the records, or rewrite them.

    python benchmarks/quotes.py            # says which differ; exit status 1 if any does
    python benchmarks/quotes.py --write    # puts the records' figures in their place

A quoted figure is written `<!-- figure: RECORD.FIGURE -->4.2<!-- /figure -->`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _record import SPAN, quoted, requote

README = Path(__file__).resolve().parents[1] / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite what differs")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    differing = [
        f"{match['path']}: README.md has {match['shown']!r}, the record {quoted(match['path'])!r}"
        for match in SPAN.finditer(text)
        if match["shown"] != quoted(match["path"])
    ]
    print("\n".join(differing) or "all quoted figures of README.md are those of the records")
    if arguments.write:
        README.write_text(requote(text), encoding="utf-8")
        return 0
    return int(bool(differing))


if __name__ == "__main__":
    raise SystemExit(main())
