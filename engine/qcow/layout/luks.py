"""The LUKS1 header and its key slots, as QEMU embeds them (LUKS on-disk format 1.2.3)."""

from __future__ import annotations

import struct

from ..record import record

MAGIC = b"LUKS\xba\xbe"
HEADER_LENGTH = 592
KEY_SLOTS = 8
STRIPES = 4000
SLOT_ACTIVE = 0x00AC71F3
SLOT_INACTIVE = 0x0000DEAD
#: Above this many iterations a single try of a passphrase takes minutes.
COSTLY_ITERATIONS = 1 << 29
_FIXED = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_CIPHERS = frozenset({b"aes", b"serpent", b"twofish", b"cast5", b"des", b"des3", b"3des", b"sm4"})
_KEY_BYTES = frozenset({8, 16, 24, 32, 48, 64})


@record
class KeySlot:
    """One key slot.  ``key_offset`` is in bytes from the LUKS header; salts are not kept."""

    index: int
    state: int
    iterations: int
    key_offset: int
    stripes: int

    @property
    def active(self) -> bool:
        return self.state == SLOT_ACTIVE


@record
class LuksHeader:
    """What can be known without a key.  Text fields are raw bytes up to the first NUL."""

    version: int
    cipher: bytes
    mode: bytes  # e.g. b"xts-plain64", b"cbc-essiv:sha256"
    hash: bytes
    payload_offset: int  # bytes
    key_bytes: int
    master_key_iterations: int
    uuid: bytes
    slots: tuple[KeySlot, ...]
    unterminated: tuple[str, ...]  # text fields without a NUL

    @property
    def cipher_mode(self) -> str:
        """ "xts" of "xts-plain64"."""
        return self.mode.split(b"-", 1)[0].decode("latin-1")

    @property
    def ivgen(self) -> str:
        """ "plain64" of "xts-plain64", "essiv" of "cbc-essiv:sha256"."""
        rest = self.mode.split(b"-", 1)[1] if b"-" in self.mode else b""
        return rest.split(b":", 1)[0].decode("latin-1")

    @property
    def ivgen_hash(self) -> str | None:
        return self.mode.split(b":", 1)[1].decode("latin-1") if b":" in self.mode else None

    @property
    def cipher_algorithm(self) -> str:
        """QEMU's name, such as aes-256: XTS uses two keys of half the length."""
        bits = self.key_bytes * (4 if self.cipher_mode == "xts" else 8)
        name = self.cipher.decode("latin-1")
        return name if name in ("des", "3des", "sm4") else f"{name}-{bits}"

    def faults(self) -> tuple[str, ...]:
        """What makes the header unusable, as sentences without image strings."""
        found = [
            f"The {name} of the LUKS header is not NUL-terminated." for name in self.unterminated
        ]
        if self.version != 1:
            found.append(f"LUKS version {self.version} is not supported, only version 1 is.")
            return tuple(found)
        if self.cipher not in _CIPHERS:
            found.append("The cipher of the LUKS header is unknown.")
        if self.key_bytes not in _KEY_BYTES:
            found.append(f"A master key of {self.key_bytes} bytes is impossible.")
        if self.master_key_iterations == 0:
            found.append("The iteration count of the master key digest is zero.")
        if self.payload_offset < HEADER_LENGTH:
            found.append(f"The payload offset {self.payload_offset:#x} lies inside the header.")
        found += self._slot_faults()
        return tuple(found)

    def _slot_faults(self) -> list[str]:
        found = []
        areas: list[tuple[int, int, int]] = []
        for slot in self.slots:
            name = f"Key slot {slot.index}"
            if slot.state not in (SLOT_ACTIVE, SLOT_INACTIVE):
                found.append(f"{name} is neither active nor inactive (state {slot.state:#x}).")
            if slot.stripes != STRIPES:
                found.append(f"{name} has {slot.stripes} stripes instead of {STRIPES}.")
            if slot.active and slot.iterations == 0:
                found.append(f"{name} is active with an iteration count of zero.")
            if slot.key_offset < HEADER_LENGTH:
                found.append(f"{name} overlaps the LUKS header.")
            end = slot.key_offset + self.key_bytes * STRIPES
            if end > self.payload_offset:
                found.append(f"{name} reaches beyond the start of the payload.")
            found += [
                f"Key slots {other} and {slot.index} overlap."
                for start, stop, other in areas
                if slot.key_offset < stop and start < end
            ]
            areas.append((slot.key_offset, end, slot.index))
        return found

    @property
    def costly_slots(self) -> tuple[int, ...]:
        """Active slots whose iteration count would take minutes; -1 stands for the master key."""
        slots = [s.index for s in self.slots if s.active and s.iterations >= COSTLY_ITERATIONS]
        return tuple(([-1] if self.master_key_iterations >= COSTLY_ITERATIONS else []) + slots)


def parse_luks(data: bytes) -> LuksHeader | None:
    """Decode the first 592 bytes of a LUKS header; None when it is not one or is cut off."""
    if len(data) < HEADER_LENGTH or data[:6] != MAGIC:
        return None
    (_, version, cipher, mode, hash_, payload, key_bytes, _digest, _salt, iterations, uuid) = (
        _FIXED.unpack_from(data)
    )
    slots = []
    for index in range(KEY_SLOTS):
        state, slot_iterations, _slot_salt, key_offset, stripes = _SLOT.unpack_from(
            data, _FIXED.size + index * _SLOT.size
        )
        slots.append(KeySlot(index, state, slot_iterations, key_offset * 512, stripes))
    texts = {"cipher name": cipher, "cipher mode": mode, "hash name": hash_, "UUID": uuid}
    return LuksHeader(
        version=version,
        cipher=_text(cipher),
        mode=_text(mode),
        hash=_text(hash_),
        payload_offset=payload * 512,
        key_bytes=key_bytes,
        master_key_iterations=iterations,
        uuid=_text(uuid),
        slots=tuple(slots),
        unterminated=tuple(name for name, value in texts.items() if b"\0" not in value),
    )


def _text(value: bytes) -> bytes:
    return value.split(b"\0", 1)[0]
