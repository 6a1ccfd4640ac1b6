"""Immutable values with named fields: what a frozen dataclass is, made in a tenth of the time.

A program that answers in a few dozen milliseconds notices what ``dataclasses`` costs: it loads
``inspect`` and compiles six methods for each class.  :func:`record` compiles one, when the first
value of the class is made: of most classes a program loads it makes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import Field
    from dataclasses import replace as replace
else:

    def replace(value, /, **changes):
        """``value`` with some fields changed; ``dataclasses`` would build a class of its own."""
        kept = {name: getattr(value, name) for name in value.__match_args__}
        return type(value)(**kept | changes)


T = TypeVar("T")


class _Fields:
    """``__dataclass_fields__`` of a record, made when ``dataclasses.replace`` and such ask."""

    def __init__(self, names: tuple[str, ...], defaults: dict[str, Any]) -> None:
        self._names = names
        self._defaults = defaults
        self._made: dict[str, Field[Any]] | None = None

    def __get__(self, instance: object, owner: type) -> dict[str, Field[Any]]:
        if self._made is not None:
            return self._made
        from dataclasses import field, make_dataclass

        given = [
            (name, Any, field(default=self._defaults[name]) if name in self._defaults else field())
            for name in self._names
        ]
        made: Any = make_dataclass(owner.__name__, given)
        found: dict[str, Field[Any]] = made.__dataclass_fields__
        self._made = found
        return found


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen, slotted value class of its annotated names, as ``dataclass`` would.

    Equal when of the same class with equal fields; hashable if all fields are.  Defaults have to
    be immutable.  ``dataclasses.replace`` and ``fields`` work.  No field of a base class is taken
    over, and bare ``super()`` does not work in its methods, as in all slotted dataclasses.
    """
    names = tuple(
        name for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")
    )
    members = {
        name: value
        for name, value in vars(cls).items()
        if name not in names and name not in ("__dict__", "__weakref__")
    }
    defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
    members.update(
        __slots__=names,
        __match_args__=names,
        __dataclass_fields__=_Fields(names, defaults),
        __setattr__=_refuse_to_set,
        __delattr__=_refuse_to_delete,
        __eq__=members.get("__eq__", _equal),
        __hash__=_hash,
        __repr__=members.get("__repr__", _repr),
        __reduce__=_reduce,
    )
    metaclass: Any = type(cls)
    made: type[T] = metaclass(cls.__name__, cls.__bases__, members)

    def first(self: Any, *arguments: Any, **named: Any) -> None:
        initialise = _initialiser(made, names, defaults)
        setattr(made, "__init__", initialise)  # noqa: B010 (typed)
        initialise(self, *arguments, **named)

    setattr(made, "__init__", first)  # noqa: B010 (typed)
    return made


def _initialiser(cls: type, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    parameters = (f"{name}=_default_{name}" if name in defaults else name for name in names)
    settings = (f"_set_{name}(self, {name})" for name in names)
    source = f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(settings)
    scope: dict[str, Any] = {f"_default_{name}": value for name, value in defaults.items()}
    scope.update((f"_set_{name}", vars(cls)[name].__set__) for name in names)
    scope["__name__"] = cls.__module__
    exec(source, scope)
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _values(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, name) for name in value.__match_args__])


def _equal(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    named = (f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({', '.join(named)})"


def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
    return type(self), _values(self)


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise AttributeError(f"{type(self).__qualname__} values do not change: cannot set {name!r}.")


def _refuse_to_delete(self: object, name: str) -> None:
    raise AttributeError(f"{type(self).__qualname__} values do not change: cannot delete {name!r}.")
