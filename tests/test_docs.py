"""The documentation tells the truth: commands exist, links lead somewhere, generated pages are current."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nomoat.base import errors
from nomoat.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = {"docs/reference/cli.md"}
README_LINES = 200


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _code_lines(page: Path) -> list[tuple[int, str]]:
    """Numbered lines inside fenced shell blocks."""
    lines, language = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"```(\w*)", line.strip())
        if fence:
            language = fence[1] or "text" if language is None else None
        elif language == "sh":
            lines.append((number, line.strip()))
    return lines


COMMANDS = [
    pytest.param(line, id=f"{_name(page)}:{number}")
    for page in PAGES
    for number, line in _code_lines(page)
    if re.match(r"(\.venv/bin/)?nomoat\s", line)
]
SCRIPTS = [
    pytest.param(line, id=f"{_name(page)}:{number}")
    for page in PAGES
    for number, line in _code_lines(page)
    if re.match(r"(make|scripts/)", line)
]
LINKS = [
    pytest.param(page, target, id=f"{_name(page)}->{target}")
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    if not re.match(r"[a-z]+:", target)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_documentation_parses(line: str) -> None:
    _, verb, *arguments = shlex.split(line, comments=True)
    context = click.Context(cli, info_name="nomoat")
    command = cli.get_command(context, verb)
    assert command is not None, f"there is no verb {verb!r}"
    made = command.make_context(verb, arguments, parent=context)
    if isinstance(command, click.Group):
        part, inner, rest = command.resolve_command(made, [*made._protected_args, *made.args])
        assert inner is not None
        inner.make_context(part, rest, parent=made)


def test_the_documentation_shows_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", SCRIPTS)
def test_a_script_in_the_documentation_exists(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    if program == "make":
        targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
        assert arguments[0] in targets
    else:
        assert (ROOT / program).is_file()


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    linked = page.parent / file if file else page
    assert linked.exists()
    if anchor:
        titles = re.findall(r"(?m)^#+ (.+)$", linked.read_text(encoding="utf-8"))
        assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
        ahead += [
            page.parent / t for t in targets if not re.match(r"[a-z]+:", t) and (page.parent / t).is_file()
        ]
    assert not [_name(page) for page in PAGES if page.resolve() not in seen]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_the_command_reference_is_current() -> None:
    argv = [sys.executable, str(ROOT / "scripts" / "cli-reference"), "--check"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    codes = {getattr(errors, name).code for name in errors.__all__}
    assert not {code for code in codes if f"| `{code}` |" not in page}


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    settings = (ROOT / "src" / "nomoat" / "base" / "settings.py").read_text(encoding="utf-8")
    assert not {name for name in re.findall(r"NOMOAT_[A-Z_]+", settings) if name not in page}
