"""The experiments: what the lecture and its papers claim, a row each. No TensorFlow.

To add one, add a row; the tests run every row at the budget "smoke".
"""

from __future__ import annotations

import difflib
from typing import Any

from keras_resnet.experiments.claims import Arm, Claim, Experiment, ExperimentError
from keras_resnet.presets import (
    HE15,
    HE16,
    PLAIN,
    PRE,
    SD,
    WRN,
    XT,
    cifar_resnet,
    cifar_resnext,
    get_spec,
    wide_resnet,
)
from keras_resnet.spec import ResNetSpec


def _gate(bias: float, merge: str = "exclusive_gate") -> dict[str, Any]:
    return {"merge": merge, "gate_bias": bias}


def _arm(
    name: str, label: str, spec: ResNetSpec, error: float | None = None, **more: Any
) -> Arm:
    """The same network at every budget."""
    return Arm(name, label, spec, spec, error=error, **more)


def _full(name: str, label: str, spec: ResNetSpec, error: float | None = None) -> Arm:
    """Only at the paper's budget."""
    return Arm(name, label, None, spec, error=error)


def _cifar(
    name: str,
    label: str,
    depths: tuple[int, int],
    error: float | None = None,
    **changes: Any,
) -> Arm:
    """A CIFAR network of basic units, of one depth at short and one at paper budget."""
    short, paper = (cifar_resnet(depth, **changes) for depth in depths)
    return Arm(name, label, short, paper, error=error)


_PLAIN_20 = _arm("plain20", "plain 20", get_spec("cifar_plain20"))
_PLAIN_56 = _arm("plain56", "plain 56", get_spec("cifar_plain56"))
_RESNET_20 = _arm("resnet20", "residual 20", cifar_resnet(20), 8.75)
_RESNET_56 = _arm("resnet56", "residual 56", cifar_resnet(56), 6.97)
_RESNET_110 = _full("resnet110", "residual 110", cifar_resnet(110), 6.43)
_TABLE_6 = "CIFAR-10, 64,000 steps; of 110 layers the best of five (He 2015, Table 6)"

_DEGRADATION = Experiment(
    name="degradation",
    title="Deeper plain nets train worse, deeper residual nets don't",
    source=f"{HE15}, section 4.2, Figure 6",
    arms=(
        _PLAIN_20,
        _full("plain32", "plain 32", get_spec("cifar_plain32")),
        _full("plain44", "plain 44", get_spec("cifar_plain44")),
        _PLAIN_56,
        _RESNET_20,
        _full("resnet32", "residual 32", cifar_resnet(32), 7.51),
        _full("resnet44", "residual 44", cifar_resnet(44), 7.17),
        _RESNET_56,
        _RESNET_110,
        _full("highway20", "highway 20", get_spec("cifar_highway20")),
        _full("highway32", "highway 32", get_spec("cifar_highway32")),
        _full("highway56", "highway 56", get_spec("cifar_highway56")),
    ),
    claims=(
        Claim("train_error", "plain20", "plain56",
              "a plain net of 56 layers has a higher training error than one of 20",
              f"{HE15}, Figure 6 left"),
        Claim("test_error", "plain20", "plain56",
              "and a higher test error", f"{HE15}, Figure 6 left"),
        Claim("train_error", "resnet56", "resnet20",
              "a residual net of 56 layers has a lower training error than one of 20",
              f"{HE15}, Figure 6 middle"),
        Claim("test_error", "resnet56", "resnet20",
              "and a lower test error", f"{HE15}, Table 6"),
        Claim("train_error", "resnet56", "plain56",
              "at 56 layers, shortcuts lower the training error",
              f"{HE15}, Figure 6"),
    ),
    figures=("curves", "errors"),
    error_source=_TABLE_6,
)  # fmt: skip

_IMAGENET = Experiment(
    name="degradation_imagenet",
    title="18 against 34 layers, plain and residual",
    source=f"{HE15}, section 4.1, Figure 4",
    arms=(
        _arm("plain18", "plain 18", get_spec("plain18"), 27.94),
        _arm("plain34", "plain 34", get_spec("plain34"), 28.54),
        _arm("resnet18", "residual 18", get_spec("resnet18", shortcut="pad"), 27.88),
        _arm("resnet34", "residual 34", get_spec("resnet34", shortcut="pad"), 25.03),
    ),
    claims=(
        Claim("train_error", "plain18", "plain34",
              "a plain net of 34 layers has a higher training error than one of 18",
              f"{HE15}, Figure 4 left"),
        Claim("test_error", "plain18", "plain34",
              "and a higher validation error", f"{HE15}, Table 2"),
        Claim("test_error", "resnet34", "resnet18",
              "a residual net of 34 layers has a lower error than one of 18",
              f"{HE15}, Table 2"),
    ),
    figures=("curves", "errors"),
    data="tfds:imagenet2012",
    recipe="he2015_imagenet",
    image_size=32,
    error_source="ImageNet validation, ten crops (Table 2); one is tested here",
)  # fmt: skip

