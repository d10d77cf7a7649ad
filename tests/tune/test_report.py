"""The report of a run: what it says in each case, that it is safe to open and to share, and that it is readable."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from finished_run import finished_run, questions
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from nomoat.base.errors import BadFileError
from nomoat.cli.tune_report import print_report
from nomoat.tune.config import TuneConfig
from nomoat.tune.figures import bytes_text, duration, signed_bits
from nomoat.tune.report import run_command, write_report
from nomoat.tune.report_facts import gather_facts, read_curve
from nomoat.tune.report_svg import Scale, ticks
from nomoat.tune.report_text import tell

HOSTILE = '"><script>alert(1)</script><img src=https://example.org/x onerror=alert(2)> & \u202e {{ 7 * 7 }}'
EXACT = {
    "before": {"exact": 0.0, "low": 0.0, "high": 0.025, "n": 150},
    "after": {"exact": 0.76, "low": 0.685, "high": 0.82, "n": 150},
}
GENERAL = {
    "before": {"bits_per_byte": 1.21, "bits_per_byte_interval": [1.1, 1.32], "documents": 40},
    "after": {"bits_per_byte": 1.25, "bits_per_byte_interval": [1.14, 1.36], "documents": 40},
    "change_bits_per_byte": {"value": 0.04, "interval": [0.02, 0.06]},
}


class _Page(HTMLParser):
    """What a browser would find: tags with attributes, ids, and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _written(folder: Path, extras: dict[str, Any] | None = None, **choices: Any) -> str:
    write_report(finished_run(folder, **choices), extras)
    return (folder / "report.html").read_text(encoding="utf-8")


# -- what is written -----------------------------------------------------------------------------


def test_three_files_are_written_and_named(tmp_path: Path) -> None:
    names = write_report(finished_run(tmp_path), {"exact": EXACT, "samples": questions()})
    assert set(names) == {"report.json", "report.html", "README.md"}
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)
    assert not list(tmp_path.glob(".*"))  # nothing half-written stays


def test_report_json_holds_the_fields_of_tune_and_what_the_pictures_show(tmp_path: Path) -> None:
    result = finished_run(tmp_path)
    write_report(result, {"exact": EXACT})
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert result.as_json().items() <= content.items()
    assert len(content["curve"]["loss"]) == 160
    assert len(content["documents"]["bits_per_byte_after"]) == 150
    assert content["exact"]["after"]["estimate"] == 0.76
    assert content["dataset"]["train"]["chats"] == 600


def test_numbers_that_do_not_exist_are_null_in_json(tmp_path: Path) -> None:
    result = finished_run(tmp_path)
    loss = replace(result.before.loss, estimate=math.nan)
    write_report(replace(result, before=replace(result.before, loss=loss)))
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert content["before"]["loss"] is None


# -- the page ------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = _written(tmp_path, {"exact": EXACT, "general": GENERAL, "samples": questions()})
    loading = {"src", "href", "srcset", "action", "data", "poster", "background", "ping", "xlink:href"}
    page = _Page(html)
    assert not [tag for tag, attributes in page.tags if loading & set(attributes)]
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "img",
    }
    assert "url(" not in html
    assert "@import" not in html
    assert "://" not in html


