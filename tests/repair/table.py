"""docs/repair-table.md: what became of every case of the damage matrix, here and with qemu-img.

``python -m tests.repair.table > docs/repair-table.md``
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .matrix import Case, Result, Seen, cases, measure

DOCUMENT = Path(__file__).parents[2] / "docs" / "repair-table.md"

#: The order of the sections.
GROUPS = (
    "refcounts",
    "COPIED",
    "L1",
    "L2",
    "overlaps",
    "leaks",
    "marks",
    "snapshots",
    "bitmaps",
    "header",
    "truncation",
)

_HEAD = """\
# Repair, beside `qemu-img check -r all`

Each line is one damaged image, treated twice: by `repair --apply` with its default plan, which
takes no step that may lose data, and by `qemu-img check -r all` (QEMU 7.2). *Errors left* is what
`qemu-img check` finds afterwards. *Bytes lost* are the guest bytes, of the active disk and of all
snapshots together, that QEMU then reads differently from the image before it was damaged; what it
cannot read counts as zeros. After every repair, `undo` gave back each byte of the damaged file.

- **repaired**: everything that was found is put right.
- **rest needs a choice**: what can be done without losing anything is done; the rest is a decision,
  and `repair --plan` shows what each choice keeps and loses.
- **needs a choice**: nothing is changed before a decision.
- **nothing found**: the tables are sound, so no check can know better.
- **refused**: not without help; the message says what is needed.

This page is made by `python -m tests.repair.table`; the tests measure every line again.
"""
_COLUMNS = "| Damage | Image | Verdict | Errors left | Bytes lost | qemu-img: errors | bytes lost |"


def row(result: Result) -> str:
    """The line of a case."""
    case = result.case
    cells = (
        case.damage.name,
        case.variant.name,
        result.verdict,
        _errors(result.ours),
        f"{result.ours_lost:,}",
        _errors(result.theirs),
        f"{result.theirs_lost:,}",
    )
    return f"| {' | '.join(cells)} |"


def _errors(seen: Seen) -> str:
    return "does not open" if seen.errors is None else str(seen.errors)


def document(results: Iterable[Result]) -> Iterator[str]:
    """The lines of the page."""
    yield _HEAD
    group = ""
    for result in results:
        if result.case.damage.group != group:
            group = result.case.damage.group
            if group:
                yield ""
            yield f"## {group[0].upper()}{group[1:]}"
            yield ""
            yield _COLUMNS
            yield "|---|---|---|--:|--:|--:|--:|"
        yield row(result)


def committed() -> dict[tuple[str, str], str]:
    """The verdicts in the page, by damage and image."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 7 and cells[0] != "Damage":
            found[cells[0], cells[1]] = cells[2]
    return found


def _measured(case: Case) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return measure(case, Path(folder))


if __name__ == "__main__":
    ordered = sorted(cases(), key=lambda case: GROUPS.index(case.damage.group))
    sys.stdout.writelines(f"{line}\n" for line in document(map(_measured, ordered)))
