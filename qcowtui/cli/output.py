"""Where words go: results to stdout, diagnostics to stderr, and what to do when neither listens."""

from __future__ import annotations

import os
import sys
from typing import IO, Final

from qcow.errors import QcowError
from qcow.text import safe

PROGRAM: Final = "qcowtui"
#: Text kept back before it is written, in characters.
_HELD = 1 << 16


class OutputError(QcowError):
    """The results cannot be written (disk full, closed descriptor)."""


class Output:
    """The two streams of one run.

    Results are held back and written in large pieces; a diagnostic first lets out what precedes it.
    BrokenPipeError passes through: who reads the results has gone, which is nobody's fault.
    """

    def __init__(self) -> None:
        self._stdout = sys.stdout
        self._stderr = sys.stderr
        self._pieces: list[str] = []
        self._length = 0

    @property
    def to_terminal(self) -> bool:
        """Whether a person sees the results as they come."""
        return self._stdout is not None and self._stdout.isatty()

    @property
    def errors_to_terminal(self) -> bool:
        return self._stderr is not None and self._stderr.isatty()

    def write(self, text: str) -> None:
        """Add to the results.  What comes from an image has been through ``safe``."""
        self._pieces.append(text)
        self._length += len(text)
        if self._length >= _HELD:
            self._release()

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def lines(self, lines: list[str]) -> None:
        for text in lines:
            self.line(text)

    def write_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes to the results, after all text so far."""
        self._release()
        self._put(data)

    def error(self, message: str) -> None:
        """A diagnostic; its further lines carry no prefix (QEMU's hints)."""
        self.diagnostic(f"{PROGRAM}: {message}")

    def diagnostic(self, message: str) -> None:
        """The same without the prefix.  Raises OutputError, BrokenPipeError: see :meth:`flush`."""
        self.flush()
        if self._stderr is None:
            return
        try:
            self._stderr.write(message + "\n")
            self._stderr.flush()
        except UnicodeEncodeError:
            plain = message.encode("ascii", "backslashreplace").decode("ascii")
            self._stderr.write(plain + "\n")
            self._stderr.flush()
        except OSError:  # nobody can be told that nobody can be told
            pass

    def flush(self) -> None:
        """Let everything out.  Raises OutputError, BrokenPipeError."""
        self._release()
        if self._stdout is None:
            return
        try:
            self._stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error

    def abandon(self) -> None:
        """Drop what is held back: nobody reads it, or it cannot be written."""
        self._pieces.clear()
        self._length = 0
        real = sys.__stdout__
        if real is not None and self._stdout is real:
            # Else the interpreter would try again, and complain, when it ends.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, real.fileno())
            os.close(null)

    def _release(self) -> None:
        if not self._pieces:
            return
        text = "".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        encoding = getattr(self._stdout, "encoding", None) or "utf-8"
        self._put(text.encode(encoding, "backslashreplace"))

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if self._stdout is None:
            raise OutputError("Could not write the results: standard output is closed.")
        stream: IO[bytes] = self._stdout.buffer
        try:
            stream.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error


def _failed(error: OSError) -> OutputError:
    return OutputError(f"Could not write the results: {error.strerror}.")


def message_of(error: QcowError) -> str:
    """What an error says, with what was noted on its way about work that was done before."""
    return " ".join((str(error), *getattr(error, "__notes__", ())))


def unexpected(error: Exception) -> str:
    """What to say about what should never happen: one sentence, or all with QCOWTUI_DEBUG=1."""
    if os.environ.get("QCOWTUI_DEBUG") == "1":
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip("\n")
        return "\n".join(safe(row) for row in text.split("\n"))
    said = safe(str(error), 200)
    what = type(error).__name__ + (f": {said}" if said else "")
    done = " ".join(getattr(error, "__notes__", ("Nothing was changed.",)))
    return (
        f"Unexpected failure ({what}). {done} Please report it with the output of the same "
        "command under QCOWTUI_DEBUG=1."
    )
