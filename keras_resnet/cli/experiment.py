"""The papers' claims: experiment list, run, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import Commands, main, stoppable
from keras_resnet.cli.output import print_json, print_table, table_of, warnings_as_lines
from keras_resnet.errors import UserError
from keras_resnet.units import count

if TYPE_CHECKING:
    from keras_resnet.experiments import Experiment, Setting


@main.group(cls=Commands)
def experiment() -> None:
    """Test the papers' claims on your data.

    Example: keras-resnet experiment run degradation --budget smoke
    """


def _choose(name: str, budget: Any, **changes: Any) -> tuple[Experiment, Setting]:
    """What the options that say which runs are meant stand for."""
    from keras_resnet.data import sources
    from keras_resnet.experiments import get_experiment, setting_of

    chosen = get_experiment(name)
    setting = setting_of(chosen, budget, **changes)
    sources.find(setting.data)
    return chosen, setting


_chosen = options.gather(
    "chosen",
    _choose,
    click.argument("name"),
    click.option(
        "--budget",
        type=click.Choice(["smoke", "short", "paper"]),
        default="short",
        show_default=True,
        help="Seconds to see that all works; Fashion-MNIST at 14 pixels in an hour or "
        "two of 2 cores; the paper's own data and recipe.",
    ),
    click.option("--data", help="As for train, instead of the budget's."),
    options.image_size,
    options.train_images,
    click.option(
        "--steps",
        type=options.POSITIVE,
        help="Of the training; rounded up to whole epochs.",
    ),
)
_folder = click.option(
    "--folder",
    type=options.PATH,
    default=Path("runs/experiments"),
    show_default=True,
    help="Of all runs.",
)


@experiment.command("list")
@options.as_json
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
        print_json(fields)
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
@_chosen
@_folder
@click.option(
    "--seeds", type=options.POSITIVE, default=3, show_default=True, help="Of each."
)
@click.option(
    "--first-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of them.",
)
@options.gather("loading", dict, options.data_dir, options.download)
@options.gather("device", options.Device, options.strategy())
@options.gather("tracking", options.Tracking, options.track, options.experiment)
def run(
    chosen: tuple[Experiment, Setting],
    folder: Path,
    seeds: int,
    first_seed: int,
    loading: dict[str, Any],
    device: options.Device,
    tracking: options.Tracking,
) -> None:
    """Train the networks of an experiment, and report.

    Finished runs are not repeated, experiments share them, and the same command goes
    on with one that was cut off. Started twice, two processes share the work.

    Example: keras-resnet experiment run degradation --seeds 3
    """
    from rich.console import Console

    from keras_resnet import files
    from keras_resnet.data import sources

    experiment, setting = chosen
    sources.look(setting.data, **loading)
    files.check_folder(folder, "folder")
    runtime.prepare()
    from keras_resnet.experiments import run as run_experiment

    console = Console(highlight=False, markup=False)
    console.print(f"{experiment.title}\n{setting.in_words()}")
    with warnings_as_lines(), stoppable():
        left = run_experiment(
            experiment,
            setting,
            seeds=range(first_seed, first_seed + seeds),
            folder=folder,
            tracker=tracking.tracker(console),
            console=console,
            strategy=device.make(),
            **loading,
        )
    if left:
        click.echo(
            f"other processes train {count(len(left), 'run')}; report when they end"
        )
    _report(chosen, folder, None)


@experiment.command()
@_chosen
@_folder
@click.option(
    "--out",
    type=options.PATH,
    help="Folder of the report; by default beside the runs.",
)
@options.as_json
def report(
    chosen: tuple[Experiment, Setting],
    folder: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write figures, table and verdicts of what has been run.

    Example: keras-resnet experiment report degradation --out docs/results/degradation
    """
    experiment, setting = chosen
    if not (folder / setting.name).is_dir():
        raise UserError(
            f"folder: {folder} has no runs of this setting yet; keras-resnet "
            f"experiment run {experiment.name} makes them"
        )
    _report(chosen, folder, out, as_json=as_json)


def _report(
    chosen: tuple[Experiment, Setting],
    folder: Path,
    out: Path | None,
    *,
    as_json: bool = False,
) -> None:
    """Writes a report and prints it."""
    runtime.prepare()
    from keras_resnet.experiments import report as write_report
    from keras_resnet.experiments.reporting import columns_of, text_of
    from keras_resnet.experiments.results import MEASURES

    experiment, setting = chosen
    written = write_report(experiment, setting, folder=folder, out=out)
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
        print_json(fields)
        return
    keys = columns_of(experiment, written.rows)
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
