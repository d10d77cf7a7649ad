"""The folder of a report: complete, self-contained, and never mixed with other files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_reports import report, task_json

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.manifests import read_manifest
from nomoat.measure.measuring import compared
from nomoat.measure.report import KIND, check_out, read_report, read_reports, write_report
from nomoat.measure.report_words import quality_rows


@pytest.fixture
def both() -> dict[str, object]:
    tasks = [
        [task_json("knowledge", "acc", [0.0, 1.0, 1.0]), task_json("passages", "bits_per_byte", [1.5, 1.0])],
        [task_json("knowledge", "acc", [1.0, 1.0, 1.0]), task_json("passages", "bits_per_byte", [1.4, 0.9])],
    ]
    return compared(report("base", tasks[0]), report("<i>tuned</i>", tasks[1]))


def test_the_folder_is_what_its_manifest_says(both: dict[str, object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = write_report(both, out)
    manifest = read_manifest(out, KIND, verify=True)
    assert set(manifest.files) == set(names) == {
        "report.json", "report.html", "shares.svg", "bits.svg", "speed.svg",
    }  # fmt: skip
    assert manifest.parents == {"model": "sha256:<i>tuned</i>", "versus": "sha256:base"}
    assert read_report(out) == read_report(out / "report.json") == json.loads(json.dumps(both))


def test_the_page_loads_nothing_and_trusts_no_text(both: dict[str, object], tmp_path: Path) -> None:
    write_report(both, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:|//)""", page)
    assert "<script" not in page
    assert "<b>Q0" not in page and "&lt;b&gt;Q0" in page
    assert "<i>tuned" not in page


def test_pictures_are_files_of_their_own(both: dict[str, object], tmp_path: Path) -> None:
    write_report(both, tmp_path / "out")
    for name in ("shares", "bits", "speed"):
        root = ElementTree.parse(tmp_path / "out" / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "--after" in (root.findtext("{http://www.w3.org/2000/svg}style") or "")


def test_an_earlier_report_is_replaced_and_other_files_are_not(
    both: dict[str, object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_report(both, out)
    check_out(out)
    write_report(report("alone", [], speed=None), out)
    assert not (out / "speed.svg").exists()
    assert read_manifest(out, KIND, verify=True).details["name"] == "alone"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        check_out(tmp_path / "notes")
    with pytest.raises(InputError, match="is a file"):
        check_out(tmp_path / "notes" / "a.txt")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_report(tmp_path)
    for content in ("{", "[]", '{"loss": 1}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(BadFileError):
            read_report(tmp_path)


def test_reports_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    task = [task_json("knowledge", "acc", [0.0, 1.0])]
    places = [tmp_path / place for place in ("monday", "friday", "other", "week/friday")]
    for place, name in zip(places, ("same", "same", "another", "same"), strict=True):
        write_report(report(name, task), place)
    assert [each["name"] for each in read_reports(places[:3])] == [
        "same (monday)",
        "same (friday)",
        "another",
    ]
    names = [each["name"] for each in read_reports([places[0] / "report.json", places[1], places[3]])]
    assert names == ["same (monday)", f"same ({places[1]})", f"same ({places[3]})"]


@pytest.mark.parametrize(("count", "told"), [
    (1, "1 document"), (2, "2 documents: few, so the interval is too narrow"), (10, "10 documents"),
])  # fmt: skip
def test_an_interval_over_few_documents_says_so(count: int, told: str) -> None:
    rows = quality_rows(
        report("m", [task_json("text", "bits_per_byte", [1.0 + n / 10 for n in range(count)])])
    )
    assert [row[-1] for row in rows] == [told]
