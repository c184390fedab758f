"""State dicts as people keep them: nested, under prefixes, among other things."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import WeightsError, WeightsWarning

# Keys under which training scripts keep the network, the first that is there.
KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network",
    "params", "state_dict_ema", "model_ema",
)  # fmt: skip
# What wrappers put before a network's names, also one in another. Of two networks, the
# one under these alone is meant.
WRAPPERS = {
    "module", "_orig_mod", "_forward_module", "model", "net", "backbone", "encoder",
    "encoder_q", "base_encoder", "online_encoder", "online_network", "student",
}  # fmt: skip
# What torch and transformers put there by themselves.
_UNSAID = {"module", "_orig_mod", "resnet"}
# Of a network's tensors, what it computes nothing with.
_COUNTERS = ("num_batches_tracked", "n_averaged")


class State(NamedTuple):
    """A network's tensors, float32, by the names that its library gives them.

    Attributes:
        tensors: the network's.
        chosen: what had to be chosen on the way to them, to be said.
        beside: those of other modules beside the one that the network is.
    """

    tensors: dict[str, np.ndarray]
    chosen: list[str]
    beside: frozenset[str] = frozenset()


def find(
    content: Mapping[Any, Any], signs: Iterable[str], key: str | None, source: object
) -> State:
    """The network's tensors in what a file holds.

    Args:
        content: tensors by name, or dicts that hold them at some depth.
        signs: names of tensors, one of which every network has.
        key: where they are, with a dot from one dict to the next, or the prefix of
            their names; found if None.
        source: what messages call the file.

    Raises:
        WeightsError: no tensors there, several networks under different prefixes, or
            tensors that hold no finite real numbers.
    """
    chosen: list[str] = []
    content = _at(content, key, source) if key else _unnested(content, source, chosen)
    tensors = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, np.ndarray) and not str(name).endswith(_COUNTERS)
    }
    tensors, beside = _without_prefix(tensors, signs, source, chosen)
    arrays = {name: as_float(value, name, source) for name, value in tensors.items()}
    return State(arrays, chosen, beside)


def say(chosen: Iterable[str], source: object) -> None:
    """Warns of what was chosen, if anything."""
    text = "; ".join(chosen)
    if text:
        warnings.warn(f"weights: {source}: {text}", WeightsWarning, stacklevel=3)


def as_float(value: np.ndarray, name: str, source: object) -> np.ndarray:
    """The array in float32.

    Raises:
        WeightsError: a complex number, NaN or an infinity; or a kernel of integers,
            which are nothing without their scales.
    """
    if value.dtype.kind not in "fiubV":
        raise WeightsError(f"weights: {source}: {name} holds {value.dtype} numbers")
    if value.ndim > 1 and value.dtype.kind in "iub":
        raise WeightsError(
            f"weights: {source}: {name} holds {value.dtype} numbers, as a quantized "
            "network's; only float ones are read"
        )
    plain = value.astype("float32")
    if not np.isfinite(plain).all():
        kind = "NaN" if np.isnan(plain).any() else "infinite numbers"
        raise WeightsError(f"weights: {source}: {name} holds {kind}; nothing is loaded")
    return plain


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(item, np.ndarray) or _has_tensors(item) for item in value.values()
    )


def _keys(content: Mapping[Any, Any]) -> list[str]:
    return [str(key) for key, value in content.items() if _has_tensors(value)]


def _at(content: Mapping[Any, Any], key: str, source: object) -> Mapping[Any, Any]:
    """The dict at a key."""
    under = {n: v for n, v in content.items() if str(n).startswith(f"{key}.")}
    if _has_tensors(under):
        return {str(n).removeprefix(f"{key}."): v for n, v in under.items()}
    for part in key.split("."):
        inner: Any = content.get(part)
        if not _has_tensors(inner):
            keys = ", ".join(_keys(content)) or "none"
            raise WeightsError(
                f"key: {source} has no tensors under {key!r}; keys of dicts with "
                f"tensors are: {keys}"
            )
        content = inner
    return content


def _unnested(
    content: Mapping[Any, Any], source: object, chosen: list[str]
) -> Mapping[Any, Any]:
    """The innermost dict of a network, by the usual keys."""
    while inner := [key for key in KEYS if _has_tensors(content.get(key))]:
        if len(inner) > 1:
            chosen.append(
                f"read key {inner[0]!r}; there is {' and '.join(inner[1:])} too (key=)"
            )
        content = content[inner[0]]
    if not any(isinstance(value, np.ndarray) for value in content.values()):
        keys = _keys(content)
        raise WeightsError(
            f"weights: {source} holds no state dict of tensors"
            + (f"; name one of its keys by key=: {', '.join(keys)}" if keys else "")
        )
    return content


def _without_prefix(
    tensors: dict[str, np.ndarray], signs: Iterable[str], source: object,
    chosen: list[str],
) -> tuple[dict[str, np.ndarray], frozenset[str]]:  # fmt: skip
    """The tensors after a wrapper's prefix, those beside it, and the latter's names."""
    prefixes = {
        name[: -len(sign)] for sign in signs for name in tensors if _ends(name, sign)
    }
    usual = sorted(p for p in prefixes if set(p.split(".")[:-1]) <= WRAPPERS)
    meant = usual or sorted(prefixes)
    if "" in meant or not meant:
        return tensors, frozenset()
    if len(meant) > 1:
        raise WeightsError(
            f"weights: {source} holds networks under {' and '.join(map(repr, meant))}; "
            f"name the one that you mean: key={meant[0][:-1]!r}"
        )
    prefix = meant[0]
    other = [p for p in prefixes if p != prefix]  # another network, to be left out
    if not set(prefix.split(".")[:-1]) <= _UNSAID:
        chosen.append(f"read what is under {prefix!r}")
    if other:
        chosen.append(f"left out what is under {', '.join(map(repr, sorted(other)))}")
    result: dict[str, np.ndarray] = {}
    beside = set()
    for name, value in tensors.items():
        if name.startswith(prefix):
            result[name.removeprefix(prefix)] = value
        elif not name.startswith(tuple(other)):
            # A head beside the backbone.
            while name.partition(".")[0] in WRAPPERS and "." in name:
                name = name.partition(".")[2]
            if name not in result:
                result[name] = value
                beside.add(name)
    return result, frozenset(beside)


def _ends(name: str, sign: str) -> bool:
    return name == sign or name.endswith(f".{sign}")
