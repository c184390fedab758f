"""What the pages hold that is generated: tables between `<!-- NAME -->` markers.

`pytest tests/test_documentation.py --update-golden` writes them anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from conftest import ROOT

from keras_resnet import PRESETS, estimate_cost
from keras_resnet.cost import Cost
from keras_resnet.presets import Preset
from tuning.budget import amount

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
    return amount(value, "") if value >= 10_000 else str(value)


def speed_table() -> str:
    """What `benchmarks.training` last measured, a row a network."""
    told = json.loads((ROOT / "benchmarks/results/training.json").read_text())
    cases: dict[str, dict[str, dict]] = {}
    for record in told["records"]:
        cases.setdefault(record["case"], {})[record["peer"]] = record
    peers = ("ours", "stock", "torch", "torch.compile")
    rows = []
    for case, found in sorted(cases.items(), key=lambda item: _place(item[0])):
        rates = {peer: found[peer]["images_per_second"] for peer in peers}
        best = max(rates["torch"], rates["torch.compile"])
        rows.append(
            (
                f"`{case}`, {found['ours']['batch']}",
                *(f"{rates[peer]:.3g}" for peer in peers),
                f"**{rates['ours'] / best:.2f}**",
                f"{rates['ours'] / rates['stock']:.3g}",
            )
        )
    versions = told["machine"]["versions"]
    named = ", ".join(f"{p} {versions[p]}" for p in ("tensorflow", "keras", "torch"))
    return (
        table(
            ("network, batch", "ours", "stock Keras", "torch", "torch.compile",
             "ours / best of torch", "ours / stock"),
            rows,
        )
        + f"\n`{told['command']}`, {told['date'][:10]}, {told['machine']['cores']} "
        f"cores of {told['machine']['cpu']}, {named}.\n"
    )  # fmt: skip


def _place(case: str) -> int:
    from benchmarks.training import CASES

    return list(CASES).index(case)


# Page -> marker -> what makes it.
GENERATED = {
    "README.md": {"families": family_table, "speed": speed_table},
    "docs/networks.md": {"networks": network_table},
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
