"""Hyperparameters -> a network and its training.

KerasTuner's hyperparameters are declared from the space once (`declare`);
`spec_from_hp` and `recipe_from_hp` only read them. Neither KerasTuner nor TensorFlow is
imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_resnet.data.augment import Augment
from keras_resnet.errors import SpecError
from keras_resnet.plan import make_plan
from keras_resnet.presets import PRESETS
from keras_resnet.recipe import Recipe
from keras_resnet.spec import EXPANSION, MAX_CHANNELS, ResNetSpec
from tuning.space import PARAMETERS, Space, check_value


def declare(hp: Any, space: Space) -> None:
    """Declares a space to KerasTuner.

    What means something in bottleneck units only is in a conditional scope where the
    block is searched.
    """
    for field in space.searched:
        values = getattr(space, field)
        conditions: dict[str, Any] = {}
        if PARAMETERS[field].bottleneck and space.block is not None:
            conditions = {"parent_name": "block", "parent_values": ["bottleneck"]}
        if isinstance(values, tuple):
            hp.Choice(field, list(values), **conditions)
        elif values.low == values.high:
            hp.Choice(field, [values.low], **conditions)
        elif PARAMETERS[field].kind is int:
            sampling = "log" if values.log else "linear"
            step = {} if values.log else {"step": int(values.step or 1)}
            hp.Int(
                field, values.low, values.high, sampling=sampling, **step, **conditions
            )
        else:
            sampling = "log" if values.log else "linear"
            hp.Float(
                field,
                values.low,
                values.high,
                step=values.step,
                sampling=sampling,
                **conditions,
            )


def values_of(hp: Any, space: Space) -> dict[str, Any]:
    """The values of a space's parameters in KerasTuner's hyperparameters.

    Raises:
        SpaceError: one that a parameter can't have.
    """
    values = {f: hp.values[f] for f in space.searched if f in hp.values}
    for field, value in values.items():
        check_value(field, value)
    return values


# He 2015, Table 1 (and 2016, Table 5): units of four stages by block and depth.
_FOUR_STAGES = {("bottleneck", 26): (2, 2, 2, 2)} | {
    (PRESETS[f"resnet{depth}"].spec.block, depth): PRESETS[f"resnet{depth}"].spec.depths
    for depth in (18, 34, 50, 101, 152, 200)
}


def spec_from_hp(hp: Any, space: Space, base: ResNetSpec) -> ResNetSpec:
    """The network of some hyperparameters: any in the space give one.

    Values that don't go together are changed to the nearest that do: widths are rounded
    to whole channels, groups of less than a channel get one, options that the order of
    a unit does not allow are left out.

    Args:
        hp: KerasTuner's hyperparameters, or anything with `values`.
        space: what is searched.
        base: gives everything else.
    """
    values = values_of(hp, space)
    block = values.get("block", base.block)
    changed = block != base.block
    fields: dict[str, Any] = {"block": block}
    if changed:
        fields["kernels"] = None
        if block == "bottleneck" and base.shortcut == "pad":
            fields["shortcut"] = "project"  # as the papers' CIFAR networks
    fields |= _units(values, base, block)
    fields |= _widths(values, base, block)
    fields |= _order(values, base)
    if "survival" in values and base.merge in ("add", "scale"):
        fields["survival"] = values["survival"]
    spec = base.replace(**fields)
    if "stem" not in values:
        return spec
    chosen = spec.replace(stem=values["stem"])
    try:
        make_plan(chosen.replace(depths=(1,) * len(spec.depths)))
    except SpecError:
        return spec.replace(stem="cifar")
    return chosen


def _units(values: Mapping[str, Any], base: ResNetSpec, block: str) -> dict[str, Any]:
    """Depths by units a stage, or by the papers' formulas."""
    layers = {"basic": 2, "bottleneck": 3}.get(block, 2)
    stages = len(base.depths)
    if "units" in values:
        return {"depths": (values["units"],) * stages}
    if "depth" not in values:
        return {}
    depth = values["depth"]
    if stages == 4 and (block, depth) in _FOUR_STAGES:
        return {"depths": _FOUR_STAGES[block, depth]}
    return {"depths": (max(round((depth - 2) / (layers * stages)), 1),) * stages}