def test_text_of_the_owner_and_of_the_model_is_never_markup(tmp_path: Path) -> None:
    hostile = {**questions(1)[0], "question": HOSTILE, "value": HOSTILE, "before": HOSTILE, "after": HOSTILE}
    html = _written(
        tmp_path, {"samples": [hostile]}, source=HOSTILE.replace("/", "_"), base={"name": HOSTILE}
    )
    page = _Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not [1 for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("alert(2)") >= 4
    assert "{{ 7 * 7 }}" in page.text  # and no template either


@pytest.mark.parametrize(
    "choices", [{}, {"gain": -0.5}, {"documents": 3, "steps": 1}, {"documents": 400}], ids=str
)
def test_every_picture_is_sound_and_speaks(tmp_path: Path, choices: dict[str, Any]) -> None:
    html = _written(tmp_path, {"exact": EXACT, "general": GENERAL}, **choices)
    pictures = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    assert len(pictures) == 2 * 5  # for a wide page and for a phone
    for picture in pictures:
        assert picture.get("role") == "img"
        named = {element.get("id"): element.text for element in picture if element.get("id")}
        assert all(named[name] for name in (picture.get("aria-labelledby") or "").split())
        numbers = [value for element in picture.iter() for value in element.attrib.values()]
        assert not [value for value in numbers if re.search(r"\bnan\b|\binf\b", value)]


def test_ids_are_unique_and_headings_descend_step_by_step(tmp_path: Path) -> None:
    page = _Page(_written(tmp_path, {"exact": EXACT, "general": GENERAL, "samples": questions()}))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en"}) in page.tags


def test_sections_appear_only_where_something_was_measured(tmp_path: Path) -> None:
    bare = _Page(
        _written(tmp_path / "bare", {"exact": {"before": {"exact": None}, "after": {"exact": None}}})
    ).text
    full = _Page(
        _written(tmp_path / "full", {"exact": EXACT, "general": GENERAL, "samples": questions()})
    ).text
    for heading in ("Does it answer?", "In its own words", "What did it forget?"):
        assert heading not in bare
        assert heading in full
    assert "was not measured" in bare
    assert "was not measured" not in full


def test_a_source_whose_name_is_not_utf8_is_reported_all_the_same(tmp_path: Path) -> None:
    assert "learned from" in _written(
        tmp_path, source=b"/home/m/notas-a\xf1o".decode("utf-8", "surrogateescape")
    )


def test_many_samples_fold_away_and_none_is_lost(tmp_path: Path) -> None:
    html = _written(tmp_path, {"samples": questions(40)})
    shown, folded = html.split("<details>")
    assert shown.count('class="sample"') == 6
    assert folded.count('class="sample"') == 34
    assert "The other 34 questions" in folded


def test_a_single_held_out_document_gives_a_page_without_intervals(tmp_path: Path) -> None:
    text = _Page(_written(tmp_path, documents=1)).text
    assert "Too little held-out text to tell" in text
    assert "Whiskers" not in text
    assert "1 chats" not in text


def test_a_run_without_a_step_gives_a_page_without_a_curve(tmp_path: Path) -> None:
    assert "How the training went" not in _Page(_written(tmp_path, steps=0)).text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_enough_contrast(theme: str) -> None:
    css = (Path(__file__).parents[2] / "src/nomoat/tune/report_templates/report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme == "dark"]))
    for text in ("ink", "soft", "after", "worse", "before-ink"):
        assert _contrast(colours[text], colours["paper"]) >= 4.5, text
    for text, ground in [
        ("soft", "tint"),
        ("soft", "warm"),
        ("soft", "quiet"),
        ("after", "tint"),
        ("worse", "warm"),
    ]:
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark in ("before", "after", "worse"):
        assert _contrast(colours[mark], colours["paper"]) >= 3, mark


def _contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two `#rrggbb`."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [500, 1100])
def test_a_browser_shows_the_page_without_sideways_scrolling(tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    long_word = {**questions(1)[0], "after": "x" * 300}
    html = _written(
        tmp_path / "a-folder-with-a-rather-long-name-that-does-not-break",
        {"exact": EXACT, "samples": [long_word]},
    )
    probe = (
        "<script>const drawn = [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width);"
        "document.title = [document.documentElement.scrollWidth, innerWidth, drawn.length]</script>"
    )
    (tmp_path / "probed.html").write_text(html.replace("</body>", probe + "</body>"), encoding="utf-8")
    argv = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom",
        (tmp_path / "probed.html").as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=True).stdout
    found = re.search(r"<title>(\d+),(\d+),(\d+)</title>", dom)
    assert found, dom[:300]
    needed, given_width, pictures = map(int, found.groups())
    assert needed <= given_width
    assert pictures == 4  # of each pair the one for this width


# -- the verdict ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "verdict", "tone", "said"),
    [
        ({"gain": 2.2}, "better", "better", "bits per byte instead of 2.99 (74 % fewer). Chance hardly explains it"),
        ({"gain": -0.5}, "not better", "worse", "% more). Chance hardly explains it"),
        ({"gain": 0.0}, "not better", "open", "which may be chance"),
        ({"gain": 2.2, "documents": 1}, "too little text to tell", "open", "on a single held-out chat"),
        ({"gain": 2.2, "documents": 4}, "too little text to tell", "open", "measured on only 4 held-out chats"),
        ({"gain": 2.2, "documents": 7}, "better", "better", "It may still be chance, with only 7 chats held out"),
    ],
    ids=["better", "worse", "no clear change", "one document", "too few documents", "few documents"],
)  # fmt: skip
def test_the_verdict_is_told_in_plain_words(
    tmp_path: Path, choices: dict[str, Any], verdict: str, tone: str, said: str
) -> None:
    result = finished_run(tmp_path, **choices)
    told = tell(gather_facts(result))
    assert result.verdict == verdict
    assert told.tone == tone
    assert said in told.sentence.replace("\u00a0", " ")
    assert bool(told.advice) == (tone != "better")
    assert "held out and never trained on" in told.limits[0]


def test_figures_are_written_with_units_for_people() -> None:
    assert duration(48.4) == "48\u00a0s"
    assert duration(192) == "3\u00a0min 12\u00a0s"
    assert duration(7500) == "2\u00a0h 05\u00a0min"
    assert bytes_text(9_800_000) == "9.8\u00a0MB"
    assert bytes_text(1_362_000_000) == "1.36\u00a0GB"
    assert signed_bits(-0.25) == "\u22120.25"
    assert signed_bits(-0.00001) == "0.000"


# -- the curve -----------------------------------------------------------------------------------


def test_a_long_curve_is_thinned_but_keeps_its_end(tmp_path: Path) -> None:
    finished_run(tmp_path, steps=3000)
    curve = read_curve(tmp_path / "metrics.jsonl", most_points=100)
    assert len(curve.loss) == 100
    assert curve.steps[-1] == 3000
    assert np.all(np.diff(curve.tokens) > 0)
    assert abs(curve.smoothed[-1] - 0.6) < 0.1


def test_a_damaged_line_of_metrics_is_named(tmp_path: Path) -> None:
    finished_run(tmp_path, steps=3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4}\n')
    with pytest.raises(BadFileError, match=r"metrics.jsonl: line 4: is no step"):
        read_curve(path)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
@example(879609.9999999999, 1e-06, 6)  # at the end of what a float can tell
def test_ticks_are_few_and_inside(low: float, span: float, most: int) -> None:
    values = ticks(low, low + span, most)
    assert len(values) <= most
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in values)


