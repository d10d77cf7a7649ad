"""A report as a folder: report.json for programs, report.html and pictures for people, manifest.json last.

A report is the dictionary that `nomoat.measure.measuring.measure` returns, and that `report.json` holds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.files import atomic_write, atomic_write_json
from nomoat.base.manifests import MANIFEST_NAME, write_manifest
from nomoat.measure.pareto import Candidate, front
from nomoat.measure.pictures import TEMPLATES, Point, scatter, standalone
from nomoat.measure.report_pictures import disk_axis, quality_axis, report_pictures, speed_axis
from nomoat.measure.report_words import Words, pareto_rows
from nomoat.measure.results import HIGHER_IS_BETTER

__all__ = ["KIND", "PARETO_KIND", "check_out", "read_report", "read_reports", "write_pareto", "write_report"]

KIND, PARETO_KIND = "measurement", "pareto"
_WIDE, _NARROW = 700.0, 330.0
_HINT = "name a folder that `nomoat measure NAME --out FOLDER` wrote, or the report.json in it"
_Draw = Callable[[str, float], str]


def check_out(out: Path, kind: str = KIND) -> None:
    """Refuse, before any work, a folder that holds something else. Raises `InputError`."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file", "name a new folder")
    manifest = out / MANIFEST_NAME
    if out.is_dir() and any(out.iterdir()) and _kind(manifest) != kind:
        raise InputError(
            f"{out}: holds other files", "name a new folder, or one with an earlier result of this command"
        )


def write_report(report: Mapping[str, Any], out: Path) -> tuple[str, ...]:
    """Write all files into `out`, each in one step; an earlier report there is replaced. Returns their names."""
    pictures = report_pictures(report)
    page = _page("report.html.j2", report=report, words=Words(report), pictures=_both(pictures))
    parents = {"model": report["model"]["digest"]}
    parents |= {f"adapter-{n}": part["digest"] for n, part in enumerate(report["adapters"], 1)}
    if report["versus"]:
        parents["versus"] = report["versus"]["model"]["digest"]
    details = {"name": report["name"], "versus": report["versus"]["name"] if report["versus"] else None}
    return _write(out, KIND, "report", dict(report), page, pictures, parents, details)


def write_pareto(
    candidates: Sequence[Candidate], quality: tuple[str, str], digests: Mapping[str, str], out: Path | None
) -> dict[str, Any]:
    """Compare candidates in quality against disk and speed; write the folder `out`, if given. Returns the content."""
    up = HIGHER_IS_BETTER[quality[1]]
    disk = front([(part.disk_bytes, part.quality) for part in candidates], False, up)
    timed = [
        (part.tokens_per_second, part.quality) for part in candidates if part.tokens_per_second is not None
    ]
    fast = iter(front(timed, True, up))
    quick = [part.tokens_per_second is not None and next(fast) for part in candidates]
    content = {
        "task": quality[0], "metric": quality[1], "higher_is_better": up,
        "models": [
            {"name": part.name, "quality": part.quality, "interval": part.interval, "disk_bytes": part.disk_bytes,
             "tokens_per_second": part.tokens_per_second, "on_disk_front": small, "on_speed_front": fast_enough}
            for part, small, fast_enough in zip(candidates, disk, quick, strict=True)
        ],
    }  # fmt: skip
    if out is not None:
        pictures = _pareto_pictures(content)
        page = _page("pareto.html.j2", content=content, rows=pareto_rows(content), pictures=_both(pictures))
        _write(
            out, PARETO_KIND, "pareto", content, page, pictures, dict(digests), {"models": len(candidates)}
        )
    return content


def read_report(path: Path) -> dict[str, Any]:
    """The report of a folder or of its report.json. Raises `NotFoundError`, `BadFileError`."""
    file = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{file}: no such file", _HINT) from error
    except ValueError as error:
        raise BadFileError(file, "", f"is no JSON ({error})", _HINT) from error
    needed = {"schema", "name", "model", "adapters", "machine", "memory", "speed", "tasks", "versus"}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise BadFileError(file, "", "is no report of `nomoat measure`", _HINT)
    return content


def read_reports(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The reports at `paths`. Those of one name have their folder's behind it, so that tables tell them apart."""
    reports = [read_report(path) for path in paths]
    folders = [(path if path.is_dir() else path.parent).resolve() for path in paths]
    models, shorts = (
        Counter(report["name"] for report in reports),
        Counter(path.name for path in set(folders)),
    )
    for report, folder in zip(reports, folders, strict=True):
        if models[report["name"]] > 1:
            report["name"] += f" ({folder.name if shorts[folder.name] == 1 else folder})"
    return reports


def _write(
    out: Path, kind: str, name: str, content: dict[str, Any], page: str, pictures: Mapping[str, _Draw],
    parents: dict[str, str], details: dict[str, Any],
) -> tuple[str, ...]:  # fmt: skip
    (out / MANIFEST_NAME).unlink(missing_ok=True)  # from here on the folder is unfinished
    for old in out.glob("*.svg"):
        old.unlink()
    atomic_write_json(out / f"{name}.json", content)
    # A model's path need not be UTF-8.
    atomic_write(out / f"{name}.html", page.encode("utf-8", "replace"))
    for picture, draw in pictures.items():
        atomic_write(out / f"{picture}.svg", standalone(draw(picture, _WIDE)).encode("utf-8", "replace"))
    names = (f"{name}.json", f"{name}.html", *(f"{picture}.svg" for picture in pictures))
    write_manifest(out, kind, list(names), parents, details)
    return names


def _page(template: str, **content: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(**content)


def _both(pictures: Mapping[str, _Draw]) -> dict[str, list[Any]]:
    from markupsafe import Markup

    # Built by an XML writer, so safe to insert as it is.
    return {
        name: [
            Markup(draw(f"{name}-{kind}", width)) for kind, width in (("wide", _WIDE), ("narrow", _NARROW))
        ]
        for name, draw in pictures.items()
    }


def _pareto_pictures(content: Mapping[str, Any]) -> dict[str, _Draw]:
    models, quality = content["models"], quality_axis(content["task"], content["metric"])
    pictures = {"quality-disk": _scatter(models, "disk_bytes", "on_disk_front", disk_axis(), quality)}
    timed = [model for model in models if model["tokens_per_second"] is not None]
    if timed:
        pictures["quality-speed"] = _scatter(
            timed, "tokens_per_second", "on_speed_front", speed_axis(), quality
        )
    return pictures


def _scatter(models: Sequence[Mapping[str, Any]], x: str, best: str, x_axis: Any, y_axis: Any) -> _Draw:
    points = [Point(m["name"], m[x], m["quality"], tuple(m["interval"]) if m["interval"] else None, m[best])
              for m in models]  # fmt: skip
    return lambda name, width: scatter(
        points, x_axis, y_axis, f"{y_axis.label} against {x_axis.label}", name, width
    )


def _kind(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
