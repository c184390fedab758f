"""Amounts with units: "4.1GMAC", "2Mparam", "500MB", "5ms", "3 images"."""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from keras_resnet.errors import BudgetError

Quantity = Literal["macs", "params", "memory", "time"]

_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS: dict[str, tuple[Quantity, float]] = {
    **{f"{p}MAC": ("macs", f) for p, f in _PREFIXES.items()},
    **{f"{p}param": ("params", f) for p, f in _PREFIXES.items()},
    **{f"{p}B": ("memory", f) for p, f in _PREFIXES.items()},
    "MiB": ("memory", 2.0**20),
    "GiB": ("memory", 2.0**30),
    "ms": ("time", 1e-3),
    "s": ("time", 1),
    "min": ("time", 60),
    "h": ("time", 3600),
    "d": ("time", 86_400),
}
_AMOUNT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)\s*")


class Amount(NamedTuple):
    """So many multiply-adds, parameters, bytes or seconds, and the unit as written."""

    quantity: Quantity
    value: float
    unit: str


def parse_amount(text: str) -> Amount:
    """What a text says, "GMACs" and "kmac" too.

    Raises:
        BudgetError: it is no amount above 0.
    """
    match = _AMOUNT.fullmatch(text)
    written = match[2].lower() if match else ""
    if written.endswith(("macs", "params")):
        written = written.removesuffix("s")
    unit = {each.lower(): each for each in _UNITS}.get(written, "")
    if not match or not unit or not 0 < float(match[1]) < math.inf:
        raise BudgetError(
            f"budget: {text.strip()!r} is not a number and a unit, such as 4.1GMAC, "
            "25Mparam, 500MB, 30ms or 2h"
        )
    quantity, factor = _UNITS[unit]
    return Amount(quantity, float(match[1]) * factor, unit)


def count(number: int, noun: str) -> str:
    """Such as "1 image" or "1,200 images"."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


def duration(seconds: float) -> str:
    """In words, as long ones are told: "40 seconds", "12 minutes", "2.5 hours"."""
    for noun, length, most in (("second", 1, 90), ("minute", 60, 90 * 60)):
        if seconds < most:
            return count(round(seconds / length), noun)
    noun, length = ("hour", 3600) if seconds < 48 * 3600 else ("day", 86_400)
    return f"{seconds / length:.1f} {noun}s"


def in_units(value: float, unit: str) -> str:
    """Such as 4.1GMAC, of MAC, param or B."""
    rounded = float(f"{value:.3g}")  # 999.7M is 1G
    prefix = [p for p, factor in _PREFIXES.items() if rounded >= factor or not p][-1]
    return f"{rounded / _PREFIXES[prefix]:.3g}{prefix}{unit}"
