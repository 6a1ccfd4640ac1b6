"""Proof of what was opened: an audit hook that records every file this process opens.

with opened_files() as opened:
    look_at(image)
assert opened.besides(image) == []
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import qcow.text

#: Where code lives: Python's, the engine's, this checkout's.  What is opened there to be imported
#: on first use is no file of ours.
_CODE = tuple(
    os.path.realpath(folder)
    for folder in {
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        str(Path(qcow.text.__file__).parents[1]),
        str(Path(__file__).parents[2]),
    }
)
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".tcss", ".toml", ".txt", ".pth")


@dataclass
class Opens:
    """The files opened so far, in order, as absolute paths; folders and Python's code left out.

    An open relative to a folder's descriptor (as the gate does) shows only its last component,
    joined to the working folder.
    """

    paths: list[str] = field(default_factory=list)

    def besides(self, *allowed: str | Path) -> list[str]:
        """What was opened that is none of ``allowed``."""
        expected = {os.path.realpath(path) for path in allowed}
        return [path for path in self.paths if os.path.realpath(path) not in expected]

    def names(self) -> list[str]:
        """The last components of :attr:`paths`."""
        return [os.path.basename(path) for path in self.paths]


_active: list[Opens] = []
_lock = threading.Lock()
_installed = False


def _is_code(path: str) -> bool:
    return path.endswith(_CODE_SUFFIXES) and os.path.realpath(path).startswith(_CODE)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _active:
        return
    name, _, flags = arguments
    if not isinstance(name, str | bytes | os.PathLike):
        return  # a descriptor that is open already
    if isinstance(flags, int) and flags & os.O_DIRECTORY == os.O_DIRECTORY:
        return
    path = os.path.abspath(os.fsdecode(name))
    if not _is_code(path):
        for opens in _active:
            opens.paths.append(path)


@contextmanager
def opened_files() -> Iterator[Opens]:
    """Record every file opened by any thread of this process while the block runs."""
    global _installed
    opens = Opens()
    with _lock:
        if not _installed:  # once: a hook can never be removed
            sys.addaudithook(_hook)
            _installed = True
        _active.append(opens)
    try:
        yield opens
    finally:
        with _lock:
            _active[:] = [other for other in _active if other is not opens]
