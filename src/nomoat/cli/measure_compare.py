"""`nomoat measure compare`: two reports, item by item."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("compare", short_help="Compare two reports item by item.")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for a report of the comparison.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(before: Path, after: Path, out: Path | None, as_json: bool) -> None:
    """Compare the reports BEFORE and AFTER on the items that both measured.

    Each is a folder that `nomoat measure` wrote, or the report.json in it.
    """
    from nomoat.cli.measure_output import show_report
    from nomoat.measure.measuring import compared
    from nomoat.measure.report import check_out, read_reports, write_report

    if out is not None:
        check_out(out)
    report = compared(*read_reports([before, after]))
    files = write_report(report, out) if out is not None else ()
    show_report(report, out, files, as_json)
