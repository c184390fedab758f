"""The recipes: the papers' own and ours, a row each. No TensorFlow at import."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_resnet.data.augment import Augment
from keras_resnet.errors import RecipeError
from keras_resnet.presets import cifar_resnet, get_spec, wide_resnet
from keras_resnet.recipe import Recipe


class Row(NamedTuple):
    """A recipe and what is known of its result.

    Attributes:
        recipe: has its source.
        data: what it was made for, as `data.load` names it.
        expected: the published result with its protocol; nothing of it was measured
            here unless it says so.
        hardware: what it was published for.
        needs: what its command asks for besides.
    """

    recipe: Recipe
    data: str
    expected: str
    hardware: str
    needs: str = ""

    @property
    def command(self) -> str:
        """Trains it."""
        command = f"keras-resnet train --recipe {self.recipe.name} --data {self.data}"
        return f"{command} {self.needs}".rstrip()


CIFAR = "tfds:cifar10"
IMAGENET = "tfds:imagenet2012"

# 64,000 steps of 128 images are 182 epochs of CIFAR-10's 45,000 training images, the
# other 5,000 being for validation; 352 steps each.
_CIFAR_STEPS = 352
_CIFAR_EPOCHS = round(64_000 / _CIFAR_STEPS)

_PAD_4 = Augment(pad=4, flip=True)
# fb.resnet.torch's crops, colors and lighting.
_TORCH = Augment(scale=(0.08, 1.0), flip=True, color=0.4, lighting=0.1)

_CAFFE: dict[str, Any] = {"rate_in_velocity": True, "nesterov": False}
_TORCH_SGD: dict[str, Any] = {"rate_in_velocity": False, "nesterov": True}
_HE_CIFAR: dict[str, Any] = {
    "epochs": _CIFAR_EPOCHS,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "steps",
    "drops": (0.5, 0.75),  # 32,000 and 48,000 of 64,000 steps
    "l2": 1e-4,
    "augment": _PAD_4,
    **_CAFFE,
}
_STEPS_400: dict[str, Any] = {
    "warmup_epochs": 400 / _CIFAR_STEPS,
    "warmup_start": 0.1,
    "warmup": "constant",
}
_WRN: dict[str, Any] = {
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "steps",
    "drops": (0.3, 0.6, 0.8),  # epochs 60, 120, 160
    "drop": 0.2,
    "l2": 5e-4,
    "augment": Augment(pad=4, pad_mode="reflect", flip=True),
    **_TORCH_SGD,
}
_MEAN_PIXEL = (
    "The mean of each channel is subtracted, where the paper takes that of each pixel."
)

ROWS: tuple[Row, ...] = (
    Row(
        Recipe(
            name="digits",
            model=cifar_resnet(
                8,
                name="digits_resnet8",
                input_shape=(8, 8, 1),
                stem_width=32,
                widths=(32, 64, 64),
            ),
            epochs=25,
            batch_size=32,
            learning_rate=0.1,
            warmup_epochs=2,
            nesterov=True,
            l2=1e-3,
            augment=Augment(pad=1),
            source="Ours: ResNet-8 on scikit-learn's digits. No figure of a small "
            "residual network was found for them.",
        ),
        data="digits",
        expected="no published figure; ours is in the README",
        hardware="2 CPU cores",
    ),
    Row(
        Recipe(
            name="fashion_mnist",
            model=cifar_resnet(
                20, name="fashion_mnist_resnet20", input_shape=(28, 28, 1)
            ),
            epochs=12,
            batch_size=128,
            learning_rate=0.15,
            warmup_epochs=1,
            l2=3e-4,
            label_smoothing=0.05,
            augment=Augment(pad=1, flip=True),
            **_TORCH_SGD,
            source="Ours: ResNet-20 on Fashion-MNIST in a short run: the rate rises "
            "and falls once.",
        ),
        data="fashion_mnist",
        expected="95.6 % after 300 epochs, best test epoch (Random Erasing's README)",
        hardware="2 CPU cores",
    ),
    Row(
        Recipe(
            name="fashion_mnist_fast",
            model=cifar_resnet(
                20,
                name="fashion_mnist_resnet10",
                input_shape=(28, 28, 1),
                depths=(1, 1, 2),
                widths=(16, 48, 128),
                shortcut="project",
                project_pool=True,
            ),
            epochs=16,
            batch_size=128,
            learning_rate=0.15,
            warmup_epochs=4 / 3,
            l2=5e-4,
            label_smoothing=0.05,
            augment=Augment(pad=1, flip=True),
            **_TORCH_SGD,
            source="Ours: few layers with wide convolutions, which processors compute "
            "faster, on Fashion-MNIST; made for --precision mixed_bfloat16 on a CPU "
            "that has it.",
        ),
        data="fashion_mnist",
        expected="95.6 % of ResNet-20 after 300 epochs, best test epoch (Random "
        "Erasing's README)",
        hardware="2 CPU cores",
    ),
    Row(
        Recipe(
            name="fashion_mnist_full",
            model=wide_resnet(
                16, 2, name="fashion_mnist_wrn_16_2", input_shape=(28, 28, 1)
            ),
            epochs=26,
            batch_size=128,
            learning_rate=0.15,
            warmup_epochs=2,
            l2=5e-4,
            label_smoothing=0.05,
            augment=Augment(pad=2, flip=True),
            **_TORCH_SGD,
            source="Ours: WRN-16-2 on Fashion-MNIST in a longer run, with the papers' "
            "shifts and more weight decay.",
        ),
        data="fashion_mnist",
        expected="96.0 % of WRN-28-10 after 300 epochs, best test epoch (Random "
        "Erasing's README)",
        hardware="2 CPU cores",
    ),
    Row(
        Recipe(
            name="folder",
            model=get_spec("resnet18", zero_gamma=True).replace(name="folder_resnet18"),
            epochs=30,
            batch_size=32,
            image_size=96,
            learning_rate=0.02,
            warmup_epochs=2,
            l2=5e-4,
            l2_on_vectors=False,
            label_smoothing=0.1,
            augment=Augment(scale=(0.35, 1.0), flip=True, color=0.3),
            **_TORCH_SGD,
            source="Ours: ResNet-18 on a folder of photos, from scratch and quickly. "
            "Without flips where left and right mean something.",
        ),
        data="folder:PATH",
        expected="depends on the images",
        hardware="any",
    ),
    Row(
        Recipe(
            name="finetune",
            model=get_spec("resnet50_v1_5"),
            epochs=20,
            batch_size=32,
            learning_rate=0.01,
            schedule="cosine",
            warmup_epochs=1,
            l2=1e-4,
            augment=Augment(scale=(0.35, 1.0), flip=True),
            needs_weights=True,
            **_TORCH_SGD,
            source="Ours: old weights on few images. SGD with Nesterov momentum and a "
            "cosine as Kornblith 2019 (1805.08974) fine-tunes, from memory; rate, "
            "batch, epochs and warm-up are ours. Without flips where left and right "
            "mean something.",
        ),
        data="folder:PATH",
        expected="depends on weights and images; ours is in finetuning.md",
        hardware="any",
        needs="--weights SOURCE",
    ),
    Row(
        Recipe(
            name="he2015_cifar",
            model=get_spec("cifar_resnet20"),
            source="He 2015 (1512.03385), section 4.2; other depths by --model, such "
            "as cifar_resnet56. Weight decay is 1e-4 as the paper prints it; a lecture "
            f"slide that circulates has 1e-5. {_MEAN_PIXEL}",
            **_HE_CIFAR,
        ),
        data=CIFAR,
        expected="test error 8.75 % (20 layers), 7.51 (32), 7.17 (44), 6.97 (56): "
        "Table 6, single view",
        hardware="2 GPUs",
    ),
    Row(
        Recipe(
            name="he2015_cifar110",
            model=get_spec("cifar_resnet110"),
            source="He 2015 (1512.03385), section 4.2: rate 0.01 for about 400 steps, "
            "there until the training error is below 80 %, then 0.1. Weight decay is "
            f"1e-4 as the paper prints it. {_MEAN_PIXEL}",
            **_HE_CIFAR,
            **_STEPS_400,
        ),
        data=CIFAR,
        expected="test error 6.43 %, the best of 5 runs; 6.61 +- 0.16 over them: "
        "Table 6",
        hardware="2 GPUs",
    ),
    Row(
        Recipe(
            name="he2015_imagenet",
            model=get_spec("resnet50"),
            epochs=120,  # 600,000 steps
            batch_size=256,
            image_size=224,
            learning_rate=0.1,
            schedule="plateau",
            l2=1e-4,
            augment=Augment(resize=(256, 480), flip=True, lighting=0.1),
            **_CAFFE,
            source="He 2015 (1512.03385), section 3.4; other depths by --model. The "
            "paper does not say how long a plateau is: 5 epochs are ours. Weight decay "
            "is 1e-4 as the paper prints it; a lecture slide that circulates has 1e-5. "
            f"{_MEAN_PIXEL}",
        ),
        data=IMAGENET,
        expected="validation error, top-1/top-5: 24.7/7.8 % of one crop (the authors' "
        "README), 22.85/6.71 of ten crops (Table 3)",
        hardware="not stated",
    ),
    Row(
        Recipe(
            name="he2016_cifar164",
            model=get_spec("cifar_resnet164_v2"),
            source="He 2016 (1603.05027), Table 2 and appendix: as He 2015, 400 steps "
            "at 0.01 in all runs. The paper's runs were Caffe's, says the authors' "
            f"README. {_MEAN_PIXEL}",
            **_HE_CIFAR,
            **_STEPS_400,
        ),
        data=CIFAR,
        expected="test error 5.46 %, median of 5 runs: Table 2",
        hardware="2 GPUs",
    ),
    Row(
        Recipe(
            name="he2016_cifar1001",
            model=get_spec("cifar_resnet1001_v2"),
            source="He 2016 (1603.05027), Tables 3 and 4, with batches of 128: as He "
            "2015, 400 steps at 0.01. The paper's runs were Caffe's, says the authors' "
            f"README. {_MEAN_PIXEL}",
            **_HE_CIFAR,
            **_STEPS_400,
        ),
        data=CIFAR,
        expected="test error 4.92 %, median of 5 runs, 4.89 +- 0.14: Table 4 "
        "(batches of 64: 4.62)",
        hardware="2 GPUs",
    ),
    Row(
        Recipe(
            name="huang2016_cifar110",
            model=get_spec("cifar_resnet110_sd"),
            epochs=500,
            batch_size=128,
            learning_rate=0.1,
            schedule="steps",
            drops=(0.5, 0.75),  # epochs 250 and 375
            l2=1e-4,
            augment=_PAD_4,
            **_TORCH_SGD,
            source="Huang 2016 (1603.09382), section 4. The authors' convolutions have "
            "biases and their shortcuts average; ours are He 2015's.",
        ),
        data=CIFAR,
        expected="test error 5.25 % at the best validation epoch (6.41 without "
        "stochastic depth): Table 1; +- 0.2 says the authors' README",
        hardware="15 hours (Table 2)",
    ),
    Row(
        Recipe(
            name="zagoruyko2016_cifar",
            model=get_spec("wrn_28_10"),
            source="Zagoruyko 2016 (1605.07146), section 3; others by --model, such as "
            "wrn_40_4. The authors' port to PyTorch draws gamma between 0 and 1, ours "
            "starts at 1.",
            **_WRN,
        ),
        data=CIFAR,
        expected="test error 4.00 %, mean and deviation preprocessing, median of 5 "
        "runs: Table 5",
        hardware="Titan X, in its timings",
    ),
    Row(
        Recipe(
            name="zagoruyko2016_cifar_dropout",
            model=get_spec("wrn_28_10", dropout=0.3),
            source="Zagoruyko 2016 (1605.07146), section 3.3: dropout 0.3 between the "
            "convolutions of a unit.",
            **_WRN,
        ),
        data=CIFAR,
        expected="test error 3.89 %, mean and deviation preprocessing, median of 5 "
        "runs: Table 6",
        hardware="Titan X, in its timings",
    ),
    Row(
        Recipe(
            name="xie2016_cifar",
            model=get_spec("cifar_resnext29_8x64d"),
            epochs=300,
            batch_size=128,
            learning_rate=0.1,
            schedule="steps",
            drops=(0.49, 0.74),  # the authors' code
            l2=5e-4,
            augment=_PAD_4,
            **_TORCH_SGD,
            source="Xie 2016 (1611.05431), section 5.3, and the authors' code: "
            "original units and batches of 128, which its README calls better than the "
            "paper's pre-activated units and batches of 256.",
        ),
        data=CIFAR,
        expected="test error 3.65 %, mean of 10 runs of the paper's form: Table 7",
        hardware="8 GPUs",
    ),
    Row(
        Recipe(
            name="xie2016_imagenet",
            model=get_spec("resnext50_32x4d"),
            epochs=100,
            batch_size=256,
            image_size=224,
            learning_rate=0.1,
            schedule="steps",
            drops=(0.3, 0.6, 0.9),  # epochs 30, 60, 90
            l2=1e-4,
            augment=_TORCH,
            **_TORCH_SGD,
            source="Xie 2016 (1611.05431), section 4, on fb.resnet.torch.",
        ),
        data=IMAGENET,
        expected="validation error 22.2 % of one crop: Table 3",
        hardware="8 GPUs",
    ),
    Row(
        Recipe(
            name="goyal2017_imagenet",
            model=get_spec("resnet50_v1_5", zero_gamma=True),
            epochs=90,
            batch_size=8192,
            image_size=224,
            learning_rate=3.2,  # 0.1 * 8192 / 256
            schedule="steps",
            drops=(1 / 3, 2 / 3, 8 / 9),  # epochs 30, 60, 80
            warmup_epochs=5,
            warmup_start=1 / 32,  # from 0.1
            l2=1e-4,
            l2_on_vectors=False,
            augment=Augment(scale=(0.08, 1.0), flip=True),
            **_TORCH_SGD,
            source="Goyal 2017 (1706.02677), section 5.1. For other batches, scale the "
            "rate: 0.1 * batch / 256. Batch statistics are those of 32 images, a "
            "device's share of a batch. That its augmentation is scale, aspect and "
            "flip alone is from memory.",
        ),
        data=IMAGENET,
        expected="validation error 23.74 +- 0.09 % (batches of 256: 23.60 +- 0.12), "
        "median of the last 5 epochs, mean of 5 runs",
        hardware="256 GPUs, one hour",
    ),
    Row(
        Recipe(
            name="bag_of_tricks",
            model=get_spec("resnet50_d", zero_gamma=True),
            epochs=200,
            batch_size=1024,
            image_size=224,
            learning_rate=0.4,  # 0.1 * 1024 / 256
            schedule="cosine",
            warmup_epochs=5,
            l2=1e-4,
            l2_on_vectors=False,
            label_smoothing=0.1,
            augment=Augment(
                scale=(0.08, 1.0), flip=True, color=0.4, lighting=0.1, mixup=0.2
            ),
            **_TORCH_SGD,
            source="He 2018 (1812.01187), sections 3-5, without distillation; batch, "
            "rate, epochs and decay as in GluonCV's training log of resnet50_v1d with "
            "mixup. Color and lighting are from memory.",
        ),
        data=IMAGENET,
        expected="validation accuracy 79.15 % of one crop (GluonCV's model zoo); "
        "with distillation 79.29 (abstract)",
        hardware="8 GPUs, half precision",
    ),
    Row(
        Recipe(
            name="wightman2021_a3",
            model=get_spec("resnet50_v1_5"),
            epochs=100,
            batch_size=2048,
            image_size=160,
            test_size=224,
            learning_rate=8e-3,
            schedule="cosine",
            warmup_epochs=5,
            warmup_start=1e-4,
            optimizer="lamb",
            l2=0.0,
            weight_decay=0.02,
            l2_on_vectors=False,
            loss="binary",
            augment=Augment(
                scale=(0.08, 1.0),
                flip=True,
                policy="rand",
                policy_ops=2,
                policy_magnitude=0.6,
                mixup=0.1,
                cutmix=1.0,
            ),
            source="Wightman 2021 (2110.00476), Table 2, procedure A3; numbers as in "
            "MMPretrain's configuration of it. Keras' LAMB keeps the weight decay out "
            "of the trust ratio; the paper's test crop takes 0.95 of the shorter side, "
            "ours 0.875; magnitudes of RandAugment vary there by 0.5 of 10.",
        ),
        data=IMAGENET,
        expected="validation accuracy 78.1 % of one crop of 224",
        hardware="4 GPUs (from memory)",
    ),
)

RECIPES: dict[str, Recipe] = {row.recipe.name: row.recipe for row in ROWS}


def get_recipe(name: str) -> Recipe:
    """A recipe of the table.

    Raises:
        RecipeError: no such recipe.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise RecipeError(
            f"recipe: {name!r} is not one of {', '.join(map(repr, RECIPES))}"
        )
    return RECIPES[name]