_CONSTRUCTION = Experiment(
    name="construction",
    title="A deep net that starts as a trained shallow one",
    source=f"{HE15}, section 1",
    arms=(
        _PLAIN_20,
        _PLAIN_56,
        _arm("plain32_grown", "plain 32 from 20", get_spec("cifar_plain32"),
             grown_from="plain20"),
        _arm("plain56_grown", "plain 56 from 32 from 20", get_spec("cifar_plain56"),
             grown_from="plain32_grown"),
        _RESNET_20,
        _RESNET_56,
        _arm("resnet56_grown", "residual 56 from 20", cifar_resnet(56),
             grown_from="resnet20"),
    ),
    claims=(
        Claim("train_error", "plain56_grown", "plain56",
              "a plain net of 56 layers that is grown stage by stage has a lower "
              "training error than one that is trained at once",
              f"{HE15}, section 1: the solution by construction"),
        Claim("train_error", "plain56_grown", "plain20",
              "and than the 20 layers that it grew from", f"{HE15}, section 1"),
    ),
    figures=("curves", "errors"),
    error_source=_TABLE_6,
    note="New units start as identities, so a grown net starts with the outputs of the "
    "one it grew from. It has been trained longer than the others: by its own steps "
    "and those of all that it grew from.",
)  # fmt: skip

_RESPONSES = Experiment(
    name="responses",
    title="Residual branches respond less, and less the deeper the net",
    source=f"{HE15}, section 4.2, Figure 7",
    arms=(_PLAIN_20, _PLAIN_56, _RESNET_20, _RESNET_56, _RESNET_110),
    claims=(
        Claim("response", "resnet20", "plain20",
              "layers of a residual net respond less than those of a plain one, "
              "20 deep", f"{HE15}, Figure 7"),
        Claim("response", "resnet56", "plain56",
              "the same at 56 layers", f"{HE15}, Figure 7"),
        Claim("response", "resnet56", "resnet20",
              "layers of a deeper residual net respond less", f"{HE15}, Figure 7"),
        Claim("gradient_spread", "resnet56", "plain56",
              "at initialization, gradients differ less between layers where there "
              "are shortcuts, 56 deep", f"{HE16}, Equation 5"),
    ),
    figures=("responses", "gradients"),
    measures=("response", "gradient_spread"),
    probes=("responses", "gradients"),
    error_source=_TABLE_6,
)  # fmt: skip

_DEPTHS = (20, 110)  # layers at short budget and at the paper's
_SHORTCUTS = Experiment(
    name="shortcuts",
    title="Identity shortcuts do better than any other",
    source=f"{HE15}, Table 3; {HE16}, Table 1",
    arms=(
        _cifar("identity", "x (option A)", _DEPTHS, 6.61),
        _cifar("plain", "none", _DEPTHS, **PLAIN),
        _cifar("option_b", "option B", _DEPTHS, shortcut="project"),
        _cifar("option_c", "1x1 convolutions (C)", _DEPTHS, 12.22,
               shortcut="project_all"),
        _cifar("scale_shortcut", "0.5 x + F", _DEPTHS, merge="scale",
               merge_scales=(0.5, 1.0)),
        _cifar("scale_both", "0.5 x + 0.5 F", _DEPTHS, 12.35, merge="scale",
               merge_scales=(0.5, 0.5)),
        _cifar("gate_0", "(1-g) x + g F, bias 0", _DEPTHS, **_gate(0)),
        _cifar("gate_6", "(1-g) x + g F, bias -6", _DEPTHS, 8.70, **_gate(-6)),
        _cifar("shortcut_gate_0", "(1-g) x + F, bias 0", _DEPTHS, 12.86,
               **_gate(0, "shortcut_gate")),
        _cifar("shortcut_gate_6", "(1-g) x + F, bias -6", _DEPTHS, 6.91,
               **_gate(-6, "shortcut_gate")),
        _cifar("dropout", "dropout(x) + F", _DEPTHS, merge="dropout"),
    ),
    claims=(
        *(
            Claim("test_error", "identity", other,
                  f"identity shortcuts have a lower error than {what}",
                  f"{HE16}, Table 1")
            for other, what in (
                ("option_c", "1x1 convolutions"),
                ("scale_shortcut", "shortcuts times 0.5"),
                ("scale_both", "both branches times 0.5"),
                ("gate_0", "exclusive gates, bias 0"),
                ("gate_6", "exclusive gates, bias -6"),
                ("shortcut_gate_0", "shortcut-only gates, bias 0"),
                ("dropout", "dropout on the shortcut"),
            )
        ),
        Claim("test_error", "option_b", "identity",
              "option B has a lower error than A (ResNet-34: 24.52 against 25.03 %)",
              f"{HE15}, Table 3", effect=0.51),
    ),
    figures=("errors", "curves"),
    recipe="he2015_cifar110",
    error_source="CIFAR-10, 110 layers, median of five; the cases without a number "
    "failed, above 20 % (He 2016, Table 1)",
)  # fmt: skip

