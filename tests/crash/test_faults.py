"""Every I/O call of every action fails once, in every way: the image is the old or the new one."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from qcow.errors import IndeterminateError, NoSpaceError, QcowError, StorageError
from qcow.storage.base import WritableStorage
from tests.support.storages import Fault, FaultyStorage, Killed

from .acting import Acted, Wrap
from .cases import Case, cases_of
from .enumerate import Op, replay
from .variants import VARIANTS, Variant, build

KILLS = (Fault.KILL, Fault.KILL_HALFWAY, Fault.KILL_AFTER)

#: To be killed after a call is to be killed before the next one.
FAULTS = [fault for fault in Fault if fault is not Fault.KILL_AFTER]
#: Small, for every case is run some hundred times.
SMALL = Variant("small", lambda: build(clusters=100))
#: Actions that differ from another one in their numbers only.
ALIKE = (
    "create twice",
    "write far away",
    "zero, keep",
    "grow by tables",
    "64-bit refcounts",
    "8-bit refcounts",
    "compact in rounds",
    "defragment",
)
#: Every action on a small image; on others what they do differently.
CASES = [
    case
    for variant in (SMALL, *VARIANTS)
    for case in cases_of(variant)
    if (variant is SMALL and case.name not in ALIKE)
    or (variant.name == "backing" and case.name in ("flatten in batches", "rebase", "relink"))
    or (variant.name == "bitmaps" and case.name in ("bitmap remove", "bitmap merge", "write"))
    or (variant.name == "v2-backing" and case.name in ("upgrade", "write"))
    or (variant.name.startswith("external") and case.name in ("write", "discard", "shrink"))
]
#: Actions whose reads are of all kinds.
READING = ("create", "apply, keep", "delete, reclaim", "write", "shrink", "rebase", "bitmap merge")
by_name = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.variant.name} {case.name}"
)


class Failing:
    """Puts a fault under the image (``file`` 0) or its data file (1)."""

    def __init__(self, file: int, at: int, fault: Fault, *, reads: bool = False) -> None:
        self._file, self._at, self._fault, self._reads = file, at, fault, reads
        self.storage: FaultyStorage | None = None

    def wrap(self, file: int) -> Wrap:
        def put(storage: WritableStorage) -> WritableStorage:
            if file != self._file:
                return storage
            self.storage = FaultyStorage(storage, self._at, self._fault, reads=self._reads)
            return self.storage

        return put

    @property
    def struck(self) -> bool:
        return self.storage is not None and self.storage.struck


def run(case: Case, failing: Failing) -> tuple[bytes, bytes, BaseException | None]:
    """(image, data file, what was raised) after the case with a fault."""
    order: list[tuple[int, Op]] = []
    raised: BaseException | None = None
    try:
        case.act(wrap=failing.wrap(0), wrap_data=failing.wrap(1), order=order)
    except (Exception, Killed) as error:
        raised = error
    data = b"" if case.variant.data is None else case.variant.data()
    file = replay(case.variant.make(), (op for number, op in order if number == 0))
    return file, replay(data, (op for number, op in order if number == 1)), raised


@by_name
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
def test_any_call_may_fail(case: Case, fault: Fault) -> None:
    right = case.act()
    switches = sum(number == 0 and op[0] == "w" and op[1] < 512 for number, op in right.order)
    for file in (0, 1) if case.variant.data is not None else (0,):
        struck = Counter[str]()
        for at in count():
            failing = Failing(file, at, fault)
            image, data, raised = run(case, failing)
            if not failing.struck:
                assert raised is None
                assert image == right.final
                break
            assert failing.storage is not None
            what = failing.storage.struck_at
            struck[what] += 1
            check_error(fault, what, raised)
            why = right.judge(image, data)
            assert why is None, (file, at, what, why)
            # What is given back, and what more actions do, comes after the switch.
            alone = len(case.actions()) == switches == 1 and case.name != "compact"
            stays_old = alone and not isinstance(raised, IndeterminateError)
            if stays_old and not file and fault not in KILLS:
                judge_old(right, image, data)
        expected = Counter(kind for number, (kind, *_) in right.order if number == file)
        assert struck["write"] == expected["w"]
        assert struck["flush"] == expected["b"]
        assert struck["punch"] == expected["p"]


def check_error(fault: Fault, what: str, raised: BaseException | None) -> None:
    if fault in KILLS:
        assert isinstance(raised, Killed)
    elif what == "allocate" and raised is None:
        pass  # room that cannot be had in advance is no error: the write will tell
    else:
        assert isinstance(raised, StorageError)
        assert isinstance(raised, NoSpaceError) == (
            what == "allocate" or (fault is Fault.ENOSPC and what in ("write", "truncate"))
        )
        assert len(str(raised).splitlines()) == 1


def judge_old(right: Acted, image: bytes, data: bytes) -> None:
    """A failure that is not indeterminate says that nothing happened."""
    if not right.in_place:
        assert right.look(image, data).view() == right.look(right.base).view()
    assert image[:512] == right.base[:512]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in READING],
    ids=lambda case: f"{case.variant.name} {case.name}",
)
def test_any_read_may_fail(case: Case) -> None:
    """A read that fails is a typed error, and changes nothing that counts."""
    right = case.act()
    reads = 0
    at = 0
    while True:
        failing = Failing(0, at, Fault.EIO, reads=True)
        image, data, raised = run(case, failing)
        if not failing.struck:
            assert raised is None
            break
        assert failing.storage is not None
        if failing.storage.struck_at == "read":
            reads += 1
            # The new image is opened once more after the switch, which may fail without harm.
            assert isinstance(raised, QcowError) if raised else image == right.final
        assert right.judge(image, data) is None
        at += 1 + at // 4
    assert reads > 0
