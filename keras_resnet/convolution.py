"""How a convolution is computed: by the kernels that are fast on this machine.

The choice is made when a function is traced, from shapes and from what the device can,
and is never stored. It concerns training on CPU in float32; elsewhere (a GPU, other
precisions, inference, an export) a convolution is TensorFlow's own op, or a split of
it where a grouped or dilated one has no gradient.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.plan import Conv, Plan

Path = Literal["native", "winograd", "split"]
PATHS: tuple[Path, ...] = get_args(Path)

# Winograd's transforms for F(4, 3): four outputs of a three-tap filter from six inputs
# (Lavin 2015, 1509.09308, section 4.3), and their two-dimensional forms.
TILE = 4
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_FILTER = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
_INPUT_2D = np.kron(_INPUT, _INPUT).astype("float32")  # (36, 36)
_FILTER_2D = (np.kron(_FILTER, _FILTER) / 24**2).astype("float32")  # (36, 9)
_OUTPUT_2D = np.kron(_OUTPUT, _OUTPUT).astype("float32")  # (16, 36)


class Problem(NamedTuple):
    """What of a convolution decides its path; an open side is None."""

    height: int | None
    width: int | None
    in_channels: int
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str = "same"
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def path_of(problem: Problem, *, training: bool = True, dtype: str = "float32") -> Path:
    """The way in which this machine computes a convolution.

    - "native": TensorFlow's op.
    - "split": a dense op for each group and each grid of a dilated kernel, where the
      grouped or dilated op has no gradient.
    - "winograd": F(4x4, 3x3), a quarter of the multiplications, in all three passes.
      The input's and the filter's gradient gain most.
    """
    grouped, dilated = problem.groups > 1, max(problem.dilation) > 1
    if not gradient_is_native(dtype, grouped, dilated):
        return "split"
    pays = training and dtype == "float32" and _winograd_pays(problem)
    return "winograd" if pays and not runtime.has_gpu() else "native"


def _winograd_pays(problem: Problem) -> bool:
    """Whether the multiplications saved outweigh the passes over memory added.

    `benchmarks/convolution.py` measures where that is: from 96 channels on, and later
    where tiles overhang the image.
    """
    fits = problem._replace(height=0, width=0, in_channels=0, channels=0) == Problem(
        0, 0, 0, 0, kernel=(3, 3)
    )
    if not fits or problem.height is None or problem.width is None:
        return False
    tiles = -(-problem.height // TILE) * -(-problem.width // TILE)
    overhang = tiles * TILE**2 / (problem.height * problem.width)
    return min(problem.in_channels, problem.channels) >= 96 * overhang


def count_paths(plan: Plan) -> dict[Path, int]:
    """How many of a network's convolutions train in each way on this machine."""
    counts = dict.fromkeys(PATHS, 0)
    for op in plan.ops:
        if isinstance(op, Conv):
            # Where it strides, the sides are not the input's, and don't matter.
            height, width, channels = op.shape
            problem = Problem(
                height, width, op.in_channels, channels or 0, (op.kernel,) * 2,
                (op.stride,) * 2, op.padding, (op.dilation,) * 2, op.groups,
            )  # fmt: skip
            counts[path_of(problem)] += 1
    return counts


def convolve(
    x: Any,
    kernel: Any,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: str = "same",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    training: bool = False,
) -> Any:
    """A two-dimensional convolution without bias.

    Args:
        x: (batch, height, width, channels).
        kernel: (rows, columns, channels / groups, filters).
        strides: of rows and columns.
        padding: "same" or "valid", as Keras means them.
        dilation: of rows and columns.
        groups: the channels are convolved in so many parts.
        training: whether a gradient will be asked for.
    """
    kernel = tf.convert_to_tensor(kernel)
    rows, columns, _, filters = kernel.shape
    height, width, channels = x.shape[1:]
    problem = Problem(
        height, width, channels, filters, (rows, columns), strides, padding, dilation,
        groups,
    )  # fmt: skip
    match path_of(problem, training=training, dtype=x.dtype.name):
        case "winograd":
            return _winograd(x, kernel)
        case "split":
            pairs = zip(
                tf.split(x, groups, axis=-1),
                tf.split(kernel, groups, axis=-1),
                strict=True,
            )
            parts = [
                tf.compat.v1.nn.with_space_to_batch(
                    x,
                    dilation,
                    padding.upper(),
                    lambda x, _, padding, kernel=kernel: tf.nn.conv2d(
                        x, kernel, strides, padding
                    ),
                    filter_shape=(rows, columns),
                )
                for x, kernel in pairs
            ]
            return tf.concat(parts, axis=-1)
    return tf.nn.conv2d(x, kernel, strides, padding.upper(), dilations=dilation)


@functools.cache
def gradient_is_native(
    dtype: str = "float32", grouped: bool = False, dilated: bool = False
) -> bool:
    """Whether this device can train such a convolution as one kernel.

    A GPU can; a CPU can with oneDNN, in the precisions that oneDNN has there. Found by
    trying, once.
    """
    groups, rate = 1 + grouped, 1 + dilated
    # Not by a tape: they don't record inside `init_scope`, which this needs to run at
    # once when it is called while a function is traced.
    with tf.init_scope():
        x = tf.ones((1, 1 + rate, 1 + rate, groups), dtype)
        kernel = tf.ones((2, 2, 1, groups), dtype)
        options = {
            "out_backprop": tf.ones((1, 1, 1, groups), dtype),
            "strides": (1, 1, 1, 1),
            "padding": "VALID",
            "dilations": (1, rate, rate, 1),
        }
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=kernel, **options
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, **options
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


