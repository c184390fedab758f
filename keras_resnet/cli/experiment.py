"""The papers' claims: experiment list, run, report."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli.group import Commands, main
from keras_resnet.cli.output import print_table, table_of, warnings_as_lines

if TYPE_CHECKING:
    from keras_resnet.experiments import Experiment, Setting


@main.group(cls=Commands)
def experiment() -> None:
    """Test the papers' claims on your data.

    Example: keras-resnet experiment run degradation --budget smoke
    """


def _on_setting(command: Callable[..., None]) -> Callable[..., None]:
    """What says which runs are meant: gives a command an experiment and a setting."""

    @functools.wraps(command)
    def settled(
        name: str,
        budget: Any,
        data: str | None,
        image_size: int | None,
        train_images: int | None,
        steps: int | None,
        **others: Any,
    ) -> None:
        from keras_resnet.experiments import get_experiment, setting_of

        chosen = get_experiment(name)
        setting = setting_of(
            chosen,
            budget,
            data=data,
            image_size=image_size,
            train_images=train_images,
            steps=steps,
        )
        runtime.prepare()
        command(chosen, setting, **others)

    for option in reversed(
        (
            click.argument("name"),
            click.option(
                "--budget",
                type=click.Choice(["smoke", "short", "paper"]),
                default="short",
                show_default=True,
                help="Seconds to see that all works; Fashion-MNIST at 14 pixels in an "
                "hour or two of 2 cores; the paper's own data and recipe.",
            ),
            click.option("--data", help="As for train, instead of the budget's."),
            click.option(
                "--image-size", type=click.IntRange(1), help="Side in pixels."
            ),
            click.option(
                "--train-images",
                type=click.IntRange(1),
                help="Learn from so many of the images.",
            ),
            click.option(
                "--steps",
                type=click.IntRange(1),
                help="Of the training; rounded up to whole epochs.",
            ),
            click.option(
                "--folder",
                type=click.Path(path_type=Path),
                default=Path("runs/experiments"),
                show_default=True,
                help="Of all runs.",
            ),
        )
    ):
        settled = option(settled)
    return settled


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_experiments(as_json: bool) -> None:
    """List experiments: what is compared, and how many claims are tested.

    Example: keras-resnet experiment list
    """
    from keras_resnet.experiments import EXPERIMENTS

    if as_json:
        fields = [
            {
                "name": row.name,
                "title": row.title,
                "source": row.source,
                "arms": {arm.name: arm.label for arm in row.arms},
                "claims": [claim._asdict() for claim in row.claims],
            }
            for row in EXPERIMENTS.values()
        ]
        click.echo(json.dumps(fields, indent=2))
        return
    table = table_of("experiment", "networks>", "claims>", "title", "source")
    for row in EXPERIMENTS.values():
        table.add_row(
            row.name,
            f"{len(row.arms_at('short'))} of {len(row.arms)}",
            str(len(row.claims)),
            row.title,
            row.source,
        )
    print_table(table)
    click.echo("networks: at the budgets smoke and short, of those of the paper")


@experiment.command()
@_on_setting
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of each."
)
@click.option(
    "--first-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of them.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="As for train.")
@click.option("--download", is_flag=True, help="Let TFDS fetch what isn't prepared.")
@click.option(
    "--strategy",
    default="auto",
    type=click.Choice(["auto", "one", "mirrored"]),
    show_default=True,
    help="One device, or the GPUs of this machine.",
)
@click.option("--track/--no-track", default=True, help="Log to MLflow.")
@click.option(
    "--experiment", "tracked_as", default="keras_resnet", show_default=True,
    help="MLflow's.",
)  # fmt: skip
def run(
    chosen: Experiment,
    setting: Setting,
    folder: Path,
    seeds: int,
    first_seed: int,
    data_dir: Path | None,
    download: bool,
    strategy: str,
    track: bool,
    tracked_as: str,
) -> None:
    """Train the networks of an experiment, and report.

    Finished runs are not repeated, experiments share them, and the same command goes
    on with one that was cut off. Started twice, two processes share the work.

    Example: keras-resnet experiment run degradation --seeds 3
    """
    from rich.console import Console

    from keras_resnet.experiments import run as run_experiment
    from keras_resnet.tracking import MLflowTracker
    from keras_resnet.training.devices import distribution

    console = Console(highlight=False, markup=False)
    console.print(f"{chosen.title}\n{setting.in_words()}")
    with warnings_as_lines():
        try:
            left = run_experiment(
                chosen,
                setting,
                seeds=range(first_seed, first_seed + seeds),
                folder=folder,
                tracker=MLflowTracker(tracked_as, console) if track else None,
                console=console,
                strategy=distribution.make_strategy(strategy),
                data_dir=data_dir,
                download=download,
            )
        except KeyboardInterrupt as stop:
            click.echo("\nstopped; the same command goes on")
            raise SystemExit(getattr(stop, "code", 130)) from None
    if left:
        click.echo(f"other processes are at {len(left)} runs; report when they end")
    _report(chosen, setting, folder, None)


@experiment.command()
@_on_setting
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the report; by default beside the runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(
    chosen: Experiment,
    setting: Setting,
    folder: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write figures, table and verdicts of what has been run.

    Example: keras-resnet experiment report degradation --out docs/results/degradation
    """
    _report(chosen, setting, folder, out, as_json=as_json)


def _report(
    chosen: Experiment,
    setting: Setting,
    folder: Path,
    out: Path | None,
    *,
    as_json: bool = False,
) -> None:
    """Writes a report and prints it."""
    from keras_resnet.experiments import report as write_report
    from keras_resnet.experiments.reporting import columns_of, text_of
    from keras_resnet.experiments.results import MEASURES

    written = write_report(chosen, setting, folder=folder, out=out)
    if as_json:
        fields = {
            "page": str(written.page),
            "rows": [
                {"arm": row.arm.name, "seeds": row.seeds, "means": row.means}
                for row in written.rows
            ],
            "verdicts": [
                judged.claim._asdict() | {"verdict": judged.verdict,
                                          "because": judged.reason}
                for judged in written.verdicts
            ],
        }  # fmt: skip
        click.echo(json.dumps(fields, indent=2))
        return
    keys = columns_of(chosen, written.rows)
    labels = [f"{MEASURES[k].label} {MEASURES[k].unit}".rstrip() + ">" for k in keys]
    table = table_of("network", "seeds>", *labels)
    for row in written.rows:
        cells = [text_of(row, key) for key in keys]
        table.add_row(row.arm.label, str(row.seeds), *cells)
    print_table(table)
    for judged in written.verdicts:
        click.echo(f"{judged.verdict}: {judged.claim.text}")
        click.echo(f"  {judged.reason}")
    click.echo(f"\nreport  {written.page}")
