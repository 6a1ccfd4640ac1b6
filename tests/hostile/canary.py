"""A server that no one should ever talk to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType


def _turn_away(caller: socket.socket) -> None:
    """Tell a caller that speaks first (HTTP) 404; reset the connection of one that waits (NBD)."""
    caller.settimeout(0.2)
    try:
        if caller.recv(4096):
            caller.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    except TimeoutError:
        no_farewell = struct.pack("ii", 1, 0)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_farewell)
    except OSError:
        return  # it hung up first


class Canary:
    """Listens on a port of this machine and counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="canary", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            with caller:
                _turn_away(caller)

    def __enter__(self) -> Canary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Shutting down, unlike closing alone, wakes the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)