def test_ticks_are_round() -> None:
    assert ticks(0, 3.2) == [0, 1, 2, 3]
    assert ticks(0, 1, 6) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_a_scale_draws_what_is_outside_at_its_edge() -> None:
    scale = Scale(0, 10, 100, 200)
    assert [scale(value) for value in (-5, 0, 5, 10, 50)] == [100, 100, 150, 200, 200]


# -- at the terminal -----------------------------------------------------------------------------


def _printed(folder: Path, extras: dict[str, Any] | None = None, **choices: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_report(finished_run(folder, **choices), extras, console)
    return console.file.getvalue().replace("\u00a0", " ")  # type: ignore[attr-defined]


def test_the_terminal_shows_verdict_figures_and_the_next_command(tmp_path: Path) -> None:
    told = _printed(tmp_path, {"exact": EXACT})
    assert "Better: 0.77 bits per byte instead of 2.99" in told
    assert re.search(r"right answers of 150 +0 % \(0 % to 2 %\) +76 % \(68 % to 82 %\)", told)
    assert "265 tokens/s in bf16" in told
    assert "at most 1.36 GB of memory" in told
    assert f"nomoat run smollm2 --adapter {tmp_path}" in told.splitlines()[-1]


def test_a_long_path_stays_on_one_line_and_is_no_markup(tmp_path: Path) -> None:
    folder = tmp_path / ("[red]" + "very-long-" * 12)
    assert run_command(finished_run(folder)) in _printed(folder).splitlines()[-1]


def test_the_terminal_report_goes_to_standard_error_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(finished_run(tmp_path))
    shown = capsys.readouterr()
    assert not shown.out
    assert "Better" in shown.err


def test_options_of_the_run_are_told_so_that_it_can_be_repeated(tmp_path: Path) -> None:
    result = finished_run(tmp_path)
    result = replace(result, request=replace(result.request, config=TuneConfig(r=8, lora_alpha=24.0, seed=7)))
    write_report(result)
    text = _Page((tmp_path / "report.html").read_text()).text
    assert "r\u00a08, alpha\u00a024" in text
    assert "seed 7" in text
