"""The entry point: pick the verb, run it, and turn whatever happens into words and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from qcow.errors import QcowError

from . import exit_codes, registry
from .options import CommandError, parse
from .output import PROGRAM, Output, OutputError, message_of, unexpected
from .verb import Verb

_HELP_FLAGS = ("-h", "--help")
_VERSION_FLAGS = ("-V", "--version")


def entry() -> None:
    """The console script."""
    # numpy's linear algebra is never used; its threads would only cost time at the start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Loading modules makes many objects and no garbage: looking for some is in vain.
    gc.set_threshold(1_000_000, 20, 20)
    code = main(sys.argv[1:])
    if sys.argv[1:2] and sys.argv[1] in registry.LOOKING and _all_said():
        os._exit(code)
    sys.exit(code)


def _all_said() -> bool:
    """Whether nothing is left to do but to take the interpreter apart, which can be left out."""
    if "qcow.edit.apply" in sys.modules:
        return False  # an image may have been changed: `snapshot -c`, `check -r`
    threading = sys.modules.get("threading")  # not there: there is one thread
    if threading is not None and threading.active_count() > 1:
        return False
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return False  # the interpreter has its own way to say so
    return True


def main(argv: Sequence[str]) -> int:
    """Run ``qcowtui ARGV``; the exit code.  Whatever goes wrong ends as a sentence on stderr."""
    output = Output()
    try:
        code = _dispatch(list(argv), output)
        output.flush()
        return code
    except BrokenPipeError:
        output.abandon()
        return exit_codes.BROKEN_PIPE
    except KeyboardInterrupt:
        return _end(output, "Interrupted.", exit_codes.INTERRUPTED)
    except QcowError as error:
        return _end(output, message_of(error), error.exit_code)
    except MemoryError:
        return _end(output, "There is not enough memory for this.", exit_codes.ERROR)
    except Exception as error:
        return _end(output, unexpected(error), exit_codes.ERROR)


def _end(output: Output, message: str, code: int) -> int:
    try:
        output.error(message)
    except BrokenPipeError:
        output.abandon()
        return exit_codes.BROKEN_PIPE
    except OutputError:  # the results so far cannot be written: no reason to keep quiet
        output.abandon()
        output.error(message)
    return code


def _dispatch(argv: list[str], output: Output) -> int:
    first = argv[0] if argv else ""
    if first in _HELP_FLAGS:
        from .help import main_help

        output.lines(main_help())
        return exit_codes.OK
    if first in _VERSION_FLAGS:
        from qcowtui import __version__

        output.line(f"{PROGRAM} {__version__}")
        return exit_codes.OK
    if first in registry.NAMES:
        return _run(registry.load(first), argv[1:], output)
    return _run(registry.load("open"), argv, output)


def _run(verb: Verb, argv: list[str], output: Output) -> int:
    if any(word in _HELP_FLAGS for word in _before_operands_end(argv)):
        from .help import main_help, verb_help

        output.lines(verb_help(verb) if verb.name in registry.NAMES else main_help())
        return exit_codes.OK
    try:
        return verb.run(parse(argv, verb.options), output)
    except CommandError as error:
        name = f" {verb.name}" if verb.name in registry.NAMES else ""
        output.error(f"{error}\nTry '{PROGRAM}{name} --help' for more information.")
        return error.exit_code


def _before_operands_end(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv
