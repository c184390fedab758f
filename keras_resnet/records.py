"""Validation and JSON of the frozen records: specs, recipes, augmentations, spaces.

Each record keeps a table of its fields' checks, made of those here. No TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, Self, get_args

from keras_resnet.errors import UserError

Check = tuple[Callable[[Any], bool], str]  # whether a value is right, and what would be


def integer(low: int, high: float = math.inf, allowed: str = "") -> Check:
    """An integer between two ends, both within."""
    return (
        lambda value: type(value) is int and low <= value <= high,
        allowed or f"an integer from {low} to {high:,}",
    )


def number(
    low: float,
    high: float = math.inf,
    allowed: str = "",
    *,
    above: bool = False,
    below: bool = False,
) -> Check:
    """A finite number between two ends, which are within unless said otherwise."""

    def check(value: Any) -> bool:
        return (
            type(value) in (int, float)
            and _is_finite(value)
            and (low < value if above else low <= value)
            and (value < high if below else value <= high)
        )

    return check, allowed or (
        f"a number {'above' if above else 'from'} {low:g} to "
        f"{'below ' if below else ''}{high:g}"
    )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def choice(literal: Any) -> Check:
    """One of a `Literal`'s strings."""
    names = get_args(literal)
    return (
        lambda value: isinstance(value, str) and value in names,
        "one of " + ", ".join(map(repr, names)),
    )


FLAG: Check = (lambda value: type(value) is bool), "true or false"


def several(item: Check, at_least: int, at_most: int, allowed: str = "") -> Check:
    """A tuple, or list, of what another check allows."""
    count = f"{at_least}" if at_least == at_most else f"{at_least} to {at_most}"
    return (
        lambda value: (
            type(value) is tuple
            and at_least <= len(value) <= at_most
            and all(map(item[0], value))
        ),
        allowed or f"a list of {count}, each {item[1]}",
    )


def optional(item: Check) -> Check:
    """None, or what another check allows."""
    return (lambda value: value is None or item[0](value)), f"{item[1]}, or null"


@dataclasses.dataclass(frozen=True)
class Record:
    """A frozen dataclass whose fields are checked when it is made, and its JSON form.

    A subclass says what it is called in messages, which error it raises, and what its
    fields may be.
    """

    _kind: ClassVar[str]
    _error: ClassVar[type[UserError]]
    _checks: ClassVar[Mapping[str, Check]]
    _prefix: ClassVar[str] = ""  # of messages about a field
    _schema: ClassVar[int | None] = None  # kept with the fields, if there is one

    def __post_init__(self) -> None:
        self._validate(tuple(vars(self)))

    def _validate(self, fields: Iterable[str]) -> None:
        """Makes some fields plain and checks them, then all together."""
        for field in fields:
            value = self._checked(field, _plain(getattr(self, field)))
            object.__setattr__(self, field, value)
        self._check_combinations()

    def _checked(self, field: str, value: Any) -> Any:
        """The value that a field keeps."""
        check, allowed = self._checks[field]
        if not check(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise self._error(f"{self._prefix}{field}: {shown!r} is not {allowed}")
        return value

    def _check_combinations(self) -> None:
        """Refuses what is right field by field and wrong together."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            UserError: a field that there isn't, or a value that it can't have.
        """
        self._refuse_unknown(changes, vars(self))
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), **changes)
        copy._validate(changes)
        return copy

    def to_dict(self) -> dict[str, Any]:
        """All fields, and the schema if it has one, as JSON types."""
        fields = {field: _as_json(value) for field, value in vars(self).items()}
        return fields if self._schema is None else fields | {"schema": self._schema}

    def to_json(self) -> str:
        """What `to_dict` gives, sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; fields left out take their defaults.

        Raises:
            UserError: another schema, a field that there isn't or is missing, or a
                value that it can't have.
        """
        if not isinstance(given, Mapping):
            raise cls._error(f"{cls._kind}: {given!r} is not a JSON object of fields")
        fields = dict(given)
        if cls._schema is not None:
            schema = fields.pop("schema", cls._schema)
            if schema != cls._schema:
                raise cls._error(
                    f"{cls._prefix}schema: {schema!r} is not {cls._schema}"
                )
        known = {field.name: field for field in dataclasses.fields(cls)}
        cls._refuse_unknown(fields, known)
        missing = sorted(
            field.name
            for field in known.values()
            if field.name not in fields
            and field.default is field.default_factory is dataclasses.MISSING
        )
        if missing:
            raise cls._error(f"{cls._prefix}{', '.join(missing)}: missing")
        return cls(**{name: cls._from_json(name, v) for name, v in fields.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            UserError: no JSON, or what `from_dict` refuses.
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise cls._error(f"{cls._kind}: not JSON: {error}") from None
        return cls.from_dict(given)

    @classmethod
    def _from_json(cls, field: str, value: Any) -> Any:
        """A field's value from its JSON form."""
        return value

    @classmethod
    def _refuse_unknown(cls, given: Iterable[Any], known: Collection[str]) -> None:
        unknown = sorted(str(name) for name in given if name not in known)
        if unknown:
            raise cls._error(
                f"{cls._prefix}{', '.join(unknown)}: not a field; the fields are "
                f"{', '.join(known)}"
            )


def _plain(value: Any) -> Any:
    """A tuple for a list, Python's number for numpy's: equal after a trip by JSON."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if type(value) in (list, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _as_json(value: Any) -> Any:
    """A list for a tuple, an object for a record."""
    if isinstance(value, Record):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value
