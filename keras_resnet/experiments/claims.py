"""What an experiment is made of: arms, claims and a figure, as data. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from keras_resnet.errors import UserError
from keras_resnet.spec import ResNetSpec

BudgetName = Literal["smoke", "short", "paper"]


class ExperimentError(UserError):
    """An experiment that can't be run or reported; the message is one line."""


class Arm(NamedTuple):
    """A network in an experiment, and how it is trained.

    Attributes:
        name: in claims; arms of equal recipes share their runs, whatever their names.
        label: in figures and tables.
        short: the network at the budgets "smoke" and "short"; None: not run there.
        paper: the network at the budget "paper"; None: not run there.
        changes: fields of the recipe that differ from the budget's.
        grown_from: the arm whose trained network, deepened, this one starts as.
        error: the paper's test error in percent, where it gives one.
        recipe: for the budget "paper", if it isn't the experiment's.
    """

    name: str
    label: str
    short: ResNetSpec | None
    paper: ResNetSpec | None
    changes: Mapping[str, Any] = {}
    grown_from: str = ""
    error: float | None = None
    recipe: str = ""


class Claim(NamedTuple):
    """That a measure of one arm is less than another's.

    Attributes:
        measure: a key of `results.MEASURES`.
        less: name of the arm whose measure is said to be less.
        more: name of the other.
        text: in words.
        source: paper, with table, figure or section.
        effect: the difference in the paper, in percentage points, where that is not
            the difference of the arms' errors.
    """

    measure: str
    less: str
    more: str
    text: str
    source: str
    effect: float | None = None


class Experiment(NamedTuple):
    """Arms that are compared, what is claimed of them, and the figures that show it.

    Attributes:
        name: of the row.
        title: one line.
        source: the paper.
        arms: what is trained.
        claims: what is tested.
        figures: keys of `claim_plots.FIGURES`.
        measures: columns of the report, besides test error and cost.
        probes: keys of `probes.PROBES`, which measure each run further.
        data: source for the budget "paper".
        recipe: for the budget "paper".
        image_size: side in pixels at the budgets "smoke" and "short", where the
            networks need another than theirs.
        error_source: of the arms' `error`, with its protocol.
        note: what differs from the paper.
    """

    name: str
    title: str
    source: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    figures: tuple[str, ...]
    measures: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    data: str = "tfds:cifar10"
    recipe: str = "he2015_cifar"
    image_size: int | None = None
    error_source: str = ""
    note: str = ""

    def effect_of(self, claim: Claim) -> float | None:
        """The difference that the paper has, in percentage points; None if unknown."""
        if claim.effect is not None or claim.measure != "test_error":
            return claim.effect
        errors = {arm.name: arm.error for arm in self.arms}
        less, more = errors[claim.less], errors[claim.more]
        return None if less is None or more is None else more - less

    def arms_at(self, budget: BudgetName) -> tuple[Arm, ...]:
        """Those that have a network there."""
        return tuple(arm for arm in self.arms if spec_at(arm, budget))


def spec_at(arm: Arm, budget: BudgetName) -> ResNetSpec | None:
    """An arm's network at a budget; None if it isn't run there.

    At "smoke" it is the short one with a quarter of its units, for seconds.
    """
    if budget == "paper":
        return arm.paper
    if budget == "short" or arm.short is None:
        return arm.short
    return arm.short.replace(depths=tuple(-(-n // 4) for n in arm.short.depths))
