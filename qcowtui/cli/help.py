"""The help texts: the main one and one for each verb, all from what the verbs declare."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from . import registry
from .options import HELP, Option
from .output import PROGRAM
from .verb import Verb

_WIDTH = 96
_COLUMN = 28
_START = (
    ("", "choose an image in this folder, or one opened lately"),
    ("FILE", "open FILE in the app; without a terminal print an overview of it"),
    ("VERB ...", "ask or change one thing on the command line"),
    ("VERB --help", "the options of a verb, with examples"),
    ("--version", "which version this is"),
)
_CLOSING = (
    "Looking never touches: no image is written to, and no second file is opened unless you ask "
    "for it (--follow). A change can be looked at first (--dry-run), becomes live with one write, "
    "and can be taken back (undo) until its space is given back (reclaim). Results go to standard "
    "output, everything else to standard error."
)


def main_help() -> list[str]:
    """The lines of ``qcowtui --help``."""
    lines = [f"{PROGRAM}: look into QEMU disk images, and change them safely", "", "Usage:"]
    lines += [f"  {f'{PROGRAM} {what}'.ljust(22)}{effect}" for what, effect in _START]
    groups = {title: [registry.load(n) for n in names] for title, names in registry.GROUPS.items()}
    for title, verbs in groups.items():
        lines += ["", f"{title}:"]
        lines += [f"  {verb.name:<15}{verb.summary}" for verb in verbs]
    lines += ["", f"Options of {PROGRAM} FILE:", *_option_lines(registry.load("open").options)]
    lines += ["", "Examples:"]
    for verbs in groups.values():
        lines += [f"  {PROGRAM} {verb.name} {verb.examples[0][0]}".rstrip() for verb in verbs]
    return [*lines, "", *_wrapped(_CLOSING)]


def _wrapped(text: str, indent: int = 0, first: str | None = None) -> list[str]:
    """``text`` in lines of bearable length, indented; ``first`` is what the first begins with."""
    space = " " * indent
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=space if first is None else first.ljust(indent),
        subsequent_indent=space,
        break_on_hyphens=False,
    )


def _spelt(option: Option) -> str:
    names = [f"-{option.short}"] if option.short else []
    names += [f"--{option.long}"] if option.long else []
    joint = "=" if option.long else " "
    value = joint + option.value if option.value else ""
    return "  " + ", ".join(names) + (f"[{value}]" if option.optional else value)


def verb_help(verb: Verb) -> list[str]:
    """The lines of ``qcowtui VERB --help``."""
    lines = [
        f"{PROGRAM} {verb.name}: {verb.summary}",
        "",
        f"Usage: {PROGRAM} {verb.name} [OPTIONS] {verb.operands}".rstrip(),
    ]
    for note in verb.notes:
        lines += ["", *_wrapped(note)]
    lines += ["", "Options:", *_option_lines((*verb.options, HELP))]
    lines += ["", "Examples:"]
    for arguments, effect in verb.examples:
        lines += [f"  {PROGRAM} {verb.name} {arguments}".rstrip(), *_wrapped(effect, 6)]
    lines += ["", *_exit_lines(verb)]
    return lines


def _option_lines(options: Iterable[Option]) -> list[str]:
    lines = []
    for option in options:
        if option.refused:
            continue
        head = _spelt(option)
        if len(head) >= _COLUMN - 1:
            lines.append(head)
            head = ""
        lines += _wrapped(option.help, _COLUMN, head)
    return lines


def _exit_lines(verb: Verb) -> list[str]:
    known = dict(verb.exits)
    rows = [
        (0, known.pop(0, "done")),
        (1, known.pop(1, "it could not be done, or the request makes no sense")),
    ]
    rows += sorted(known.items())
    return ["Exit codes:", *(f"  {code:<3} {meaning}" for code, meaning in rows)]
