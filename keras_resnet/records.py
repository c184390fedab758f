"""What the fields of specs, recipes and augmentations may be. No TensorFlow.

Each of them keeps a table of its fields' checks, made of those here.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

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
            and math.isfinite(value)
            and (low < value if above else low <= value)
            and (value < high if below else value <= high)
        )

    return check, allowed or (
        f"a number {'above' if above else 'from'} {low:g} to "
        f"{'below ' if below else ''}{high:g}"
    )


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


def settle(
    record: Any, checks: Mapping[str, Check], error: type[UserError], prefix: str = ""
) -> None:
    """Makes the fields of a frozen dataclass plain, and checks them.

    Raises:
        UserError: of the class `error`, at the first that is wrong.
    """
    for field, (check, allowed) in checks.items():
        value = _plain(getattr(record, field))
        object.__setattr__(record, field, value)
        if not check(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise error(f"{prefix}{field}: {shown!r} is not {allowed}")


def _plain(value: Any) -> Any:
    """A tuple for a list, Python's number for numpy's: equal after a trip by JSON."""
    if type(value) in (list, tuple):
        return tuple(map(_plain, value))
    if type(value) is bool:
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def refuse_unknown(
    given: Iterable[Any],
    checks: Mapping[str, Check],
    error: type[UserError],
    prefix: str = "",
) -> None:
    """Refuses names of fields that there are not.

    Raises:
        UserError: of the class `error`, with those that there are.
    """
    unknown = sorted(str(name) for name in given if name not in checks)
    if unknown:
        raise error(
            f"{prefix}{', '.join(unknown)}: not a field; the fields are "
            f"{', '.join(checks)}"
        )


def to_dict(record: Any) -> dict[str, Any]:
    """All fields, tuples as lists: JSON types where the fields are."""
    return {
        field: list(value) if isinstance(value, tuple) else value
        for field, value in vars(record).items()
    }
