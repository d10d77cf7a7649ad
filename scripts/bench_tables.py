"""Run benchmarks, keep their results, and write the tables of all kept results into the docs.

A benchmark is a program `benchmarks/NAME.py`. It tells its progress on standard error and prints one object:

    {"title": str, "machine": str, "columns": [str], "rows": [[str or number]], "notes": [str]}

`notes` may be left out. With `"detail": true` the table goes into docs/explanation/speed.md alone. Whatever else it
holds is kept with the result. A program that prints nothing has nothing to say about this machine (or only serves
the others).

With `--only-tables` nothing is run: the tables are written from the results that were kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["main", "replace_between", "table", "write_pages"]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"
_README = _ROOT / "README.md"
_PAGES = [_README, _ROOT / "docs" / "explanation" / "speed.md"]
_START, _END = "<!-- bench:start -->", "<!-- bench:end -->"


def table(result: dict[str, Any]) -> str:
    """One result as Markdown: title, machine, table, notes."""
    lines = [f"**{result['title']}** ({result['machine']}, {result['date']})", ""]
    lines += [_row(result["columns"]), _row(["---"] * len(result["columns"]))]
    lines += [_row([_cell(value) for value in row]) for row in result["rows"]]
    lines += ["", *(f"{note}" for note in result.get("notes", []))]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def replace_between(text: str, content: str) -> str:
    """`text` with what stands between the two markers replaced; unchanged where there are none."""
    if _START not in text or _END not in text:
        return text
    before, rest = text.split(_START, 1)
    return f"{before}{_START}\n{content}{_END}{rest.split(_END, 1)[1]}"


def _benchmarks() -> list[str]:
    """Names of the programs; other files beside them are their parts."""
    files = (_ROOT / "benchmarks").glob("*.py")
    return sorted(path.stem for path in files if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))


def _run(name: str) -> None:
    if name not in _benchmarks():
        sys.exit(f"error: there is no benchmark {name!r}\nhint:  there are: {', '.join(_benchmarks())}")
    program = _ROOT / "benchmarks" / f"{name}.py"
    sys.stderr.write(f"== {name}\n")
    answer = subprocess.run([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        sys.exit(f"error: benchmark {name} failed with status {answer.returncode}")
    if not answer.stdout.strip():
        return
    result = {**json.loads(answer.stdout), "date": datetime.now(UTC).date().isoformat()}
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the named benchmarks (default: all), then write the tables."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Run benchmarks and write their tables."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a program of benchmarks/; all of them unless given"
    )
    parser.add_argument(
        "--only-tables", action="store_true", help="run nothing: write the kept results' tables"
    )
    given = parser.parse_args(arguments)
    if given.only_tables and given.names:
        parser.error("--only-tables runs no benchmark: leave the names out")
    for name in [] if given.only_tables else given.names or _benchmarks():
        _run(name)
    write_pages()


def write_pages() -> None:
    """Write the tables of all kept results into the pages."""
    results = [json.loads(path.read_text()) for path in sorted(_RESULTS.glob("*.json"))]
    for page in _PAGES:
        content = "\n".join(
            table(result) for result in results if page != _README or not result.get("detail")
        )
        page.write_text(replace_between(page.read_text(encoding="utf-8"), content), encoding="utf-8")


if __name__ == "__main__":
    main()
