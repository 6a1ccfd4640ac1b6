"""JSON as QEMU prints it: the order of its keys, its indentation, its escapes.

An object is a dict whose keys are printed in the order they were put in; :func:`qdict` brings a
dict into the order QEMU's hash table has.  Strings may be ``bytes`` out of an image: no control
character, bidirectional override or broken UTF-8 ever comes out.
"""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | bytes | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, Json]"

_BUCKETS = 512
_MASK32 = (1 << 32) - 1


def _bucket(key: str) -> int:
    """Where QEMU's QDict keeps a key (its hash comes from Samba's tdb)."""
    name = key.encode()
    value = 0x238F13AF * len(name)
    for index, byte in enumerate(name):
        value += byte << (index * 5 % 24)
    return ((1103515243 * value + 12345) & _MASK32) % _BUCKETS


def qdict(members: JsonObject) -> JsonObject:
    """``members`` and all objects inside it, keys in the order QEMU iterates over them.

    Where two keys share a bucket the one put in last comes first, so ``members`` has to be in the
    order of QEMU's schema.
    """
    backwards = list(members)[::-1]  # sorting is stable: later keys of a bucket stay in front
    return {key: _deep(members[key]) for key in sorted(backwards, key=_bucket)}


def _deep(value: Json) -> Json:
    if isinstance(value, dict):
        return qdict(value)
    if isinstance(value, list):
        return [_deep(item) for item in value]
    return value


def dumps(value: Json, indent: int = 0) -> str:
    """Pretty JSON text without the final newline; ``indent`` is how deep it stands, in steps."""
    pieces: list[str] = []
    _write(value, "\n" + "    " * indent, pieces)
    return "".join(pieces)


def _write(value: Json, newline: str, pieces: list[str]) -> None:
    if isinstance(value, bool) or value is None:
        pieces.append({True: "true", False: "false", None: "null"}[value])
    elif isinstance(value, (int, float)):
        pieces.append(repr(value))
    elif isinstance(value, (str, bytes)):
        pieces.append(quoted(value))
    elif isinstance(value, dict):
        inner = newline + "    "
        lead = "{"
        for key, member in value.items():
            pieces.append(f"{lead}{inner}{quoted(key)}: ")
            _write(member, inner, pieces)
            lead = ","
        pieces.append(f"{'{' if not value else ''}{newline}}}")
    else:
        inner = newline + "    "
        lead = "["
        for item in value:
            pieces.append(lead + inner)
            _write(item, inner, pieces)
            lead = ","
        pieces.append(f"{'[' if not value else ''}{newline}]")


_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str | bytes) -> str:
    """A JSON string, pure ASCII; what is not UTF-8 becomes U+FFFD."""
    if isinstance(text, bytes):
        text = "".join(_characters(text))
    elif not text.isascii():
        # Python's strings keep bytes of file names that are no UTF-8 as lone surrogates.
        text = "".join(_characters(text.encode("utf-8", "surrogateescape")))
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0x20 <= code < 0x7F:
        return char
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"
    return f"\\u{code:04X}"


def _characters(data: bytes) -> list[str]:
    """The characters of ``data``; one U+FFFD for each sequence that QEMU's decoder refuses.

    That decoder accepts the sequences of up to six bytes UTF-8 once had, as a whole.
    """
    if data.isascii():
        return [data.decode("ascii")]
    found: list[str] = []
    at = 0
    while at < len(data):
        lead = data[at]
        at += 1
        if lead < 0x80:
            found.append(chr(lead))
            continue
        length = 8 - (lead ^ 0xFF).bit_length()  # leading one bits
        if not 2 <= length <= 6:  # a continuation byte, or one that starts nothing
            found.append("\ufffd")
            continue
        code = lead & (0x7F >> length)
        end = at + length - 1
        while at < min(end, len(data)) and data[at] & 0xC0 == 0x80:
            code = code << 6 | data[at] & 0x3F
            at += 1
        whole = at == end
        found.append(chr(code) if whole and _is_plain(code, length) else "\ufffd")
    return found


_SMALLEST = (0x80, 0x800, 0x10000, 0x200000, 0x4000000)


def _is_plain(code: int, length: int) -> bool:
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return False
    if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:  # not characters
        return False
    # NUL in two bytes is the one overlong form that is taken ("modified UTF-8").
    return code >= _SMALLEST[length - 2] or (code == 0 and length == 2)
