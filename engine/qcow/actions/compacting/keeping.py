"""Packing an image in one switch that can be undone: only what is free already is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...layout.tables import I64
from .moving import NO_MOVES, Moves, move_bitmaps, move_data, move_tables, table_ranks
from .survey import BLOCK, DATA, FREE, ROOT, TABLE, Roles, all_tables, first_true, has_role, survey

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from .batches import Tally


def pack_keeping(editor: Editor, tally: Tally) -> None:
    """Move what lies highest into what is free, as far as that goes.

    Every old table stays where it is until undo is given up, so there must be a free cluster for
    each new one.  Raises as a commit does.
    """
    tx = editor.begin()
    found = survey(editor, tx)
    roles = found.roles
    end = _end(roles, tx.ledger.free(0, len(roles)) & (roles == FREE), found.roots)
    if end >= len(roles):
        return
    old: I64 = np.flatnonzero(roles[end:] == DATA) + end
    new = first_true(tx.ledger.free(0, end), len(old))
    tables = all_tables(tx)
    tx.ledger.seek(1)
    moves = NO_MOVES
    if len(old):
        moves = Moves(old, new)
        tx.ledger.take(new)
        ranks = table_ranks(editor, tx, moves, tables)
        move_data(editor, tx, moves, tables[ranks < len(old)])
    rest = all_tables(tx)
    rest = rest[(rest >= end) & (rest < len(roles)) & (tx.ledger.marks_of(rest) & tx.MINE == 0)]
    move_tables(editor, tx, Moves(rest, tx.ledger.allocate(len(rest))))
    tx.move_roots = bool(has_role(roles[end:], ROOT, BLOCK).any())
    move_bitmaps(tx, moves, everything=tx.move_roots)
    editor.commit(tx, tx.kept_views(moved=True))
    tally.moved += len(old) + len(rest)


def _end(roles: Roles, free: np.ndarray[tuple[int], np.dtype[np.bool_]], roots: int) -> int:
    """The lowest end below which there is a free cluster for all that must be written anew."""
    shadows = int(np.count_nonzero(has_role(roles, TABLE, BLOCK))) + roots
    movable = has_role(roles, DATA, TABLE, ROOT, BLOCK)
    # Runs of compressed clusters stay where they are here.
    stays = np.flatnonzero((roles != FREE) & ~movable)
    lowest = int(stays[-1]) + 1 if len(stays) else 1
    # Going down, each cluster may be data that needs a place, or one place less.
    left = np.cumsum((roles == DATA)[::-1] | free[::-1], dtype=np.int32)
    fits = np.count_nonzero(free) - shadows >= left
    return max(len(roles) - int(np.count_nonzero(fits)), lowest)
