"""K01..K19: the LUKS header inside an image."""

from __future__ import annotations

from .bases import CLUSTER
from .ext_area import CRYPTO_HEADER, find_extension
from .model import Build, Damage, Step, on, u32

_CRYPT_METHOD = 32
_AES = 1
#: Fields of the header extension.
_OFFSET, _LENGTH = 0, 8
#: Fields of the LUKS header, and of a key slot.
_MAGIC, _VERSION, _CIPHER_NAME, _PAYLOAD_OFFSET, _KEY_BYTES, _MASTER_ITERATIONS = (
    0,
    6,
    8,
    104,
    108,
    164,
)
_SLOTS, _SLOT = 208, 48
_STATE, _ITERATIONS, _KEY_OFFSET, _STRIPES = 0, 4, 40, 44
_ACTIVE = 0x00AC71F3
_ALL_ONES = 0xFFFFFFFF


def _extension(field: int, value: int) -> Step:
    """Set a field of the crypto header extension."""

    def step(damage: Damage) -> None:
        damage.set("Q", find_extension(damage, CRYPTO_HEADER) + field, value)

    return step


def _luks(damage: Damage) -> int:
    return damage.get("Q", find_extension(damage, CRYPTO_HEADER) + _OFFSET)


def _header(layout: str, field: int, value: int) -> Step:
    """Set a number in the LUKS header."""
    return lambda damage: damage.set(layout, _luks(damage) + field, value)


def _text(field: int, content: bytes) -> Step:
    """Set bytes in the LUKS header."""
    return lambda damage: damage.put(_luks(damage) + field, content)


def _slot(index: int, field: int, value: int) -> Step:
    """Set a field of a key slot."""
    return _header("I", _SLOTS + index * _SLOT + field, value)


LUKS: dict[str, Build] = {
    "K01": on("luks", _extension(_OFFSET, 12345)),
    "K02": on("luks", _extension(_OFFSET, 3 * CLUSTER)),
    "K03": on("luks", _extension(_LENGTH, 1 << 62)),
    "K04": on("luks", _extension(_LENGTH, 591)),
    "K05": on("luks", _text(_MAGIC, b"SKUL")),
    "K06": on("luks", _header("H", _VERSION, 2)),
    "K07": on("luks", _text(_CIPHER_NAME, b"a" * 32)),
    "K08": on("luks", _header("I", _PAYLOAD_OFFSET, 0)),
    "K09": on("luks", _header("I", _KEY_BYTES, _ALL_ONES)),
    "K10": on("luks", _header("I", _MASTER_ITERATIONS, 0)),
    "K11": on("luks", _header("I", _MASTER_ITERATIONS, _ALL_ONES)),
    "K12": on("luks", _slot(0, _ITERATIONS, _ALL_ONES)),
    "K13": on("luks", _slot(0, _STATE, 0x12345678)),
    "K14": on("luks", _slot(0, _STRIPES, 4001)),
    "K15": on("luks", _slot(0, _KEY_OFFSET, 0)),
    "K16": on("luks", _slot(1, _KEY_OFFSET, 8)),
    "K17": on("luks", _slot(1, _KEY_OFFSET, 0xFFFFFFF0)),
    "K18": on("luks", _text(_CIPHER_NAME, b"rot13\0")),
    "K19": on("luks", u32(_CRYPT_METHOD, _AES)),
}