_ORDERS = Experiment(
    name="orders",
    title="Full pre-activation does better, the more so the deeper the net",
    source=f"{HE16}, Tables 2 and 3",
    arms=(
        _cifar("post", "original", _DEPTHS, 6.61),
        _cifar("bn_after_add", "batch norm after addition", _DEPTHS, 8.17,
               order="bn_after_add"),
        _cifar("relu_before_add", "ReLU before addition", _DEPTHS, 7.84,
               order="relu_before_add"),
        _cifar("relu_only_pre", "ReLU-only pre-activation", _DEPTHS, 6.71,
               order="relu_only_pre"),
        _cifar("pre", "full pre-activation", _DEPTHS, 6.37, **PRE),
        _full("post_164", "original, 164", get_spec("cifar_resnet164"), 5.93),
        _full("pre_164", "full pre-activation, 164", get_spec("cifar_resnet164_v2"),
              5.46),
        _full("post_1001", "original, 1001", get_spec("cifar_resnet1001"), 7.61),
        _full("pre_1001", "full pre-activation, 1001",
              get_spec("cifar_resnet1001_v2"), 4.92),
    ),
    claims=(
        *(
            Claim("test_error", "pre", other,
                  f"full pre-activation has a lower error than {what}",
                  f"{HE16}, Table 2")
            for other, what in (
                ("post", "the original order"),
                ("bn_after_add", "batch norm after the addition"),
                ("relu_before_add", "ReLU before the addition"),
                ("relu_only_pre", "ReLU-only pre-activation"),
            )
        ),
        Claim("test_error", "pre_164", "post_164",
              "and at 164 layers than the original", f"{HE16}, Table 3"),
        Claim("test_error", "pre_1001", "post_1001",
              "and at 1001 layers", f"{HE16}, Table 3"),
    ),
    figures=("errors", "curves"),
    recipe="he2015_cifar110",
    error_source="CIFAR-10, median of five (He 2016, Tables 2 and 3)",
)  # fmt: skip

_SD_DEPTHS = (56, 110)
_DEPTH = Experiment(
    name="stochastic_depth",
    title="Dropping layers at random saves time and lowers the error",
    source=f"{SD}, Tables 1 and 2, Figure 8",
    arms=(
        _cifar("constant", "constant depth", _SD_DEPTHS, 6.41),
        _cifar("linear_8", "linear, p_L = 0.8", _SD_DEPTHS, survival=0.8),
        _cifar("linear_5", "linear, p_L = 0.5", _SD_DEPTHS, 5.25, survival=0.5),
        _cifar("uniform_75", "uniform, p = 0.75", _SD_DEPTHS, survival=0.75,
               survival_rule="uniform"),
        _full("linear_2", "linear, p_L = 0.2", cifar_resnet(110, survival=0.2)),
        _full("uniform_5", "uniform, p = 0.5",
              cifar_resnet(110, survival=0.5, survival_rule="uniform")),
    ),
    claims=(
        Claim("test_error", "linear_5", "constant",
              "stochastic depth, p_L = 0.5, has a lower error than constant depth",
              f"{SD}, Table 1"),
        Claim("step_seconds", "linear_5", "constant",
              "and takes less time (25 % less are expected)", f"{SD}, Table 2"),
        Claim("test_error", "linear_5", "uniform_75",
              "linear decay has a lower error than a uniform probability of the same "
              "expected depth", f"{SD}, section 3 and Figure 8"),
        Claim("train_error", "constant", "linear_5",
              "constant depth has the lower training error", f"{SD}, Figure 3"),
    ),
    figures=("curves", "errors", "times"),
    measures=("step_seconds",),
    probes=("steps",),
    recipe="huang2016_cifar110",
    error_source="CIFAR-10 with augmentation, epoch of the best validation (Huang "
    "2016, Table 1)",
)  # fmt: skip

