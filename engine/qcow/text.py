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
