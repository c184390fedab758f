"""At what scale an experiment is run: data, steps and the recipe of each arm."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.data.augment import Augment
from keras_resnet.experiments.claims import (
    Arm,
    BudgetName,
    Experiment,
    ExperimentError,
    spec_at,
)
from keras_resnet.experiments.table import get_experiment
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import RECIPES, get_recipe
from keras_resnet.spec import ResNetSpec


class Setting(NamedTuple):
    """Where and how long the arms of an experiment are trained.

    Attributes:
        budget: "smoke" (seconds: it shows that all works), "short" (an hour on 2
            cores) or "paper" (the paper's own recipe).
        data: a source for `data.load`.
        image_size: side in pixels; None: as the data has them, or the recipe.
        train_images: how many are learnt from; None: all.
        batch_size: images a step; None: the recipe's.
        steps: of the training, rounded up to whole epochs; None: the recipe's epochs.
    """

    budget: BudgetName
    data: str
    image_size: int | None = None
    train_images: int | None = None
    batch_size: int | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        """Of the folder of its runs."""
        parts = [self.budget, re.sub(r"[^\w.-]+", "-", self.data).strip("-")]
        for value, unit in (
            (self.image_size, "px"),
            (self.train_images, "images"),
            (self.steps, "steps"),
        ):
            parts += [f"{value}{unit}"] if value else []
        return "-".join(parts)

    def in_words(self) -> str:
        """Such as: fashion_mnist at 14 pixels, 12,800 training images, 3,000 steps."""
        parts = [
            self.data + (f" at {self.image_size} pixels" if self.image_size else "")
        ]
        if self.train_images:
            parts.append(f"{self.train_images:,} training images")
        if self.steps:
            parts.append(f"{self.steps:,} steps of {self.batch_size} images")
        return ", ".join(parts)


BUDGETS: dict[BudgetName, Setting] = {
    "smoke": Setting("smoke", "digits", batch_size=32, train_images=320, steps=20),
    "short": Setting("short", "fashion_mnist", 14, 12_800, 64, 3_000),
    "paper": Setting("paper", ""),
}


def setting_of(
    experiment: Experiment,
    budget: BudgetName = "short",
    *,
    data: str | None = None,
    image_size: int | None = None,
    train_images: int | None = None,
    steps: int | None = None,
) -> Setting:
    """A budget's setting, with other data or of another size if asked.

    Of other data than the budget's all images are taken, at their own size, unless
    given here.

    Raises:
        ExperimentError: no such budget.
    """
    if budget not in BUDGETS:
        raise ExperimentError(f"budget: {budget!r} is not one of {', '.join(BUDGETS)}")
    setting = BUDGETS[budget]
    if budget == "paper":
        setting = setting._replace(data=experiment.data)
    elif experiment.image_size:
        setting = setting._replace(image_size=experiment.image_size)
    if data and data != setting.data:
        setting = setting._replace(data=data, image_size=None, train_images=None)
    asked: dict[str, Any] = {
        "image_size": image_size,
        "train_images": train_images,
        "steps": steps,
    }
    return setting._replace(**{k: v for k, v in asked.items() if v is not None})


def resolve(
    experiment: Experiment | str, setting: Setting | BudgetName
) -> tuple[Experiment, Setting]:
    """An experiment and a setting by their names.

    Raises:
        ExperimentError: no such experiment or budget.
    """
    if isinstance(experiment, str):
        experiment = get_experiment(experiment)
    if isinstance(setting, str):
        setting = setting_of(experiment, setting)
    return experiment, setting


def recipe_of(
    experiment: Experiment,
    arm: Arm,
    setting: Setting,
    steps_per_epoch: int | None = None,
) -> Recipe:
    """How an arm is trained in a setting; its epochs need the data's steps.

    "short" is He 2015's recipe for CIFAR with fewer steps: rate 0.1, divided by ten
    after half and three quarters of them, coupled weight decay 1e-4.
    """
    spec = _spec(arm, setting)
    if setting.budget == "paper":
        recipe = get_recipe(arm.recipe or experiment.recipe).replace(model=spec)
        if setting.image_size:
            recipe = recipe.replace(image_size=setting.image_size)
    else:
        recipe = get_recipe("he2015_cifar").replace(
            model=spec,
            batch_size=setting.batch_size,
            image_size=setting.image_size,
            augment=_augment(setting),
            source="He 2015 (1512.03385), section 4.2, with fewer and smaller steps.",
        )
    if setting.steps and steps_per_epoch:
        recipe = recipe.over(math.ceil(setting.steps / steps_per_epoch))
    return recipe.replace(name=spec.name, **arm.changes)


def _spec(arm: Arm, setting: Setting) -> ResNetSpec:
    spec = spec_at(arm, setting.budget)
    if spec is None:
        raise ExperimentError(
            f"arm: {arm.name} is not run at the budget {setting.budget!r}"
        )
    return spec


def _augment(setting: Setting) -> Augment:
    """The augmentation of our own recipe for this data."""
    own = RECIPES.get(setting.data)
    return own.augment if own else Augment(pad=1, flip=True)


def run_name(experiment: Experiment, arm: Arm, setting: Setting, seed: int) -> str:
    """Name of a run's folder, the same for equal arms of any experiment."""
    spec = _spec(arm, setting)
    key = _key(experiment, arm, setting)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{spec.name}-{digest[:8]}-seed{seed}"


def _key(experiment: Experiment, arm: Arm, setting: Setting) -> dict[str, Any]:
    """All that an arm's result depends on, besides setting and seed."""
    spec = _spec(arm, setting)
    base = parent_of(experiment, arm)
    return {
        "spec": spec.to_dict() | {"name": ""},
        "changes": {k: repr(v) for k, v in arm.changes.items()},
        "recipe": (arm.recipe or experiment.recipe)
        if setting.budget == "paper"
        else setting.budget,
        "grown_from": base and _key(experiment, base, setting),
    }


def parent_of(experiment: Experiment, arm: Arm) -> Arm | None:
    """The arm that an arm is grown from."""
    named = {other.name: other for other in experiment.arms}
    return named[arm.grown_from] if arm.grown_from else None


def own_folder(folder: Path, setting: Setting, experiment: Experiment) -> Path:
    """Folder of an experiment's report, beside the runs of its setting."""
    return folder / setting.name / "experiments" / experiment.name
