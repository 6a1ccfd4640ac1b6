"""What a triage can find among the leaks, beyond what a check says of them."""

from __future__ import annotations

from ...findings import Severity, kind

ORPHAN_L2 = kind(
    "QCOW-LEAK-ORPHAN-L2",
    Severity.CORRUPTION,
    "L2 table that lost its L1 entry",
    "A leaked cluster parses as an L2 table, and what it names is leaked with it: the L1 entry "
    "that pointed at the table was lost.",
    "The guest reads zeros, or the backing file, where its data was. The data is still in the "
    "file.",
    "Put the table back in its place; that can be undone. Reclaim nothing, and do not run qemu-img "
    "check -r: it throws the data away.",
)
ORPHAN_L1 = kind(
    "QCOW-LEAK-ORPHAN-L1",
    Severity.WARNING,
    "L1 table that nothing refers to",
    "A leaked cluster parses as an L1 table, and the L2 tables that it names are leaked with it: a "
    "snapshot that was being deleted, or one whose entry was lost.",
    "The disk as it was then is still in the file, and nothing shows it.",
    "Keep it as long as the snapshot may be wanted. Reclaiming it is a choice of its own.",
)
