"""Inference: images a second of our exports, of stock Keras, torch and OpenVINO.

    python -m benchmarks.inference [--case NAME] [--peer NAME] [--batch N]

"ours" and "stock-export" are serving signatures, "openvino" reads our SavedModel,
"ours-unfolded" has its batch norms by themselves, and "stock-predict" is
`predict_on_batch`. "litert", "onnxruntime" and "openvino-file" run our files of these
formats. All compute in float32, but for "-int8": that is quantized, by noise, which is
no measure of accuracy.

Exports are made first, and kept for the next call (`--files-only` stops there). What
a call measures replaces the same rows of the table; the others stay if the machine and
the versions are the same, so that a table can be put together from several calls.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import harness, options, report
from benchmarks.harness import Task
from benchmarks.inference_peers import INFERENCE, make
from benchmarks.peers import ONEDNN, Peer
from benchmarks.report import Bars
from keras_resnet.presets import get_spec

CASES = ("resnet50_v1_5", "resnext50_32x4d")
BATCHES = (1, 8)
IMAGES = 16  # of a repeat
COLUMNS = {
    "network": ("case", ""),
    "peer": ("peer", ""),
    "images/s": ("images_per_second", ".3g"),
    "ours / it": ("ours_over_it", ".2f"),
    "of GEMM": ("gemm_share", ".0%"),
    "note": ("note", ""),
}


@click.command()
@options.cases(CASES, CASES)
@options.peers(INFERENCE, INFERENCE)
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), default=BATCHES
)
@options.repeats(5)
@options.limit
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/inference"),
    show_default=True,
    help="Folder of the exports.",
)
@click.option("--files-only", is_flag=True, help="Make the exports, and measure none.")
@options.out()
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    batches: tuple[int, ...],
    repeats: int,
    limit: float,
    files: Path,
    files_only: bool,
    out: Path,
) -> None:
    """Compare images a second in inference."""
    files = files.absolute()
    for case in cases:
        for export in dict.fromkeys(INFERENCE[peer].export for peer in peers):
            if export:
                _make(case, export, files / case / export, limit)
    if files_only:
        return
    records = []
    for case in cases:
        for batch in batches:
            tasks = {}
            for peer in peers:
                arguments = {"spec": get_spec(case), "batch": batch}
                if export := INFERENCE[peer].export:
                    arguments["folder"] = str(files / case / export)
                steps = max(1, IMAGES // batch)
                tasks[peer] = Task(INFERENCE[peer].peer, arguments, steps, repeats)
            records += harness.throughputs(
                f"{case}, batch {batch}",
                tasks,
                passes=1,
                side=4096,
                repeats=repeats,
                limit=limit,
            )
    records = report.add_earlier(out, records)
    harness.add_ratios(records)
    note = harness.conditions(repeats, 4096)
    bars = Bars("images a second", "images_per_second", "{images_per_second:.3g}")
    report.publish(out, "Inference", COLUMNS, records, note, bars=bars)


def _make(case: str, export: str, folder: Path, limit: float) -> None:
    """An export, unless it is there."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"spec": get_spec(case), "folder": str(folder), "export": export}
    task = Task(Peer(make, {}, ONEDNN), arguments, repeats=0)
    harness.race(case, {export: task}, limit)


if __name__ == "__main__":
    main()
