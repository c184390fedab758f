"""SGD and learning rate schedules as the papers use them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

register = keras.saving.register_keras_serializable("keras_resnet")


@register
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the papers' weight decay and both momentums.

    One kernel moves a variable and its velocity. With g the gradient, l2 * w added to
    it, and m the momentum:

    - `rate_in_velocity` True, as Caffe and Keras (He 2015): v = m v - rate g;
      w += v. After a drop of the rate, the velocity goes on at the old one.
    - False, as torch (Wide ResNet, ResNeXt, stochastic depth; Goyal 2017, equation
      9): v = m v + g; w -= rate v. The drop takes hold at once.

    Args:
        learning_rate: a number or a schedule.
        l2: coupled weight decay: l2 * w joins the gradient before the momentum, as in
            the papers, Caffe and torch. Keras' own `weight_decay` is decoupled
            (w -= rate * weight_decay * w, outside the momentum) and about
            1 / (1 - momentum) times weaker at the same number.
        l2_on_vectors: whether biases and batch norms' gamma and beta, the variables
            of one axis, take part in `l2`. (`exclude_from_weight_decay` is Keras' own
            way, for the decoupled one.)
        rate_in_velocity: the form of the momentum.
        rate_factors: factors of the learning rate, such as {"conv1_": 0.1} of the
            variables of layers whose names begin so; 1 for all others.
        **kwargs: as `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        *,
        l2: float = 0.0,
        l2_on_vectors: bool = True,
        rate_in_velocity: bool = True,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0 <= l2 < math.inf:
            raise ValueError(f"l2: {l2!r} is not a number from 0 on")
        self.l2 = l2
        self.l2_on_vectors = l2_on_vectors
        self.rate_in_velocity = rate_in_velocity
        self.rate_factors = dict(rate_factors or {})

    def build(self, variables: Any) -> None:
        """Makes the velocities."""
        self._factors = tuple(map(self._factor_of, variables))
        if tf.executing_eagerly() or tf.distribute.has_strategy():
            super().build(variables)
            return
        # Keras builds in the first trace of a training step. Variables made there cost
        # a traced condition each and have the step traced twice: half of what a deep
        # network takes to start. So make them at once, past tf.function's own creator.
        plain = type(self._iterations.value)

        def create(_: Any, **options: Any) -> tf.Variable:
            names = ("initial_value", "trainable", "name", "dtype", "aggregation")
            return plain(**{name: options.get(name) for name in names})

        with tf.init_scope(), tf.variable_creator_scope(create):
            super().build(variables)

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        if tf.distribute.has_strategy():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        # On one device there is nothing to reduce, and numbers are made once: three of
        # the seven nodes that an update has.
        kinds = [self._kind(variable) for variable in trainable_variables]
        numbers = {kind: self._numbers(learning_rate, *kind) for kind in set(kinds)}
        for gradient, variable, kind in zip(
            grads, trainable_variables, kinds, strict=True
        ):
            value = variable.value if isinstance(variable, keras.Variable) else variable
            self._move(gradient, value, *numbers[kind])

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable and its velocity."""
        numbers = self._numbers(learning_rate, *self._kind(variable))
        self._move(gradient, variable, *numbers)

    def _factor_of(self, variable: Any) -> float:
        layers = getattr(variable, "path", variable.name).split("/")
        for start, factor in self.rate_factors.items():
            if any(layer.startswith(start) for layer in layers):
                return factor
        return 1.0

    def _kind(self, variable: Any) -> tuple[Any, float]:
        """What variables that move by the same numbers have in common."""
        return variable.dtype, self._factors[self._get_variable_index(variable)]

    def _numbers(self, learning_rate: Any, dtype: Any, factor: float) -> list[Any]:
        if factor != 1:
            learning_rate = learning_rate * factor
        return [tf.cast(n, dtype) for n in (learning_rate, self.momentum, self.l2)]

    def _move(
        self, gradient: Any, variable: Any, rate: Any, momentum: Any, l2: Any
    ) -> None:
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if self.l2 and (self.l2_on_vectors or len(variable.shape) > 1):
            gradient += l2 * variable
        if not self.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=rate, delta=gradient
            )
            return
        apply = (
            tf.raw_ops.ResourceApplyKerasMomentum
            if self.rate_in_velocity
            else tf.raw_ops.ResourceApplyMomentum
        )
        velocity = self.momentums[self._get_variable_index(variable)]
        apply(
            var=variable.handle,
            accum=velocity.value.handle,
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("l2", "l2_on_vectors", "rate_in_velocity")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "rate_factors": dict(self.rate_factors),
        }


@register
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose first steps are smaller.

    Args:
        schedule: the schedule, counted from step 0, or a constant rate.
        steps: how many steps the warm-up takes.
        start: the rate of step 0, as a share of the schedule's.
        gradual: whether the share grows by equal amounts to 1 (Goyal 2017, section
            2.2: five epochs, from 1 / (number of workers)), or stays at `start` and
            then jumps (He 2015, section 4.2: ResNet-110 takes a tenth of the rate
            for about 400 steps).
    """

    def __init__(
        self, schedule: Any, steps: int, start: float = 0.0, gradual: bool = True
    ) -> None:
        self.schedule = schedule
        self.steps = steps
        self.start = start
        self.gradual = gradual

    def __call__(self, step: Any) -> Any:
        """The rate of a step."""
        full = self.schedule(step) if callable(self.schedule) else self.schedule
        done = tf.cast(step, tf.float32) / max(self.steps, 1)
        share = self.start + (1 - self.start) * (done if self.gradual else 0.0)
        return full * tf.where(step < self.steps, share, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps": self.steps,
            "start": self.start,
            "gradual": self.gradual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """From `get_config`."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})


def step_decay(
    rate: float, steps: list[int], factor: float = 0.1
) -> keras.optimizers.schedules.PiecewiseConstantDecay:
    """`rate`, times `factor` from each of `steps` on.

    He 2015 on CIFAR-10: 0.1 and steps 32,000 and 48,000. Wide ResNet: factor 0.2 at
    epochs 60, 120 and 160. Stochastic depth: at 1/2 and 3/4 of the training. ResNeXt,
    Goyal 2017: every 30 epochs.

    Raises:
        ValueError: the steps don't rise.
    """
    if any(later <= step for step, later in itertools.pairwise(steps)):
        raise ValueError(f"steps: {steps} don't rise")
    rates = [rate * factor**drops for drops in range(len(steps) + 1)]
    # Keras keeps the old rate at the boundary itself: one step less.
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [step - 1 for step in steps], rates
    )
