"""Records behave as frozen, slotted dataclasses do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import ClassVar

import pytest

from qcow.record import record


@record
class Place:
    """A place."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()
    origin: ClassVar[int] = 7

    @property
    def sum(self) -> int:
        return self.x + self.y

    @classmethod
    def diagonal(cls, at: int) -> Place:
        return cls(at, at)


@record
class Other:
    x: int
    y: int = 2
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class AsDataclass:
    """A place."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()


def test_fields_are_given_by_position_by_name_and_by_default() -> None:
    place = Place(1, names=("a",))
    assert (place.x, place.y, place.names, place.sum) == (1, 2, ("a",), 3)
    assert Place.diagonal(4) == Place(4, 4)
    assert Place.origin == 7
    assert Place.__doc__ == "A place."


def test_it_is_built_and_shown_as_a_dataclass_is() -> None:
    assert repr(Place(1)) == repr(AsDataclass(1)).replace("AsDataclass", "Place")
    assert hash(Place(1)) == hash(AsDataclass(1))
    for arguments in ((), (1, 2, (), 3)):
        with pytest.raises(TypeError):
            Place(*arguments)


def test_equality_asks_for_the_same_class() -> None:
    assert Place(1) == Place(1, 2)
    assert Place(1) != Place(2)
    assert Place(1).__eq__(Other(1)) is NotImplemented
    assert len({Place(1), Place(1, 2), Place(1, 3)}) == 2


def test_a_record_does_not_change() -> None:
    place = Place(1)
    with pytest.raises(AttributeError, match="cannot set 'x'"):
        place.x = 5  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot delete 'x'"):
        del place.x
    with pytest.raises(AttributeError):
        place.other = 1  # type: ignore[attr-defined]
    assert not hasattr(place, "__dict__")
    assert place == Place(1)


def test_it_can_be_copied_pickled_matched_and_replaced() -> None:
    place = Place(1, 5, ("a",))
    assert copy.copy(place) == copy.deepcopy(place) == pickle.loads(pickle.dumps(place)) == place
    assert dataclasses.replace(place, y=6) == Place(1, 6, ("a",))
    assert [field.name for field in dataclasses.fields(place)] == ["x", "y", "names"]
    assert dataclasses.asdict(place) == {"x": 1, "y": 5, "names": ("a",)}
    match place:
        case Place(x, y):
            assert (x, y) == (1, 5)


def test_the_command_line_does_not_load_dataclasses() -> None:
    script = (
        "import sys, qcowtui.cli.main, qcowtui.cli.verbs.check, qcow.inspect.check.run\n"
        "sys.exit('dataclasses' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
