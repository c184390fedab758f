"""Published sizes, and the spec of ours that each row is.

`golden/targets.csv` holds parameters and multiply-adds as counted from the papers and
their code, with the reported errors.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from keras_resnet import ResNetSpec, cifar_resnet, get_spec, wide_resnet

CSV = Path(__file__).parent / "golden" / "targets.csv"

# Row name (pattern) -> preset, changes; "{}" takes the pattern's groups.
_CONV_BIAS = {"conv_bias": "all"}
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    (r"plain-(18|34)", "plain{}", {}),
    (r"plain-110", "cifar_plain110", {}),
    (r"ResNet-(18|34) A", "resnet{}", {"shortcut": "pad"}),
    (r"ResNet-(18|34) B.*", "resnet{}", {}),
    (r"ResNet-34 C", "resnet34", {"shortcut": "project_all"}),
    (r"ResNet-(50|101|152) v1", "resnet{}", {}),
    (r"ResNet-(50|101|152) v1\.5.*", "resnet{}_v1_5", {}),
    (r"ResNet-(50|101|152) torchvision V[12]", "resnet{}_v1_5", {}),
    (r"ResNet-50 (?:kn=.*|A1)", "resnet50_v1_5", {}),
    (r"ResNet-(50|101) 1x64d", "resnet{}_v1_5", {}),
    (r"keras ResNet(50|101|152)", "keras_resnet{}", {}),
    (r"keras ResNet(50|101|152)V2", "keras_resnet{}_v2", {}),
    (r"ResNet-(152|200) orig", "resnet{}", {}),
    (r"preact-ResNet-200.*", "resnet200_v2", {}),
    (r"ResNet-200 1x64d", "resnet200_v2", {}),
    (r"ResNet-(20|32|44|56|110|1202)", "cifar_resnet{}", {}),
    (r"ResNet-(110|1202) constant depth", "cifar_resnet{}", {}),
    (r"ResNet-(110|1202) stochastic depth", "cifar_resnet{}_sd", {}),
    (r"ResNet-110 original", "cifar_resnet110", {}),
    (
        r"ResNet-110 const scaling 0\.5/1",
        "cifar_resnet110",
        {"merge": "scale", "merge_scales": (0.5, 1.0)},
    ),
    (
        r"ResNet-110 const scaling 0\.5/0\.5",
        "cifar_resnet110",
        {"merge": "scale", "merge_scales": (0.5, 0.5)},
    ),
    (r"ResNet-110 no shortcut", "cifar_plain110", {}),
    (r"ResNet-110 exclusive gate.*", "cifar_resnet110", {"merge": "exclusive_gate"}),
    (r"ResNet-110 shortcut-only gate.*", "cifar_resnet110", {"merge": "shortcut_gate"}),
    (r"ResNet-110 1x1 conv shortcut", "cifar_resnet110", {"shortcut": "project_all"}),
    (r"ResNet-110 dropout shortcut 0\.5", "cifar_resnet110", {"merge": "dropout"}),
    (r"ResNet-164 original", "cifar_resnet164", {}),
    (r"ResNet-110 full preact", "cifar_resnet110_v2", {}),
    (r"ResNet-164 full preact", "cifar_resnet164_v2", {}),
    (r"ResNet-1001 orig", "cifar_resnet1001", {}),
    (r"preact-ResNet-(164|1001).*", "cifar_resnet{}_v2", {}),
    (r"WRN-(18|34)-(\d)", "wide_resnet{}_{}", {}),
    (r"WRN-(18|34)-1\.5", "wide_resnet{}_1_5", {}),
    (r"WRN-50-2.*", "wide_resnet50_2", {}),
    (r"WRN-101-2.*", "wide_resnet101_2", {}),
    (r"WRN-(16|22|28|40)-(\d+).*", "wrn_{}_{}", {}),
    (r"ResNeXt-(50|101) (\d+x\d+d).*", "resnext{}_{}", {}),
    (r"ResNeXt-29 (\d+x\d+d)", "cifar_resnext29_{}", {}),
    (r"ResNet-(20|32) B .*", "cifar_resnet{}", {"shortcut": "project"}),
]

# Their ResNets of depth 44 and more are option-B bottleneck nets of another depth.
BOTTLENECKS = {'"ResNet-44"': 65, '"ResNet-56"': 83, '"ResNet-110"': 164}


def spec_of(model: str, dataset: str) -> ResNetSpec | None:
    """Our spec of a row, or None where it is no residual network."""
    changes: dict[str, Any] = {}
    if dataset.startswith("CIFAR-100"):
        changes["classes"] = 100
    if model.split(" ")[0] in BOTTLENECKS:
        depth = BOTTLENECKS[model.split(" ")[0]]
        return cifar_resnet(depth, "bottleneck", stride_on="3x3", **changes)
    if model.startswith("ResNet-152") and dataset == "SVHN":
        survival = 0.5 if "stochastic" in model else 1.0
        return cifar_resnet(152, survival=survival)
    for pattern, name, fields in MODELS:
        if match := re.fullmatch(pattern, model):
            return get_spec(name.format(*match.groups()), **fields, **changes)
    if match := re.fullmatch(r"WRN-(\d+)-(\d+)", model):
        return wide_resnet(*map(int, match.groups()), **changes)
    return None


def rows() -> list[dict[str, str]]:
    """All rows that have counts."""
    with CSV.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["params"]]
