"""`nomoat measure pareto`: which of several measured models are worth having."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("pareto", short_help="Quality against size and speed over several reports.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metric", metavar="TASK.METRIC",
              help="Measure of quality, such as knowledge.acc.  [default: bits per byte where there are]")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for pareto.html, pareto.json and pictures."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(reports: tuple[Path, ...], metric: str | None, out: Path | None, as_json: bool) -> None:
    """Set the models of REPORTS side by side: quality against GB on disk and against answer speed.

    Marks those that no other one beats in both.
    """
    from nomoat.cli.measure_output import show_pareto
    from nomoat.measure.pareto import choose_quality, gather
    from nomoat.measure.report import PARETO_KIND, check_out, read_reports, write_pareto

    if out is not None:
        check_out(out, PARETO_KIND)
    read = read_reports(reports)
    quality = choose_quality(read, metric)
    digests = {f"model-{number}": report["model"]["digest"] for number, report in enumerate(read, 1)}
    show_pareto(write_pareto(gather(read, *quality), quality, digests, out), out, as_json)
