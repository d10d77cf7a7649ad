"""`nomoat measure NAME`: one model measured, alone or beside another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.cli.complete import complete_adapters, complete_models

if TYPE_CHECKING:
    from nomoat.measure.subject import SubjectName

__all__ = ["command"]


@click.command("model", short_help="Measure one model, or two beside each other.")
@click.argument("name", shell_complete=complete_models)
@click.option("--adapter", "adapters", multiple=True, metavar="PATH_OR_NAME[:SCALE]",
              shell_complete=complete_adapters, help="LoRA adapter to apply; several are added.")  # fmt: skip
@click.option("--versus", metavar="NAME2[+ADAPTER[:SCALE]]...",
              help="Measure this one first, and compare item by item.")  # fmt: skip
@click.option("--tasks", metavar="NAMES",
              help="Comma-separated: speed, passages, knowledge, short_answers, text, questions."
              "  [default: all]")  # fmt: skip
@click.option("--text", type=click.Path(path_type=Path), help="File or folder of text to predict.")
@click.option("--questions", type=click.Path(path_type=Path), help="JSONL file of your own questions.")
@click.option("--quick", is_flag=True, help="Fewer rounds and a part of the items.")
@click.option("--threads", type=int, help="Fixed number of threads.  [default: measured, adapted to load]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the report.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(name: str, adapters: tuple[str, ...], versus: str | None, tasks: str | None, text: Path | None,
            questions: Path | None, quick: bool, threads: int | None, out: Path, as_json: bool) -> None:  # fmt: skip
    """Measure the model NAME with its adapters: speed, memory, and quality on built-in or your own items.

    Writes report.json, report.html and pictures into the folder --out. NAME is a name of `nomoat list` or a .gguf
    file. Other work on the machine makes the speeds lower; the report says how much there was.
    """
    from nomoat.cli.measure_output import show_report
    from nomoat.measure.measuring import Plan
    from nomoat.measure.report import check_out, write_report
    from nomoat.measure.subject import SubjectName, parse_subject
    from nomoat.measure.tasks import pick
    from nomoat.run.adapters import parse_adapter

    check_out(out)
    plan = Plan(_with_files(pick(tasks), tasks is not None, text, questions), text, questions, quick, threads)
    subject = SubjectName(name, tuple(map(parse_adapter, adapters)))
    report = _measure([*([parse_subject(versus)] if versus else []), subject], plan)
    files = write_report(report, out)
    show_report(report, out, files, as_json)


def _with_files(
    names: tuple[str, ...], chosen: bool, text: Path | None, questions: Path | None
) -> tuple[str, ...]:
    """The tasks that can be done; a file that is given is wanted, and a chosen task needs its file."""
    wanted = list(names)
    for task, file in (("text", text), ("questions", questions)):
        if file is not None and task not in wanted:
            wanted.append(task)
        elif file is None and task in wanted:
            if chosen:
                raise click.UsageError(f"the task {task} needs --{task}")
            wanted.remove(task)
    return tuple(wanted)


def _measure(subjects: list[SubjectName], plan: Any) -> dict[str, Any]:
    """One report, the last subject's; with a first one beside it where there are two."""
    from nomoat.base.settings import Settings
    from nomoat.cli.progress import TerminalProgress
    from nomoat.measure.measuring import compared, measure
    from nomoat.run.embedded_choice import choose_embedded
    from nomoat.store.store import Store, StoredModel

    settings, progress = Settings.from_environment(), TerminalProgress()
    store = Store(settings.home, settings)

    def resolve(name: str) -> StoredModel:
        return choose_embedded(store, store.resolve(name, progress), settings, progress)

    tasks = plan.tasks(progress)  # a wrong file shows before a model is prepared, which takes its time
    for subject in subjects:  # a wrong name shows before anything is measured
        resolve(subject.model)
        for ref in subject.adapters:
            store.resolve_adapter(ref.path)
    reports = []
    for subject in subjects:
        progress.say(f"measuring {subject}")
        reports.append(measure(subject, plan, tasks, settings, progress, resolve))
    return reports[0] if len(reports) == 1 else compared(reports[0], reports[1])
