"""What a search varies: a `Space` is data. Neither KerasTuner nor TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, get_args

from keras_resnet import records
from keras_resnet.errors import UserError
from keras_resnet.recipe import Recipe
from keras_resnet.spec import Order, ResNetSpec


class SpaceError(UserError):
    """A space that can't be searched; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high.

    Attributes:
        low: the least; where the parameter is an integer, both are.
        high: the greatest, included.
        step: between two; None: 1 for integers, any number for others.
        log: whether they are drawn evenly by their logarithm.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False


Values = tuple[Any, ...] | Range


class Parameter(NamedTuple):
    """What a field of a space may hold."""

    kind: type
    check: Callable[[Any], bool]
    allowed: str
    bottleneck: bool = False  # means something in bottleneck units only


def _within(kind: type, low: float, high: float) -> Parameter:
    noun = "integers" if kind is int else "numbers"
    return Parameter(kind, lambda v: low <= v <= high, f"{noun} from {low:g} to {high}")


def _one_of(names: tuple[str, ...]) -> Parameter:
    return Parameter(str, lambda v: v in names, "one of " + ", ".join(map(repr, names)))


PARAMETERS: dict[str, Parameter] = {
    "block": _one_of(("basic", "bottleneck")),
    "depth": _within(int, 3, 10_000),
    "units": _within(int, 1, 1_000),
    "k": _within(float, 0.01, 64),
    "cardinality": _within(int, 1, 512)._replace(bottleneck=True),
    "group_width": _within(int, 1, 512)._replace(bottleneck=True),
    "order": _one_of(get_args(Order)),
    "survival": _within(float, 0.01, 1),
    "stem": _one_of(("imagenet", "cifar", "deep")),
    "learning_rate": _within(float, 1e-8, 100),
    "l2": _within(float, 0, 1),
    "augment": _within(float, 0, 4),
    "batch_size": _within(int, 1, 65_536),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space(records.Record):
    """What is varied; None leaves the base's own. Choices are tuples.

    Attributes:
        name: of the space.
        block: "basic" or "bottleneck" units; the outer width follows (He 2015: a
            bottleneck's is four times its inner one).
        depth: layers, by the papers' formulas (6n+2, 9n+2 for three stages; He 2015,
            Table 1 for four), or the nearest that they give.
        units: units in every stage; instead of `depth`.
        k: width factor.
        cardinality: groups C of bottlenecks; without `group_width` the inner width
            stays as near as it can.
        group_width: channels d of a group in the first stage.
        order: where batch norm and ReLU stand.
        survival: p_L of stochastic depth.
        stem: "imagenet", "deep" or "cifar"; "cifar" where the image is too small.
        learning_rate: at the recipe's own batch size; it grows with the batch
            (Goyal 2017).
        l2: coupled weight decay.
        augment: strength of the recipe's augmentation: 0 none, 1 its own.
        batch_size: images a step.

    Raises:
        SpaceError: naming the field, its value and what is allowed.
    """

    _kind = "space"
    _error = SpaceError
    _checks: ClassVar[dict[str, records.Check]] = {
        "name": (lambda value: isinstance(value, str), "a string"),
    }
    _prefix = "space: "
    _schema = 1

    name: str = "space"
    block: Values | None = None
    depth: Values | None = None
    units: Values | None = None
    k: Values | None = None
    cardinality: Values | None = None
    group_width: Values | None = None
    order: Values | None = None
    survival: Values | None = None
    stem: Values | None = None
    learning_rate: Values | None = None
    l2: Values | None = None
    augment: Values | None = None
    batch_size: Values | None = None

    def _check_combinations(self) -> None:
        if not self.searched:
            raise SpaceError(
                f"space: {self.name} is empty; give choices or ranges for some of "
                f"{', '.join(PARAMETERS)}"
            )
        if self.depth is not None and self.units is not None:
            raise SpaceError("space: units: with depth, which says the same; leave one")

    def _checked(self, field: str, value: Any) -> Any:
        if field not in PARAMETERS:
            return super()._checked(field, value)
        return value if value is None else _values(field, value)

    @property
    def searched(self) -> tuple[str, ...]:
        """Fields that are varied."""
        return tuple(f for f in PARAMETERS if getattr(self, f) is not None)

    def blocks(self, base: ResNetSpec) -> tuple[str, ...]:
        """The kinds of units that its networks have."""
        return self.block if isinstance(self.block, tuple) else (base.block,)

    def check(self, recipe: Recipe) -> None:
        """Refuses a space that does not apply to a recipe.

        Raises:
            SpaceError: naming the field.
        """
        spec = recipe.model
        shapes = {"block", "depth", "k", "cardinality", "group_width", "order", "stem"}
        if spec.block == "dense" and shapes & set(self.searched):
            raise SpaceError(
                f"space: {', '.join(sorted(shapes & set(self.searched)))}: the base "
                f"{spec.name} has dense units; search its `units` and training"
            )
        blocks = self.blocks(spec)
        for field in self.searched:
            if PARAMETERS[field].bottleneck and "bottleneck" not in blocks:
                raise SpaceError(
                    f"space: {field}: the base {spec.name} has {spec.block} units, "
                    "which have no groups; let block have 'bottleneck'"
                )
        if self.l2 is not None and recipe.optimizer != "sgd":
            raise SpaceError(f"space: l2: {recipe.optimizer} has none; it is of sgd")

    def to_dict(self) -> dict[str, Any]:
        """The searched fields, name and schema, as JSON types."""
        return {
            field: dataclasses.asdict(values) if isinstance(values, Range) else values
            for field, values in super().to_dict().items()
            if values is not None
        }

    @classmethod
    def _from_json(cls, field: str, value: Any) -> Any:
        return _range(field, value)


def _range(field: str, values: Any) -> Any:
    """A range where JSON has an object."""
    if not isinstance(values, Mapping):
        return values
    known = {entry.name for entry in dataclasses.fields(Range)}
    if not {"low", "high"} <= set(values) <= known:
        raise SpaceError(
            f"space: {field}: {dict(values)!r} is not a list of choices or an object "
            "of low, high, step, log"
        )
    return Range(**values)


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of a kind, integers being numbers too."""
    return type(value) is kind or (kind is float and type(value) is int)


def check_value(field: str, value: Any) -> None:
    """Refuses what a parameter can't be.

    Raises:
        SpaceError: naming the parameter.
    """
    kind, check, allowed, _ = PARAMETERS[field]
    if not _is(kind, value) or not check(value):
        raise SpaceError(f"space: {field}: {value!r} is not {allowed}")


def _values(field: str, values: Any) -> Values:
    """Values of one type, in their order, each once.

    Raises:
        SpaceError: they aren't allowed.
    """
    kind, check, allowed, _ = PARAMETERS[field]
    if isinstance(values, Range):
        ends = (values.low, values.high)
        right = kind is not str and all(_is(kind, end) and check(end) for end in ends)
        step = values.step
        right = right and (step is None or (_is(kind, step) and step > 0))
        right = right and type(values.log) is bool and not (values.log and step)
        if not right or values.low > values.high or (values.log and values.low <= 0):
            raise SpaceError(
                f"space: {field}: {values} is not a range of {allowed}, the low end "
                "first (and above 0, without a step, if log)"
            )
        return dataclasses.replace(values, low=kind(ends[0]), high=kind(ends[1]))
    if not isinstance(values, tuple) or not values:
        raise SpaceError(
            f"space: {field}: {values!r} is not a list of choices, or empty"
        )
    for value in values:
        check_value(field, value)
    return tuple(dict.fromkeys(map(kind, values)))
