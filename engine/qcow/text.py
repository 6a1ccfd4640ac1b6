"""The one sanitiser: strings that come out of an image, on their way to any screen, log or file.

Names in an image are bytes chosen by whoever made the image.  They may hold terminal escape codes,
bidirectional overrides, zero-width characters or bytes that are not UTF-8.  :func:`safe` turns them
into printable text, reversibly: what is not plainly printable becomes a backslash escape.
"""

from __future__ import annotations

import unicodedata

#: General categories that never reach a screen as themselves: controls, format characters
#: (bidi overrides, zero width), surrogates, private use, unassigned, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_deceptive(value: bytes | str) -> bool:
    """Whether a name holds characters that a terminal would act on or that hide what it says.

    Bytes that are not UTF-8 are not deceptive: they are shown as what they are.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isascii() and text.isprintable():
        return False
    return any(
        unicodedata.category(char) in _HIDDEN and not "\udc80" <= char <= "\udcff" for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, carried by surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def safe(value: bytes | str, limit: int | None = None) -> str:
    """Printable text for ``value``: no control, bidi or unassigned character survives.

    A backslash is doubled so that the result is unambiguous.  With ``limit`` the text is cut
    to that many characters, the last of them an ellipsis.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isascii() and text.isprintable():
        shown = text.replace("\\", "\\\\")
    else:
        shown = "".join(
            "\\\\"
            if char == "\\"
            else _escape(char)
            if unicodedata.category(char) in _HIDDEN or (char.isspace() and char != " ")
            else char
            for char in text
        )
    if limit is not None and len(shown) > limit:
        shown = shown[: max(0, limit - 1)] + "…"
    return shown


#: Names of the powers of 1024 bytes.
SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB")


def size(number: int, *, space: str = " ") -> str:
    """``number`` bytes in the largest binary unit: ``64 GiB``, ``21.4 GiB``, ``310 MiB``.

    Whole numbers carry no decimal; below 100 units there is one decimal, above none.  The result
    is rounded to the nearest; ask :func:`exact` where every byte matters.
    """
    if number < 0:
        return "-" + size(-number, space=space)
    power = 0
    while power + 1 < len(SIZE_UNITS) and number >= 1 << (10 * (power + 1)):
        power += 1
    unit = 1 << (10 * power)
    tenths = (number * 10 + unit // 2) // unit
    if tenths >= 1000:
        tenths = (number + unit // 2) // unit * 10
    if tenths >= 10240 and power + 1 < len(SIZE_UNITS):  # 1023.96 MiB reads as 1 GiB
        tenths, power = 10, power + 1
    whole, decimal = divmod(tenths, 10)
    digits = f"{whole}.{decimal}" if decimal else f"{whole}"
    return f"{digits}{space}{SIZE_UNITS[power]}"


def exact(number: int) -> str:
    """``number`` bytes in full: ``68,719,476,736 bytes``."""
    return plural(number, "byte")


def size_and_bytes(number: int) -> str:
    """Both spellings: ``64 GiB (68,719,476,736 bytes)``; below 1 KiB only the exact one."""
    return exact(number) if abs(number) < 1024 else f"{size(number)} ({exact(number)})"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """``1 cluster``, ``1,024 clusters``; ``many`` where an s is not enough."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
