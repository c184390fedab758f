"""What the pages hold that is generated: tables between `<!-- NAME -->` markers.

`pytest tests/test_documentation.py --update-golden` writes them anew.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from conftest import ROOT

from keras_resnet import PRESETS, estimate_cost
from keras_resnet.cost import Cost
from keras_resnet.experiments import EXPERIMENTS
from keras_resnet.experiments.power import needs, power_table
from keras_resnet.experiments.reporting import VERDICTS
from keras_resnet.experiments.results import Outcome
from keras_resnet.experiments.verdicts import judge
from keras_resnet.presets import Preset
from keras_resnet.units import in_units

# Presets that the README names together; a name is of the last family that it fits.
FAMILIES = {
    "residual": ("*",),
    "plain": ("*plain*",),
    "highway": ("cifar_highway*",),
    "identity mappings": ("*_v2",),
    "stochastic depth": ("*_sd",),
    "wide": ("wrn_*", "wide_*"),
    "ResNeXt": ("*resnext*",),
    "v1.5, C and D": ("*_v1_5", "*_c", "*_d"),
    "keras.applications' own": ("keras_*",),
    "fully connected": ("dense_*",),
}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def network_table() -> str:
    """Every preset."""
    rows = [
        (f"`{name}`", p.depth, f"{c.params:,}", f"{c.total_params:,}", f"{c.macs:,}",
         p.source)
        for name, p, c in _costed()
    ]  # fmt: skip
    return table(("network", "depth", "trainable", "in all", "MACs", "source"), rows)


def family_table() -> str:
    """A row a family, with what its networks span."""
    members: dict[str, list[tuple[str, Preset, Cost]]] = {t: [] for t in FAMILIES}
    for row in _costed():
        fits = (
            t for t, ps in FAMILIES.items() if any(fnmatchcase(row[0], p) for p in ps)
        )
        members[list(fits)[-1]].append(row)
    rows = []
    for title, found in members.items():
        names = [f"`{name}`" for name, _, _ in found]
        shown = names if len(names) < 4 else [names[0], names[1], f"... {names[-1]}"]
        sources = [re.split(r" T\d| s\d|,| Fig|:", p.source)[0] for _, p, _ in found]
        rows.append(
            (
                title,
                ", ".join(shown) + (f" ({len(names)})" if len(names) > 3 else ""),
                _span([p.depth for _, p, _ in found]),
                _span([c.params for _, _, c in found]),
                _span([c.macs for _, _, c in found]),
                ", ".join(dict.fromkeys(sources)),
            )
        )
    return table(
        ("family", "networks", "depth", "parameters", "multiply-adds", "source"), rows
    )


def _costed() -> list[tuple[str, Preset, Cost]]:
    return [(name, p, estimate_cost(p.spec)) for name, p in PRESETS.items()]


def _span(values: Sequence[float]) -> str:
    low, high = (_short(end) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    return in_units(value, "") if value >= 10_000 else str(value)


def measured(benchmark: str) -> dict[str, Any]:
    """What a benchmark last wrote."""
    file = ROOT / "benchmarks/results" / f"{benchmark}.json"
    told: dict[str, Any] = json.loads(file.read_text())
    return told


def made_with(told: dict[str, Any], *packages: str) -> str:
    """A line on when and where a benchmark ran."""
    machine = told["machine"]
    named = [f"{name} {v}" for name in packages if (v := machine["versions"].get(name))]
    return (
        f"\n`{told['command']}`, {told['date'][:10]}, {machine['cores']} cores of "
        f"{machine['cpu']}, {', '.join(named)}.\n"
    )


def by_peer(told: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Case -> peer -> record."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for record in told["records"]:
        cases.setdefault(record["case"], {})[record["peer"]] = record
    return cases


def speed_table(*, share: bool = False) -> str:
    """Training, a row a network; and our share of the machine's matrix products."""
    told = measured("training")
    peers = ("ours", "stock", "torch", "torch.compile")
    rows = []
    for case, found in sorted(by_peer(told).items(), key=lambda row: _place(row[0])):
        rates = {peer: found[peer]["images_per_second"] for peer in peers}
        best = max(rates["torch"], rates["torch.compile"])
        rows.append(
            (
                f"`{case}`, {found['ours']['batch']}",
                *(f"{rates[peer]:.3g}" for peer in peers),
                f"**{rates['ours'] / best:.2f}**",
                f"{rates['ours'] / rates['stock']:.3g}",
                *([f"{found['ours']['gemm_share']:.0%}"] if share else []),
            )
        )
    columns = ("network, batch", "ours", "stock Keras", "torch", "torch.compile",
               "ours / best of torch", "ours / stock",
               *(["ours, of GEMM"] if share else []))  # fmt: skip
    return table(columns, rows) + made_with(told, "tensorflow", "keras", "torch")