def _widths(values: Mapping[str, Any], base: ResNetSpec, block: str) -> dict[str, Any]:
    """Outer widths, k, cardinality and group width: each depends on the others."""
    grouped = block == base.block == "bottleneck"
    cardinality = values.get("cardinality", base.cardinality if grouped else 1)
    group_width = values.get("group_width", base.group_width if grouped else None)
    factor = _widening(block, base)
    outer = [width * factor for width in base.widths]
    chosen = "cardinality" in values and "group_width" not in values
    if chosen and (cardinality > 1 or group_width):
        inner = base.inner_width(0) / base.k if grouped else outer[0] / EXPANSION
        group_width = max(round(inner / cardinality), 1)
    k = values.get("k", base.k)
    multiple = EXPANSION if block == "bottleneck" and not group_width else 1
    if any(width * k % multiple for width in outer):
        # A factor that leaves no whole channels goes into the rounded widths.
        outer = [max(round(w * k / multiple), 1) * multiple for w in outer]
        group_width = group_width and max(round(group_width * k), 1)
        k = 1
    outer = [min(width, MAX_CHANNELS // multiple * multiple / k) for width in outer]
    if block != "bottleneck":
        cardinality, group_width = 1, None
    elif group_width:
        least, most = min(outer) / outer[0] * k, max(outer) / outer[0] * k
        group_width = min(group_width, int(MAX_CHANNELS / most) // cardinality)
        while int(group_width * least) < 1:
            group_width += 1
    return {
        "widths": tuple(int(width) for width in outer),
        "k": k,
        "cardinality": cardinality,
        "group_width": group_width,
        # Zeros can't be padded to fewer channels than there are.
        "stem_width": min(base.stem_width, int(outer[0] * k))
        if base.shortcut == "pad"
        else base.stem_width,
    }


def _widening(block: str, base: ResNetSpec) -> float:
    """Outer widths of units of another block, over the base's."""
    scale = {"basic": 1.0, "bottleneck": float(EXPANSION)}
    return scale[block] / scale[base.block] if block != base.block else 1.0


def hyperparameters_of(spec: ResNetSpec, base: ResNetSpec) -> dict[str, Any]:
    """What a space's parameters are in a network that was made of a base."""
    widening = _widening(spec.block, base)
    return {
        "block": spec.block,
        "depth": make_plan(spec).depth,
        "units": spec.depths[0],
        "k": spec.outer_width(0) / (base.widths[0] * widening),
        "cardinality": spec.cardinality,
        **({"group_width": spec.group_width} if spec.group_width else {}),
        "order": spec.order,
        "stem": spec.stem,
    }


def _order(values: Mapping[str, Any], base: ResNetSpec) -> dict[str, Any]:
    """The order, and the options that depend on it."""
    order = values.get("order", base.order)
    if order == base.order or (order == "bn_after_add" and base.norm == "none"):
        return {}
    return {
        "order": order,
        "zero_gamma": base.zero_gamma and order in ("post", "relu_only_pre"),
        # Pre-activation networks project as they are (He 2016, appendix).
        "project_norm": order != "pre",
    }


def recipe_from_hp(hp: Any, space: Space, recipe: Recipe) -> Recipe:
    """The recipe of some hyperparameters: network and training."""
    values = values_of(hp, space)
    fields: dict[str, Any] = {"model": spec_from_hp(hp, space, recipe.model)}
    batch = values.get("batch_size", recipe.batch_size)
    rate = values.get("learning_rate", recipe.learning_rate)
    fields["batch_size"] = batch
    fields["learning_rate"] = rate * batch / recipe.batch_size
    if "l2" in values:
        fields["l2"] = values["l2"]
    if "augment" in values:
        fields["augment"] = scaled(recipe.augment, values["augment"])
    return recipe.replace(**fields)


def scaled(augment: Augment, strength: float) -> Augment:
    """An augmentation of another strength: 0 none, 1 as it is."""
    if strength == 0:
        return Augment()
    scale = augment.scale
    return dataclasses.replace(
        augment,
        pad=round(augment.pad * strength),
        scale=scale and (max(1 - (1 - scale[0]) * strength, 0.01), scale[1]),
        policy_magnitude=min(augment.policy_magnitude * strength, 1.0),
        color=min(augment.color * strength, 1.0),
        lighting=augment.lighting * strength,
        erase=min(augment.erase * strength, 1.0),
        mixup=augment.mixup * strength,
        cutmix=augment.cutmix * strength,
    )