# As many parameters and multiply-adds each, within 5 %, at whole width factors: their
# channels fill vector registers, so that times are compared fairly.
_WIDTHS = (("wrn46_1", 46, 1), ("wrn16_2", 16, 2), ("wrn10_3", 10, 3))
_WIDTH = Experiment(
    name="width",
    title="Wide and shallow does as well as thin and deep, in less time",
    source=f"{WRN}, Tables 4 to 6, Figure 4",
    arms=(
        *(
            Arm(name, f"WRN-{depth}-{k}", wide_resnet(depth, k), None)
            for name, depth, k in _WIDTHS
        ),
        Arm("wrn16_2_dropout", "WRN-16-2, dropout 0.3", wide_resnet(16, 2, dropout=0.3),
            None),
        _full("pre_1001", "pre-activation 1001", get_spec("cifar_resnet1001_v2"), 4.92),
        _full("wrn40_4", "WRN-40-4", get_spec("wrn_40_4"), 4.53),
        _full("wrn16_8", "WRN-16-8", get_spec("wrn_16_8"), 4.27),
        _full("wrn28_10", "WRN-28-10", get_spec("wrn_28_10"), 4.00),
        _full("wrn28_10_dropout", "WRN-28-10, dropout 0.3",
              get_spec("wrn_28_10", dropout=0.3), 3.89),
    ),
    claims=(
        Claim("step_seconds", "wrn16_2", "wrn46_1",
              "of nets of the same size and operations, the wide one takes less time, "
              "16 layers against 46", f"{WRN}, section 3, Figure 4"),
        Claim("step_seconds", "wrn10_3", "wrn46_1",
              "and 10 against 46", f"{WRN}, Figure 4"),
        Claim("test_error", "wrn16_2", "wrn46_1",
              "and its error is lower, 16 against 46", f"{WRN}, Table 4"),
        Claim("test_error", "wrn16_2_dropout", "wrn16_2",
              "dropout between the convolutions lowers the error",
              f"{WRN}, Table 6 (WRN-16-4: it doesn't, 5.02 to 5.24 %)"),
        Claim("step_seconds", "wrn40_4", "pre_1001",
              "WRN-40-4 takes less time than 1001 layers of its size (8 times less)",
              f"{WRN}, Figure 4"),
        Claim("test_error", "wrn28_10", "pre_1001",
              "WRN-28-10 has a lower error than 1001 layers", f"{WRN}, Table 5"),
    ),
    figures=("times", "errors", "curves"),
    measures=("step_seconds",),
    probes=("steps",),
    recipe="zagoruyko2016_cifar",
    error_source="CIFAR-10, median of five, mean and deviation normalized "
    "(Zagoruyko 2016, Tables 5 and 6)",
)  # fmt: skip


def _ladder(cardinality: int, short: int, error: float | None) -> Arm:
    """A rung of C x d at constant cost: half of the paper's width at short budget."""
    d = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}[cardinality]
    small = cifar_resnext(20, cardinality, short, widths=(128, 256, 512), stem_width=32)
    return Arm(
        f"c{cardinality}",
        f"{cardinality}x{short}d ({cardinality}x{d}d)",
        small,
        get_spec(f"resnext50_{cardinality}x{d}d")
        if cardinality > 1
        else get_spec("resnet50_v1_5"),
        error=error,
    )


_CARDINALITY = Experiment(
    name="cardinality",
    title="At constant cost, cardinality does better than width",
    source=f"{XT}, Tables 3 and 5",
    arms=(
        _ladder(1, 32, 23.9),
        _ladder(2, 20, 23.0),
        _ladder(4, 12, 22.6),
        _ladder(8, 7, 22.3),
        _ladder(32, 2, 22.2),
        Arm("c1_plain", "1x32d (1x64d), no shortcut",
            cifar_resnext(20, 1, 32, widths=(128, 256, 512), stem_width=32, **PLAIN),
            get_spec("resnet50_v1_5", **PLAIN), error=31.2),
        Arm("c8_plain", "8x7d, no shortcut",
            cifar_resnext(20, 8, 7, widths=(128, 256, 512), stem_width=32, **PLAIN),
            None),
        _full("c32_plain", "32x4d, no shortcut",
              get_spec("resnext50_32x4d", **PLAIN), 26.1),
    ),
    claims=(
        Claim("test_error", "c8", "c1",
              "at equal cost, 8 paths have a lower error than 1", f"{XT}, Table 3"),
        Claim("test_error", "c32", "c1", "and 32 than 1", f"{XT}, Table 3"),
        Claim("train_error", "c8", "c1",
              "8 paths have a lower training error too", f"{XT}, Figure 5"),
        Claim("test_error", "c1", "c1_plain",
              "without shortcuts a bottleneck net has a higher error",
              f"{XT}, Table 5"),
        Claim("test_error", "c8", "c8_plain",
              "and one of 8 paths", f"{XT}, Table 5"),
    ),
    figures=("errors", "curves", "forms"),
    probes=("forms",),
    data="tfds:imagenet2012",
    recipe="xie2016_imagenet",
    error_source="ImageNet validation, one crop of 224 (Xie 2016, Tables 3 and 5)",
)  # fmt: skip

