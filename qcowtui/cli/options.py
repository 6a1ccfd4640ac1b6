"""Options as getopt_long reads them, which is what qemu-img's users have in their fingers.

Options and operands mix freely, ``--`` ends the options, long names may be cut to what is still
unique, values come as ``--output=json``, ``--output json``, ``-f qcow2`` or ``-fqcow2``, and flags
bundle (``-pq``).  What begins like a negative number is an operand: ``resize FILE -1G``.
(argparse differs in several of these, and costs more to load.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from qcow.errors import UsageError
from qcow.text import safe


class CommandError(UsageError):
    """The command line cannot be understood: worth a pointer to the verb's help."""


class Option(NamedTuple):
    """One option of a verb; ``value`` names its value, "" makes it a flag.

    Several words in ``value`` are as many values, each a word of the command line.  With
    ``optional`` the value is taken in the form ``--long=value`` alone, and is "" without it.
    """

    long: str  # without dashes; "" when there is only the letter
    short: str = ""
    value: str = ""
    help: str = ""
    #: A sentence why this version refuses it: qemu-img has it, so it must not be misread.
    refused: str = ""
    optional: bool = False

    @property
    def key(self) -> str:
        """The name :class:`Arguments` knows it by."""
        return self.long or self.short


class Arguments:
    """What was given: ``operands`` in order, and the options."""

    def __init__(self, operands: list[str], sequence: list[tuple[str, str]]) -> None:
        """``sequence``: (key, value) of each option in the order given, "" for a flag."""
        self.operands = operands
        self.sequence = sequence
        self._given: dict[str, list[str]] = {}
        for key, value in sequence:
            self._given.setdefault(key, []).append(value)

    def has(self, key: str) -> bool:
        return key in self._given

    def get(self, key: str) -> str | None:
        """The value given last, as getopt programs have it."""
        return self._given[key][-1] if key in self._given else None

    def all(self, key: str) -> list[str]:
        """Every value given, in order."""
        return self._given.get(key, [])


HELP: Final = Option("help", "h", help="Show this help")
FORMAT: Final = Option(
    "format", "f", "FMT", "The image's format, qcow2 or raw (default: what its first bytes say)"
)
FORCE_SHARE: Final = Option(
    "force-share",
    "U",
    help="Look even while a program writes to the image; what is shown may be inconsistent",
)
OUTPUT: Final = Option("output", value="FORMAT", help="human (default) or json")
_JSON: Final = Option("json", help="The same as --output=json")
#: What every verb with a choice of spelling understands.
OUTPUTS: Final = (OUTPUT, _JSON)
FOLLOW: Final = Option(
    "follow",
    help="Open the backing and data files the image names, wherever they are. Without it only a "
    "backing file in the image's own folder whose format is stated is opened",
)
OBJECT: Final = Option(
    "object",
    value="OBJECT",
    refused="Secrets and other objects (--object) are not supported: this version reads no "
    "encrypted guest data.",
)
IMAGE_OPTS: Final = Option(
    "image-opts",
    refused="--image-opts is not supported: this version takes a file name, and -f for its format.",
)
QUIET: Final = Option("quiet", "q", help="Say nothing but errors")
CACHE: Final = Option(
    "cache",
    "T",
    "MODE",
    "Accepted as in qemu-img, and without effect: files are read through the page cache",
)
_CACHE_MODES = ("none", "off", "writeback", "unsafe", "writethrough", "directsync")
#: What every verb that opens an image the way qemu-img does understands.
COMMON: Final = (FORMAT, FORCE_SHARE, OBJECT, IMAGE_OPTS)


def parse(argv: Sequence[str], options: Sequence[Option]) -> Arguments:
    """Read the arguments of a verb.  Raises CommandError, UsageError for what is refused."""
    return _Parser(argv, (*options, HELP)).run()


class _Parser:
    def __init__(self, argv: Sequence[str], options: Sequence[Option]) -> None:
        self._argv = list(argv)
        self._at = 0
        self._long = {option.long: option for option in options if option.long}
        self._short = {option.short: option for option in options if option.short}
        self._given: list[tuple[str, str]] = []

    def run(self) -> Arguments:
        operands: list[str] = []
        while self._at < len(self._argv):
            word = self._argv[self._at]
            self._at += 1
            if word == "--":
                operands += self._argv[self._at :]
                break
            if word.startswith("--"):
                self._read_long(word)
            elif word.startswith("-") and not word[1:2].isdigit() and word != "-":
                self._read_short(word)
            else:
                operands.append(word)
        return Arguments(operands, self._given)

    def _read_long(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        option = self._find_long(name)
        shown = f"--{option.long}"
        if not option.value:
            if equals:
                raise CommandError(f"option '{shown}' takes no value")
            self._take(option, "", shown)
        elif equals:
            self._take(option, value, shown)
        else:
            self._take(option, "" if option.optional else self._next(shown), shown)

    def _find_long(self, name: str) -> Option:
        if name in self._long:
            return self._long[name]
        fitting = [option for long, option in self._long.items() if name and long.startswith(name)]
        if not fitting:
            raise CommandError(f"unrecognized option '--{safe(name)}'")
        if len(fitting) > 1:
            names = ", ".join(f"--{option.long}" for option in fitting)
            raise CommandError(f"option '--{safe(name)}' is ambiguous: it can be {names}")
        return fitting[0]

    def _read_short(self, word: str) -> None:
        at = 1
        while at < len(word):
            letter = word[at]
            at += 1
            shown = f"-{letter}"
            option = self._short.get(letter)
            if option is None:
                raise CommandError(f"unrecognized option '{safe(shown)}'")
            if option.value and not option.optional:
                self._take(option, word[at:] or self._next(shown), shown)
                return
            self._take(option, "", shown)

    def _next(self, shown: str) -> str:
        if self._at >= len(self._argv):
            raise CommandError(f"missing argument for option '{shown}'")
        self._at += 1
        return self._argv[self._at - 1]

    def _take(self, option: Option, value: str, shown: str) -> None:
        if option.refused:
            raise UsageError(option.refused)
        further = [self._next(shown) for _ in option.value.split()[1:]]
        self._given += [(option.key, each) for each in (value, *further)]


def wants_json(arguments: Arguments) -> bool:
    """Whether JSON is wanted.  Raises CommandError for a spelling that does not exist."""
    chosen = arguments.get(OUTPUT.key)
    if chosen not in (None, "human", "json"):
        raise CommandError("--output must be used with human or json as argument.")
    return chosen == "json" or arguments.has(_JSON.key)


def require_cache_mode(arguments: Arguments) -> None:
    """Raise UsageError for a ``-T`` that qemu-img would not know."""
    mode = arguments.get(CACHE.key)
    if mode is not None and mode not in _CACHE_MODES:
        raise UsageError(f"Invalid source cache option: {safe(mode)}")


def one_operand(arguments: Arguments, what: str = "image file name") -> str:
    """The only operand.  Raises CommandError."""
    if len(arguments.operands) != 1:
        raise CommandError(f"Expecting one {what}")
    return arguments.operands[0]
