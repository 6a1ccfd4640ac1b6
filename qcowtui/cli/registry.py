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
    ),
    "What only qcowtui answers": ("header",),
}
NAMES: Final = tuple(name for names in GROUPS.values() for name in names)


def load(name: str) -> Verb:
    """The verb called ``name``, one of :data:`NAMES`."""
    verb = import_module(f".verbs.{name}", __package__).VERB
    assert isinstance(verb, Verb)
    return verb