_PRACTICE = Experiment(
    name="practice",
    title="Initialization, batch norm, weight decay and the learning rate's fall",
    source=f"{HE15}, section 3.4",
    arms=(
        _arm("usual", "He, batch norm, coupled decay, steps", cifar_resnet(20), 8.75),
        _arm("glorot", "Glorot's initialization", cifar_resnet(20, init="glorot")),
        _arm("no_norm", "no batch norm", cifar_resnet(20, norm="none")),
        _arm("no_norm_slow", "no batch norm, rate 0.01", cifar_resnet(20, norm="none"),
             changes={"learning_rate": 0.01}),
        _arm("plain_he", "plain, no batch norm, rate 0.01",
             cifar_resnet(20, norm="none", **PLAIN), changes={"learning_rate": 0.01}),
        _arm("plain_glorot", "the same, Glorot's initialization",
             cifar_resnet(20, norm="none", init="glorot", **PLAIN),
             changes={"learning_rate": 0.01}),
        _arm("decoupled", "decoupled decay of the same number", cifar_resnet(20),
             changes={"l2": 0.0, "weight_decay": 1e-4}),
        _arm("cosine", "cosine", cifar_resnet(20),
             changes={"schedule": "cosine", "drops": ()}),
        _arm("constant", "constant rate", cifar_resnet(20),
             changes={"schedule": "constant", "drops": ()}),
    ),
    claims=(
        Claim("test_error", "usual", "no_norm",
              "batch norm lowers the error at the paper's rate",
              f"{HE15}, section 3.4"),
        Claim("train_error", "plain_he", "plain_glorot",
              "without batch norm or shortcuts, He's initialization lowers the "
              "training error", "He 2015b (1502.01852), section 2.2"),
        Claim("test_error", "usual", "constant",
              "a rate that falls lowers the error", f"{HE15}, section 4.2"),
        Claim("test_error", "cosine", "usual",
              "a cosine lowers the error further", "He 2018 (1812.01187), section 5.1"),
        Claim("test_error", "usual", "decoupled",
              "coupled decay has a lower error than decoupled decay of the same number",
              "Loshchilov 2019 (1711.05101): the two differ"),
    ),
    figures=("errors", "curves"),
    error_source=_TABLE_6,
)  # fmt: skip

_OF_CIFAR = (_DEGRADATION, _CONSTRUCTION, _RESPONSES, _SHORTCUTS, _ORDERS, _DEPTH,
             _WIDTH, _PRACTICE)  # fmt: skip
_PARETO = Experiment(
    name="pareto",
    title="Accuracy for operations: the front of all families on one data set",
    source="Canziani 2016 (1605.07678), Figure 2, of the other experiments' runs",
    arms=tuple(
        arm._replace(
            name=f"{experiment.name}.{arm.name}",
            grown_from=arm.grown_from and f"{experiment.name}.{arm.grown_from}",
            recipe=experiment.recipe,
        )
        for experiment in (*_OF_CIFAR, _CARDINALITY)
        for arm in experiment.arms
    ),
    claims=(),
    figures=("pareto",),
)

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _DEGRADATION,
        _IMAGENET,
        _CONSTRUCTION,
        _RESPONSES,
        _SHORTCUTS,
        _ORDERS,
        _DEPTH,
        _WIDTH,
        _CARDINALITY,
        _PRACTICE,
        _PARETO,
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        ExperimentError: there is none; the closest names are given.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    close = difflib.get_close_matches(name, EXPERIMENTS, n=2, cutoff=0.5)
    raise ExperimentError(
        f"experiment: none is named {name!r}; "
        + (f"closest: {', '.join(close)}" if close else f"there are {_names()}")
    )


def _names() -> str:
    return ", ".join(EXPERIMENTS)
