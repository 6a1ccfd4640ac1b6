"""Believable guest bytes: what a small Linux server has on its disk, made up deterministically.

Nothing here is read from the machine; all hosts, users and addresses are invented (documentation
ranges), and the same call gives the same bytes on every Python version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

from .guestfs import NAMES, STRUCTURES
from .stream import Numbers

_POOL = 1 << 18
_UNITS = ("sshd", "nginx", "systemd", "cron", "kernel", "postgres", "dhclient", "rsyslogd")
_EVENTS = (
    "Started Daily apt download activities.",
    "Accepted publickey for deploy from 192.0.2.{a} port 5{b:04d} ssh2: ED25519",
    "pam_unix(cron:session): session opened for user root(uid=0)",
    "checkpoint complete: wrote {b} buffers ({a}.4%); 0 WAL file(s) added",
    "eth0: renewed lease of 198.51.100.{a} for {b} seconds",
    "Failed password for invalid user admin from 203.0.113.{a} port {b}",
    "[{b:5d}.{a:06d}] EXT4-fs (vda2): mounted filesystem with ordered data mode",
    "worker process {b} exited with code 0",
)
_PATHS = ("/", "/index.html", "/api/v1/orders", "/static/app.css", "/login", "/img/logo.svg")
_SENTENCE = (
    "the server starts a service when its configuration changes and every unit keeps the order of "
    "its dependencies while a volume holds data that no other process may write until it is done"
)
_WORDS = _SENTENCE.split()


def _log_line(numbers: Numbers, count: int) -> str:
    event = numbers.pick(_EVENTS).format(a=numbers.below(250) + 1, b=numbers.below(9999))
    clock = f"{count // 3600 % 24:02d}:{count // 60 % 60:02d}:{count % 60:02d}"
    return (
        f"Mar {count // 86400 % 28 + 1:2d} {clock} web01 {numbers.pick(_UNITS)}[{count}]: {event}\n"
    )


def _access_line(numbers: Numbers, count: int) -> str:
    return (
        f"203.0.113.{numbers.below(250)} - - [01/Mar/2025:{count // 3600 % 24:02d}:"
        f'{count // 60 % 60:02d}:{count % 60:02d} +0000] "GET {numbers.pick(_PATHS)} HTTP/1.1" 200 '
        f'{numbers.below(90000)} "-" "Mozilla/5.0 (X11; Linux x86_64)"\n'
    )


def _config_line(numbers: Numbers, count: int) -> str:
    sentence = " ".join(numbers.pick(_WORDS) for _ in range(9))
    value = numbers.below(65536)
    return f"# {sentence}\n{numbers.pick(NAMES)}.{numbers.pick(_WORDS)}_{count % 97} = {value}\n"


def _html_line(numbers: Numbers, count: int) -> str:
    sentence = " ".join(numbers.pick(_WORDS) for _ in range(11))
    return f'<p id="s{count}" class="{numbers.pick(_WORDS)}">{sentence.capitalize()}.</p>\n'


def _sql_line(numbers: Numbers, count: int) -> str:
    return (
        f"\x00\x11order-{count:07d}\x0c2025-03-{numbers.below(28) + 1:02d}"
        f"\x08{numbers.pick(_WORDS)}\x06{numbers.below(10**6):06d}EUR\x00\x00\x00\x1f"
    )


def _mail_line(numbers: Numbers, count: int) -> str:
    who, word = numbers.pick(_WORDS), numbers.pick(_WORDS)
    sentence = " ".join(numbers.pick(_WORDS) for _ in range(14))
    return (
        f"From: {who}@example.org\nTo: {word}@example.net\nSubject: {word} {who} #{count}\n"
        f"Message-ID: <{numbers.below(1 << 32):08x}@mail.example.org>\n\n{sentence}.\n\n"
    )


_LINES: dict[str, Callable[[Numbers, int], str]] = {
    "log": _log_line,
    "access": _access_line,
    "config": _config_line,
    "html": _html_line,
    "sql": _sql_line,
    "mail": _mail_line,
}


@cache
def _pool(kind: str) -> bytes:
    """A few hundred KiB to cut pieces from."""
    numbers = Numbers(kind)
    if kind in _LINES:
        line = _LINES[kind]
        made: list[str] = []
        length = count = 0
        while length < _POOL:
            count += 1 + numbers.below(9)
            made.append(line(numbers, count))
            length += len(made[-1])
        return "".join(made).encode()[:_POOL]
    if kind == "binary":  # instruction-like: few distinct bytes in clumps, so it compresses by half
        opcodes = bytes.fromhex("4889e5554883ec2089f8e8ff0f1f4400c390488b0585c0740f")
        noise = hashlib.shake_128(b"binary").digest(_POOL // 2)
        return b"".join(bytes((byte, opcodes[byte % len(opcodes)])) for byte in noise)
    return hashlib.shake_128(kind.encode()).digest(_POOL)


def piece(kind: str, number: int, size: int) -> bytes:
    """``size`` bytes of one kind of content; ``number`` says which piece of it.

    Kinds: log, access, config, html, sql, mail (text), binary (an ELF file), noise (looks
    compressed), and the structures of :mod:`guestfs`.
    """
    if kind in STRUCTURES:
        head = STRUCTURES[kind](number, size)
    elif kind == "binary":
        head = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0>\0\1\0\0\0"
        head += f".symtab\0.strtab\0.text\0libweb{number}.so.1\0GLIBC_2.36\0".encode()
    else:
        head = b""
    rest = kind if kind in _LINES or kind == "binary" else "noise"
    return head[:size] + _cut(rest, number, size - len(head))


def _cut(kind: str, number: int, size: int) -> bytes:
    if size <= 0:
        return b""
    pool = _pool(kind)
    start = number * 40503 % len(pool)
    out = pool[start : start + size]
    while len(out) < size:
        out += pool[: size - len(out)]
    return out
