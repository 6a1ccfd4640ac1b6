"""Which verbs there are.  Only the module of the chosen one is ever loaded, except for the help."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from .verb import Verb

#: Heading in the main help -> names of verbs, each a module in ``verbs``.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "As in qemu-img (same options, same output, same exit codes)": (
        "info",
        "map",
        "check",
        "snapshot",
        "compare",
        "measure",
        "create",
        "commit",
        "rebase",
        "resize",
        "amend",
        "bitmap",
    ),
    "Damaged images": (
        "repair",
        "rescue",
        "bundle",
    ),
    "What only qcowtui changes": (
        "compact",
        "write",
        "discard",
        "flatten",
        "relink",
        "reclaim",
        "undo",
        "redo",
        "history",
    ),
    "What only qcowtui answers": (
        "space",
        "fragmentation",
        "clusters",
        "header",
        "chain",
        "diff",
        "read",
        "audit",
        "demo",
    ),
}
NAMES: Final = tuple(name for names in GROUPS.values() for name in names)

#: Verbs with nothing left to be done once their words are out, so that the process may end on the
#: spot.
LOOKING: Final = frozenset(
    {
        "info",
        "map",
        "check",
        "snapshot",
        "compare",
        "measure",
        "space",
        "fragmentation",
        "clusters",
        "header",
        "chain",
        "diff",
        "read",
        "audit",
        "history",
    }
)


def load(name: str) -> Verb:
    """The verb called ``name``: one of :data:`NAMES`, or "open" for what comes without one."""
    verb = import_module(f".verbs.{name}", __package__).VERB
    assert isinstance(verb, Verb)
    return verb
