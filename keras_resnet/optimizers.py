"""SGD as the papers use it."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_resnet")
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the papers' weight decay.

    Args:
        l2: coupled weight decay: l2 * w joins the gradient before the momentum, as in
            the papers, Caffe and torch. Keras' own `weight_decay` is decoupled
            (w -= rate * weight_decay * w, outside the momentum) and about
            1 / (1 - momentum) times weaker at the same number.
        **kwargs: as `keras.optimizers.SGD`.
    """

    def __init__(
        self, learning_rate: Any = 0.01, *, l2: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable."""
        if self.l2:
            gradient = keras.ops.add(
                gradient,
                keras.ops.multiply(self.l2, keras.ops.cast(variable, gradient.dtype)),
            )
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "l2": self.l2}
