"""The whole corpus: the table of verdicts joined with the damage of each row."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from .model import Build, Expect, QemuExit, Row
from .rows_bitmaps import BITMAPS
from .rows_general import GENERAL as GENERAL_DAMAGE
from .rows_header import EXTENSIONS, HEADER
from .rows_luks import LUKS
from .rows_refcounts import REFCOUNTS
from .rows_snapshots import SNAPSHOTS
from .rows_strings import STRINGS
from .rows_tables import COMPRESSED_CLUSTERS, TABLES

_AREAS = (
    HEADER,
    EXTENSIONS,
    STRINGS,
    TABLES,
    COMPRESSED_CLUSTERS,
    REFCOUNTS,
    SNAPSHOTS,
    BITMAPS,
    LUKS,
)


_EXPECT: dict[str, Expect] = {word: word for word in get_args(Expect)}


def _exit(cell: str) -> QemuExit:
    words: dict[str, QemuExit] = {"timeout": "timeout", "-": "-"}
    return words[cell] if cell in words else int(cell)


def read_table(table: Path, damage: dict[str, Build]) -> tuple[Row, ...]:
    """The rows of a table of verdicts, in its order, each with the damage of that id.

    Raises ValueError when the table and the damage do not have the same ids, KeyError for a word
    that means nothing.
    """
    rows = []
    for line in table.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if len(cells) != 7 or cells[0] == "id":
            continue
        name, area, requirement, expect, info, check, says = cells
        pieces = tuple(filter(None, says.split(" / ")))
        verdict = _EXPECT[expect]
        rows.append(
            Row(name, area, requirement, _exit(info), _exit(check), pieces, verdict, damage[name])
        )
    named = [row.id for row in rows]
    if sorted(named) != sorted(damage):
        raise ValueError(f"not both in {table.name} and in code: {set(named) ^ set(damage)}")
    return tuple(rows)


_HERE = Path(__file__).parent

#: All rows of ``table.md``, in its order.
ROWS = read_table(
    _HERE / "table.md",
    {name: build for area in _AREAS for name, build in area.items()},
)

#: Images that are odd as a whole: ``general.md``.
GENERAL = read_table(_HERE / "general.md", GENERAL_DAMAGE)
