"""Every file that a crash can leave behind, from the operations that were under way.

The model (that of a disk with a volatile cache): what was written since the last barrier of a file
may be there or not, in any combination; a write can be torn at any 512-byte boundary of the file.
A barrier of one file says nothing about another.  Knows nothing of image formats.

Operations: ``("w", offset, data)``, ``("t", length)``, ``("p", offset, length)`` (zeros, the
length stays), ``("b",)`` (barrier).
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby
from operator import itemgetter
from typing import Literal

Write = tuple[Literal["w"], int, bytes]
Truncate = tuple[Literal["t"], int]
Punch = tuple[Literal["p"], int, int]
Barrier = tuple[Literal["b"]]
Op = Write | Truncate | Punch | Barrier

SECTOR = 512
#: Share of the operations that survive, for random subsets.
_DENSITIES = (0.1, 0.5, 0.9)


def apply(file: bytearray, op: Op) -> None:
    """Carry out one operation on ``file``; a barrier does nothing."""
    if op[0] == "w":
        _, offset, data = op
        if offset > len(file):
            file.extend(bytes(offset - len(file)))
        file[offset : offset + len(data)] = data
    elif op[0] == "t":
        del file[op[1] :]
        file.extend(bytes(op[1] - len(file)))
    elif op[0] == "p":
        _, offset, length = op
        end = min(offset + length, len(file))
        if end > offset:
            file[offset:end] = bytes(end - offset)


def replay(base: bytes, ops: Iterable[Op]) -> bytes:
    """The file after all of ``ops``."""
    return bytes(_replayed(base, ops))


def _replayed(base: bytes, ops: Iterable[Op]) -> bytearray:
    file = bytearray(base)
    for op in ops:
        apply(file, op)
    return file


def epochs(ops: Iterable[Op]) -> list[list[Op]]:
    """The operations between barriers; empty stretches are left out."""
    found: list[list[Op]] = [[]]
    for op in ops:
        if op[0] == "b":
            found.append([])
        else:
            found[-1].append(op)
    return [epoch for epoch in found if epoch]


def sectors_of(ops: Iterable[Op], *, most: int) -> list[Op]:
    """The same operations with writes cut at sector boundaries, any of which may survive alone.

    An epoch of more than ``most`` sectors is cut into larger pieces, about that many.
    """
    found: list[Op] = []
    for epoch in _with_barriers(ops):
        total = sum(-(-len(op[2]) // SECTOR) for op in epoch if op[0] == "w")
        step = SECTOR * -(-total // most) if total else SECTOR
        for op in epoch:
            if op[0] != "w":
                found.append(op)
                continue
            _, offset, data = op
            at = 0
            while at < len(data):
                stop = min(len(data), at + step - (offset + at) % SECTOR)
                found.append(("w", offset + at, data[at:stop]))
                at = stop
    return found


def sectors_of_two(ops: Iterable[tuple[int, Op]], *, most: int) -> list[tuple[int, Op]]:
    """The same for the operations on two files, as :func:`states_of_two` takes them."""
    return [
        (file, op)
        for file, mixed in groupby(ops, key=itemgetter(0))
        for op in sectors_of((op for _, op in mixed), most=most)
    ]


def _with_barriers(ops: Iterable[Op]) -> Iterator[list[Op]]:
    """The operations up to each barrier, and it."""
    epoch: list[Op] = []
    for op in ops:
        epoch.append(op)
        if op[0] == "b":
            yield epoch
            epoch = []
    yield epoch


def states(
    base: bytes,
    ops: Sequence[Op],
    *,
    full: int = 10,
    random: int = 64,
    cuts: int = 6,
    seed: int = 1,
) -> Iterator[tuple[str, bytes]]:
    """``(label, file)`` for each different file that a crash during ``ops`` can leave.

    The first is ``base``; the file after everything is among them.  Of the operations between two
    barriers survive: every subset where there are at most ``full`` of them, else every beginning,
    each one alone, all but each one, and ``random`` subsets at each of three densities.  Each
    write is also torn at up to ``cuts`` sector boundaries, its front or its rear surviving alone,
    after all that came before it, or with everything else of its stretch.
    """
    # States of one length differ in what is touched alone, which is much less than a file.
    touched = _touched(ops)
    seen = set[tuple[int, int]]()

    def fresh(file: bytes | bytearray) -> bool:
        key = len(file), hash(b"".join(file[start:end] for start, end in touched))
        if key in seen:
            return False
        seen.add(key)
        return True

    fresh(base)
    yield "start", bytes(base)
    for label, file in _all_states(base, ops, full, random, cuts, seed):
        if fresh(file):
            yield label, bytes(file)


def _touched(ops: Iterable[Op]) -> list[tuple[int, int]]:
    """(start, end) of where ``ops`` change something, disjoint; a truncation changes all behind."""
    found: list[tuple[int, int]] = []
    ranges = (
        (op[1], sys.maxsize if op[0] == "t" else op[1] + (len(op[2]) if op[0] == "w" else op[2]))
        for op in ops
        if op[0] != "b"
    )
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _all_states(
    base: bytes, ops: Sequence[Op], full: int, number: int, cuts: int, seed: int
) -> Iterator[tuple[str, bytearray]]:
    dice = random.Random(seed)
    durable = bytes(base)
    for index, epoch in enumerate(epochs(ops)):
        for chosen in _subsets(len(epoch), full, number, dice):
            yield f"epoch {index}: {_named(chosen, len(epoch))}", _with(durable, epoch, chosen)
        yield from _torn(durable, epoch, cuts, dice, f"epoch {index}: ")
        durable = replay(durable, epoch)
    yield "end", bytearray(durable)


def _subsets(count: int, full: int, number: int, dice: random.Random) -> Iterator[tuple[int, ...]]:
    everything = range(count)
    if count <= full:
        for size in range(count + 1):
            yield from combinations(everything, size)
        return
    for size in range(count + 1):
        yield tuple(range(size))
    for one in everything:
        yield (one,)
        yield tuple(other for other in everything if other != one)
    for density in _DENSITIES:
        for _ in range(number):
            yield tuple(one for one in everything if dice.random() < density)


def _torn(
    durable: bytes, epoch: Sequence[Op], cuts: int, dice: random.Random, label: str
) -> Iterator[tuple[str, bytearray]]:
    for index, op in enumerate(epoch):
        if op[0] != "w":
            continue
        _, offset, data = op
        places = range(SECTOR - offset % SECTOR, len(data), SECTOR)
        chosen = places if len(places) <= cuts else sorted(dice.sample(places, cuts))
        halves: list[tuple[str, Op]] = []
        for cut in chosen:
            halves.append((f"front {cut}", ("w", offset, data[:cut])))
            halves.append((f"rear {cut}", ("w", offset + cut, data[cut:])))
        if not halves:
            continue
        before = replay(durable, epoch[:index])
        for name, half in halves:
            yield f"{label}{index} torn, {name}, alone", _replayed(durable, [half])
            yield f"{label}{index} torn, {name}, after", _replayed(before, [half])
            others = [*epoch[:index], half, *epoch[index + 1 :]]
            yield f"{label}{index} torn, {name}, with all", _replayed(durable, others)


def states_of_two(
    bases: tuple[bytes, bytes],
    ops: Sequence[tuple[int, Op]],
    *,
    full: int = 6,
    random: int = 16,
    cuts: int = 2,
    seed: int = 1,
) -> Iterator[tuple[str, bytes, bytes]]:
    """``(label, first, second)`` for crashes while two files are written.

    ``ops`` are pairs of the file's number (0 or 1) and the operation, in the order they were made.
    The crash comes after each operation in turn: each file is then as its own barriers so far
    leave it, in any combination of the two.  Arguments as for :func:`states`, for each file; pairs
    are all of them where both files have few states, else each state with the extremes of the
    other file (none and all of what is volatile) and ``random`` pairs.
    """
    dice = _dice(seed)
    seen: set[bytes] = set()
    durable = [bytes(bases[0]), bytes(bases[1])]
    volatile: list[list[Op]] = [[], []]

    def crash(label: str) -> Iterator[tuple[str, bytes, bytes]]:
        sides = []
        for file in (0, 1):
            found = dict[bytes, str]()
            for name, state in states(
                durable[file], volatile[file], full=full, random=random, cuts=cuts, seed=seed
            ):
                found[state] = name
            whole = replay(durable[file], volatile[file])
            name = found.pop(whole)  # to the end: the other extreme
            sides.append([(name, state) for state, name in found.items()] + [(name, whole)])
        for one, other in _pairs(len(sides[0]), len(sides[1]), random, dice):
            (first_label, first), (second_label, second) = sides[0][one], sides[1][other]
            key = _digest(first) + _digest(second)
            if key not in seen:
                seen.add(key)
                yield f"{label}: {first_label} / {second_label}", first, second

    for index, (file, op) in enumerate(ops):
        if op[0] == "b":
            # The widest choice is just before a barrier: it covers the crashes since the last one.
            yield from crash(f"before {index}")
            durable[file] = replay(durable[file], volatile[file])
            volatile[file] = []
        else:
            volatile[file].append(op)
    yield from crash("end")


def _pairs(first: int, second: int, number: int, dice: random.Random) -> Iterator[tuple[int, int]]:
    if first * second <= 4 * number * number:
        for one in range(first):
            for other in range(second):
                yield one, other
        return
    for one in range(first):
        yield one, 0
        yield one, second - 1
    for other in range(second):
        yield 0, other
        yield first - 1, other
    for _ in range(4 * number):
        yield dice.randrange(first), dice.randrange(second)


def _with(durable: bytes, epoch: Sequence[Op], chosen: Sequence[int]) -> bytearray:
    return _replayed(durable, (epoch[index] for index in chosen))


def _named(chosen: Sequence[int], count: int) -> str:
    if len(chosen) == count:
        return "all"
    return f"{list(chosen)}" if len(chosen) <= 10 else f"{len(chosen)} of {count}"


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _dice(seed: int) -> random.Random:
    return random.Random(seed)