def inference_table() -> str:
    """Exports and their peers, a column a network and batch; and ratios of these."""
    told = measured("inference")
    cases = by_peer(told)
    peers = {
        "ours": "our SavedModel",
        "ours-unfolded": "the same, batch norms not folded",
        "openvino-file": "our OpenVINO file",
        "onnxruntime": "our ONNX file",
        "litert": "our LiteRT file",
        "openvino-file-int8": "our OpenVINO file, int8",
        "onnxruntime-int8": "our ONNX file, int8",
        "litert-int8": "our LiteRT file, int8",
        "openvino": "OpenVINO on our SavedModel",
        "stock-export": "stock Keras' export",
        "stock-predict": "stock Keras, `predict_on_batch`",
        "torch": "torch, eager",
        "torch.compile": "torch.compile",
        "torch-int8": "torch, int8 (FX)",
    }
    rates = {
        case: {
            peer: found[peer]["images_per_second"]
            for peer in peers
            if peer in found and found[peer]["images_per_second"]
        }
        for case, found in cases.items()
    }
    rows = [
        (
            name,
            *(f"{each[peer]:.3g}" if peer in each else "" for each in rates.values()),
        )
        for peer, name in peers.items()
    ]
    for name, (ours, theirs) in RATIOS.items():
        ratios = []
        for each in rates.values():
            both = [max(each.get(peer, 0) for peer in side) for side in (ours, theirs)]
            ratios.append(f"**{both[0] / both[1]:.2f}**" if all(both) else "")
        rows.append((name, *ratios))
    columns = ("images a second", *(f"`{case.replace(', ', '`, ')}" for case in cases))
    packages = (
        "tensorflow", "keras", "torch", "openvino", "onnxruntime", "ai-edge-litert"
    )  # fmt: skip
    return table(columns, rows) + made_with(told, *packages)


INT8 = ("openvino-file-int8", "onnxruntime-int8", "litert-int8")
RATIOS = {  # between the best of peers
    "best int8 file / OpenVINO on our SavedModel": (INT8, ["openvino"]),
    "best int8 file / stock Keras' export": (INT8, ["stock-export"]),
    "best int8 file / torch, int8": (INT8, ["torch-int8"]),
    "our OpenVINO file / OpenVINO on our SavedModel": (["openvino-file"], ["openvino"]),
    "our SavedModel / stock Keras' export": (["ours"], ["stock-export"]),
}  # fmt: skip


def latency_table() -> str:
    """An export by itself, and a server under load."""
    told = measured("serving")
    rows = [
        (
            "the C++ loader" if record["case"] == "C++ loader" else "a server",
            record["batch"],
            f"{record['rate']:g}" if "rate" in record else "",
            *(f"{record[key]:,.0f}" for key in ("p50", "p90", "p99")),
            f"{record['images_per_second']:.3g}",
        )
        for record in told["records"]
    ]
    columns = ("through", "images of a request", "requests a second", "p50 (ms)",
               "p90 (ms)", "p99 (ms)", "images answered a second")  # fmt: skip
    return table(columns, rows) + made_with(told, "tensorflow")


def exports_table() -> str:
    """An export of each family, and how far it is from its Keras model."""
    told = measured("exports")
    rows = [
        (
            f"`{record['case']}`",
            record["signatures"],
            f"{record['from_pixels']:.1e}",
            f"{record['from_jpeg']:.1e}",
            record["folded"],
            f"{record['megabytes']:.1f}",
        )
        for record in told["records"]
    ]
    columns = ("network", "signatures", "from pixels and PNG", "from JPEG",
               "batch norms folded", "MB")  # fmt: skip
    return table(columns, rows) + made_with(told, "tensorflow", "keras")


def accuracy_table() -> str:
    """Test accuracy by recipe."""
    told = measured("accuracy")
    rows = [
        (
            f"`keras-resnet train --recipe {record['case']}"
            + (f" --precision {found}" if (found := record.get("precision")) else "")
            + "`",
            f"0 to {record['seeds'] - 1}",
            f"**{record['mean']:.2%}**",
            f"{record['deviation']:.2%}",
            f"{record['least']:.2%} to {record['greatest']:.2%}",
            f"{record['images']:,}",
            f"{record['seconds']:,.0f} s",
            f"{record['date']}, {record['cpu']}, version {record['version']}",
        )
        for record in told["records"]
    ]
    columns = ("command", "seeds", "test accuracy", "standard deviation",
               "least to greatest", "test images", "training, the fastest",
               "measured")  # fmt: skip
    cores = told["machine"]["cores"]
    return table(columns, rows) + f"\n`{told['command']}`, {cores} cores.\n"