@tf.custom_gradient
def _winograd(x: Any, kernel: Any) -> Any:
    """A 3x3 "same" convolution as products of 36 transformed planes."""

    def gradient(above: Any) -> Any:
        # The transposes of what `product` and its transforms do. Planes take 2.25
        # times the memory of their image: so those of x are made again (without the
        # dependency, TensorFlow would see that they are the forward pass's, and keep
        # those), and are gone before the input's gradient is begun.
        with tf.control_dependencies([above]):
            again = tf.identity(x)
        planes = _planes_of_output(above)
        to_kernel = tf.matmul(_planes_of_input(again), planes, transpose_a=True)
        with tf.control_dependencies([to_kernel]):
            to_input = tf.matmul(planes, _planes_of_filter(kernel), transpose_b=True)
        to_kernel = _transformed(to_kernel, _FILTER_2D, transpose=True)
        return _input_of_planes(to_input, x), tf.reshape(to_kernel, kernel.shape)

    product = tf.matmul(_planes_of_input(x), _planes_of_filter(kernel))
    return _output_of_planes(product, x), gradient


def _transformed(planes: Any, matrix: Any, *, transpose: bool = False) -> Any:
    """A matrix over the first axis; the others are made one."""
    flat = tf.reshape(planes, (matrix.shape[0 if transpose else 1], -1))
    return tf.matmul(matrix, flat, transpose_a=transpose)


def _tiles(x: Any) -> tuple[int, int]:
    """How many tiles cover an image's rows and columns."""
    return -(-x.shape[1] // TILE), -(-x.shape[2] // TILE)


def _split_tiles(x: Any, rows: int, columns: int) -> Any:
    """(batch, 4 rows, 4 columns, channels) -> (4, 4, batch, rows, columns, channels).

    By a transposition: TensorFlow's strided slices are many times slower.
    """
    tiles = tf.reshape(x, (-1, rows, TILE, columns, TILE, x.shape[-1]))
    return tf.transpose(tiles, (2, 4, 0, 1, 3, 5))


def _join_tiles(tiles: Any, rows: int, columns: int, channels: int) -> Any:
    """The inverse of `_split_tiles`, from any shape of the same order."""
    tiles = tf.reshape(tiles, (TILE, TILE, -1, rows, columns, channels))
    image = tf.transpose(tiles, (2, 3, 0, 4, 1, 5))
    return tf.reshape(image, (-1, rows * TILE, columns * TILE, channels))


def _padded(x: Any, before: int, height: int, width: int) -> Any:
    after = (height - before - x.shape[1], width - before - x.shape[2])
    return tf.pad(x, [(0, 0), (before, after[0]), (before, after[1]), (0, 0)])


def _planes_of_input(x: Any) -> Any:
    """B^T d B of every 6x6 tile d: (36, tiles, channels)."""
    rows, columns = _tiles(x)
    x = _padded(x, 1, (rows + 1) * TILE, (columns + 1) * TILE)
    d = _split_tiles(x, rows + 1, columns + 1)
    # A tile's last two rows are the next one's first two.
    d = tf.concat([d[:, :, :, :-1], d[:2, :, :, 1:]], axis=0)
    d = tf.concat([d[..., :-1, :], d[:, :2, ..., 1:, :]], axis=1)
    return tf.reshape(_transformed(d, _INPUT_2D), (36, -1, x.shape[-1]))


def _planes_of_filter(kernel: Any) -> Any:
    """G g G^T: (36, channels, filters)."""
    return tf.reshape(_transformed(kernel, _FILTER_2D), (36, *kernel.shape[2:]))


def _output_of_planes(planes: Any, x: Any) -> Any:
    """A^T m A of every tile, joined to images of the height and width of x."""
    tiles = _transformed(planes, _OUTPUT_2D)
    image = _join_tiles(tiles, *_tiles(x), planes.shape[-1])
    return image[:, : x.shape[1], : x.shape[2]]


def _planes_of_output(above: Any) -> Any:
    """The transpose of `_output_of_planes`."""
    rows, columns = _tiles(above)
    tiles = _split_tiles(_padded(above, 0, rows * TILE, columns * TILE), rows, columns)
    planes = _transformed(tiles, _OUTPUT_2D, transpose=True)
    return tf.reshape(planes, (36, -1, above.shape[-1]))


def _input_of_planes(planes: Any, x: Any) -> Any:
    """The transpose of `_planes_of_input`: where tiles overlap, they add up."""
    rows, columns = _tiles(x)
    channels = x.shape[-1]
    d = _transformed(planes, _INPUT_2D, transpose=True)
    d = tf.reshape(d, (6, 6, -1, rows, columns, channels))
    none, one = (0, 0), (0, 1)
    d = tf.pad(d[:4], [none, none, none, one, none, none]) + tf.pad(
        d[4:], [(0, 2), none, none, (1, 0), none, none]
    )
    d = tf.pad(d[:, :4], [none, none, none, none, one, none]) + tf.pad(
        d[:, 4:], [none, (0, 2), none, none, (1, 0), none]
    )
    image = _join_tiles(d, rows + 1, columns + 1, channels)
    return image[:, 1 : x.shape[1] + 1, 1 : x.shape[2] + 1]
