"""`nomoat doctor`: is this machine, this installation and this store in order?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nomoat.cli.findings import OK, PROBLEM, WARNING, Finding
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.base.settings import Settings

__all__ = ["command"]

_STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}


@click.command("doctor")
@click.option("--deep", is_flag=True, help="Compare every file of the store with its digest, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: findings, warnings, problems.")
def command(deep: bool, as_json: bool) -> int:
    """Check this machine, the installation, the store, and that nothing is open to the network.

    Nothing is changed. Each finding is ok, a warning or a problem, the latter two with a remedy. The exit status is
    1 where there is a problem, else 0.
    """
    from nomoat.base.settings import Settings

    findings = []
    topic = ""
    for finding in _examine(Settings.from_environment(), deep):
        findings.append(finding)
        if not as_json:
            _print(finding, finding.topic != topic)
            topic = finding.topic
    counts = {state: sum(finding.state == state for finding in findings) for state in (WARNING, PROBLEM)}
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "warnings": counts[WARNING],
                "problems": counts[PROBLEM],
            }
        )
    else:
        click.echo(f"\n{_count(counts[PROBLEM], PROBLEM)}, {_count(counts[WARNING], WARNING)}")
    return 1 if counts[PROBLEM] else 0


def _examine(settings: Settings, deep: bool) -> Iterator[Finding]:
    """All findings, topic by topic, as they are made."""
    from nomoat.cli import doctor_engine, doctor_install, doctor_machine, doctor_sockets, doctor_store

    yield from doctor_machine.examine(settings)
    yield from doctor_install.examine()
    yield from doctor_engine.examine(settings)
    yield from doctor_store.examine(settings, deep)
    yield from doctor_sockets.examine(settings)


def _print(finding: Finding, is_new_topic: bool) -> None:
    from rich.text import Text

    from nomoat.cli.store_output import console

    out: Callable[..., None] = console().print
    if is_new_topic:
        out(Text(f"\n{finding.topic}", style="bold"))
    line = Text(f"  {finding.state:<8}", style=_STYLES[finding.state])
    out(line.append(finding.text, style="default"), soft_wrap=True)
    if finding.remedy:
        out(Text(f"          remedy: {finding.remedy}"), soft_wrap=True)


def _count(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
