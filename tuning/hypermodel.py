"""KerasTuner's view of our networks: a hypermodel for any of its tuners."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_resnet import data as data_module
from keras_resnet import training
from keras_resnet.data import Splits
from keras_resnet.errors import BudgetError, UserError
from keras_resnet.network import build
from keras_resnet.recipe import Recipe
from tuning.budget import Budget, Mode
from tuning.decode import declare
from tuning.feasibility import Candidates
from tuning.objective import check_task
from tuning.space import Space, SpaceError
from tuning.spaces import get_space
from tuning.trials import DEFAULT

_KEPT = 4  # loaded forms of the data: batch sizes and augmentations


class HyperModelError(UserError, keras_tuner.errors.FatalError):  # type: ignore[misc]
    """Arguments that the hypermodel has no use for; they end a search at once."""


class ResidualHyperModel(keras_tuner.HyperModel):  # type: ignore[misc]  # untyped
    """Builds and trains the candidates of a space as the package does any network.

    It has the data, so `tuner.search()` needs no arguments. Objectives are the metrics
    of a training: "val_accuracy", "val_loss". While KerasTuner discovers the space it
    builds a model for every condition; here it builds none.

    Args:
        space: a space, or the name of a preset.
        recipe: the base, or the name of one; it has what is not searched.
        data: a source for `data.load`, or splits that it made.
        budget: what a candidate may cost.
        mode: what is done with those over the budget; see `budget.fitted`.
        seed: fixes splits, initial weights, order and augmentation of every candidate.
        **loading: other arguments of `data.load`.

    Raises:
        UserError: space, recipe, budget and data don't go together.
    """

    def __init__(
        self,
        space: Space | str,
        recipe: Recipe | str = "digits",
        data: Any = "digits",
        *,
        budget: Budget | str | None = None,
        mode: Mode = "refuse",
        seed: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__()
        recipe = training.get_recipe(recipe) if isinstance(recipe, str) else recipe
        check_task(recipe)
        self.budget = (
            Budget.parse(budget) if isinstance(budget, str) else budget or Budget()
        )
        self.mode = mode
        self.seed = seed
        self.data = data
        self.loading = loading
        self._loaded: dict[Any, Splits] = {}
        splits = self.splits(recipe)
        self.recipe = recipe.replace(
            model=recipe.model.replace(
                input_shape=splits.image_shape, classes=splits.units
            )
        )
        self.space = get_space(space, recipe.model) if isinstance(space, str) else space
        self.space.check(self.recipe)
        if isinstance(data, Splits) and {"batch_size", "augment"} & {
            *self.space.searched
        }:
            raise SpaceError(
                "space: batch_size, augment: the data were loaded with one of each; "
                "give their source instead"
            )
        blocks = self.space.blocks(self.recipe.model)
        if mode == "iso" and "k" in self.space.searched and "bottleneck" not in blocks:
            raise SpaceError(
                "space: k: 'iso' solves the widths of basic units; leave k out"
            )
        self._discovering = False
        self._optimizer: Any = None  # of the last training

    def splits(self, recipe: Recipe) -> Splits:
        """The data at a recipe's batch size, augmentation and image size."""
        if isinstance(self.data, Splits):
            return self.data
        key = (recipe.batch_size, recipe.augment, recipe.sampling)
        if key not in self._loaded:
            if len(self._loaded) >= _KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = data_module.load(
                self.data,
                batch_size=recipe.batch_size,
                augment=recipe.augment,
                sampling=recipe.sampling,
                seed=self.seed,
                image_size=recipe.image_size,
                test_size=recipe.test_size,
                task=recipe.task,
                **self.loading,
            )
        return self._loaded[key]

    @property
    def candidates(self) -> Candidates:
        """The space as its budget leaves it."""
        return Candidates(self.space, self.recipe, self.budget, self.mode)

    def candidate(self, hp: Any) -> Recipe:
        """Network and training of some hyperparameters; nothing is built.

        Raises:
            BudgetError: it is over the budget.
        """
        if DEFAULT in hp.values:
            return self.recipe
        return self.candidates.candidate(hp)

    def refusal(self, hp: Any) -> str | None:
        """Why hyperparameters are over the budget; None if they aren't."""
        return None if DEFAULT in hp.values else self.candidates.refusal(hp)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declares the whole space at once."""
        declare(hp, self.space)
        # KerasTuner then calls `build` and drops the model.
        self._discovering = True

    def build(self, hp: Any) -> keras.Model | None:
        """The network of some hyperparameters; None while KerasTuner discovers.

        Raises:
            keras_tuner.errors.FailedTrialError: it is over the budget.
        """
        if self._discovering:
            self._discovering = False
            return None
        if DEFAULT not in hp.values:
            declare(hp, self.space)
        try:
            recipe = self.candidate(hp)
        except BudgetError as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        keras.utils.set_random_seed(self.seed + hp.values.get(DEFAULT, 0))
        model = build(recipe.model, pixel_stats=self.splits(recipe).pixel_stats)
        # A tuner with an optimizer, loss or metrics of its own reads these and
        # compiles; `fit` notices.
        model.optimizer = model.loss = None
        return model

    def fit(
        self,
        hp: Any,
        model: keras.Model,
        *data: Any,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: Any = 0,
        folder: Path | None = None,
        tracker: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains a network by its recipe.

        Args:
            hp: its hyperparameters.
            model: of `build`.
            *data: refused; see Raises.
            epochs: the epoch to stop after: a rung of Hyperband is the beginning of the
                recipe's training, whose schedule does not change.
            initial_epoch: epochs that the model was trained for.
            callbacks: of Keras.
            verbose: for KerasTuner; nothing is printed.
            folder: a run folder, from which an interrupted training resumes.
            tracker: logs each epoch's metrics.
            **options: refused.

        Raises:
            HyperModelError: `tuner.search` was given arguments of Keras' `fit`, or the
                tuner an optimizer, loss or metrics. Data and recipe have all of them.
        """
        given = [*(["x, y"] if data else []), *options]
        if given:
            raise HyperModelError(
                f"search: {', '.join(given)}: the hypermodel has data and training; "
                "give ResidualHyperModel(data=(x, y), ...), and what else is wanted in "
                "its recipe, such as recipe.replace(batch_size=64)"
            )
        if model.compiled and model.optimizer is not self._optimizer:
            raise HyperModelError(
                "tuner: optimizer, loss, metrics: the hypermodel compiles by its "
                "recipe; leave them out and give the recipe, such as "
                "recipe.replace(learning_rate=0.1)"
            )
        recipe = self.candidate(hp)
        splits = self.splits(recipe)
        strategy = model.distribute_strategy
        history = training.fit(
            model,
            recipe,
            splits,
            folder=folder,
            tracker=tracker,
            callbacks=callbacks,
            initial_epoch=initial_epoch,
            epochs=epochs,
            strategy=strategy if strategy.num_replicas_in_sync > 1 else None,
        )
        self._optimizer = model.optimizer
        return history