def minutes_table() -> str:
    """Accuracy by minutes, a row a case."""
    told = measured("time_to_accuracy")
    rows = [
        (
            record["case"],
            record["seeds"],
            f"{record['epochs']} of {record['epoch_seconds']:.0f} s",
            f"{record['minutes']:.1f}",
            *(_percent(record[key]) for key in ("val_2", "val_4", "val_6", "val")),
            f"**{record['mean']:.2%}**",
            _percent(record["deviation"]),
        )
        for record in told["records"]
    ]
    columns = ("case", "seeds", "epochs", "minutes", "validation after 2 minutes", "4",
               "6", "at the end", "test accuracy", "standard deviation")  # fmt: skip
    return table(columns, rows) + made_with(told, "tensorflow", "keras")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def verdicts() -> dict[str, list[dict[str, str]]]:
    """Experiment -> what docs/results says of each of its claims."""
    found = {}
    for name in EXPERIMENTS:
        file = ROOT / "docs/results" / name / VERDICTS
        if file.is_file():
            with file.open(newline="") as opened:
                rows = list(csv.DictReader(opened))
            if tested := [row for row in rows if row["verdict"] != "not run"]:
                found[name] = tested
    return found


def experiments_table() -> str:
    """What the experiments came to, a row each."""
    rows = []
    for name, claims in verdicts().items():
        counts = Counter(claim["verdict"] for claim in claims)
        rows.append(
            (
                f"[{name}](docs/results/{name}/README.md)",
                EXPERIMENTS[name].title,
                EXPERIMENTS[name].source,
                ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()),
            )
        )
    return table(("experiment", "claim", "source", "of its claims here"), rows)


def claims_table() -> str:
    """What the experiments came to, a row a claim."""
    rows = [
        (f"[{name}]({name}/README.md)", row["claim"], row["source"],
         f"**{row['verdict']}**", row["because"])
        for name, claims in verdicts().items()
        for row in claims
    ]  # fmt: skip
    return table(("experiment", "claim", "source", "here", "because"), rows)


def stored_outcomes(name: str) -> list[Outcome]:
    """The test errors that docs/results keeps of an experiment's runs."""
    arms = {arm.name: arm for arm in EXPERIMENTS[name].arms}
    file = ROOT / "docs/results" / name / "errors.csv"
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return [
            Outcome(
                arms[row["arm"]], int(row["seed"]), Path(),
                {"test_error": float(row["test_error_in_%"]) / 100}, [], {}, 0, 0,
                classes=10,
            )
            for row in csv.DictReader(opened)
        ]  # fmt: skip


def power_rows(name: str) -> list[tuple[str, ...]]:
    """What it would take to decide an experiment's claims on test errors."""
    experiment, outcomes = EXPERIMENTS[name], stored_outcomes(name)
    judged = [
        judge(claim, outcomes, "short", experiment.effect_of(claim))
        for claim in experiment.claims
    ]
    return power_table(needs(experiment, judged, outcomes))


def needed_seeds_table() -> str:
    """All of them."""
    head, *_ = power_table([])
    rows = [
        (f"[{name}]({name}/README.md)", *row)
        for name in verdicts()
        for row in power_rows(name)[1:]
    ]
    return table(("experiment", *head), rows)


def _place(case: str) -> int:
    from benchmarks.training import CASES

    return list(CASES).index(case)


# Page -> marker -> what makes it.
GENERATED = {
    "README.md": {
        "families": family_table,
        "accuracy": accuracy_table,
        "experiments": experiments_table,
        "speed": speed_table,
    },
    "docs/networks.md": {"networks": network_table},
    "docs/results/README.md": {"claims": claims_table, "power": needed_seeds_table},
    "docs/performance.md": {
        "training": partial(speed_table, share=True),
        "inference": inference_table,
        "minutes": minutes_table,
    },
    "docs/serving.md": {"exports": exports_table, "latency": latency_table},
}


def hold(page: str, marker: str, *, update: bool) -> tuple[str, str]:
    """What a page has at a marker, and what it should."""
    path = ROOT / page
    text = path.read_text()
    wanted = GENERATED[page][marker]()
    pattern = rf"(<!-- {marker} -->\n).*?(<!-- end -->)"
    if update:
        text = re.sub(pattern, lambda m: m[1] + wanted + m[2], text, flags=re.S)
        path.write_text(text)
    found = re.search(pattern, text, flags=re.S)
    return found[0].split("\n", 1)[1].removesuffix("<!-- end -->"), wanted
