"""Which models are worth having."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import report, task_json

from nomoat.base.errors import InputError
from nomoat.base.manifests import read_manifest
from nomoat.measure.pareto import choose_quality, front, gather
from nomoat.measure.report import PARETO_KIND, write_pareto


def test_a_point_that_another_one_beats_is_not_on_the_front() -> None:
    # GB (less is better), accuracy (more is better)
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (3.0, 0.7), (4.0, 0.9)]
    assert front(points, x_higher=False, y_higher=True) == [True, True, False, False, True]


def test_equal_points_do_not_drive_each_other_out() -> None:
    assert front([(1.0, 1.0), (1.0, 1.0)], False, False) == [True, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_every_point_off_the_front_is_dominated_by_one_on_it(points: list[tuple[int, int]]) -> None:
    best = front(points, x_higher=True, y_higher=True)
    assert any(best)
    kept = [point for point, on in zip(points, best, strict=True) if on]
    for point, on in zip(points, best, strict=True):
        assert on or any(x >= point[0] and y >= point[1] and (x, y) != point for x, y in kept)


def test_reports_become_a_table_and_pictures(tmp_path: Path) -> None:
    tasks = [task_json("passages", "bits_per_byte", [bits, bits + 0.1]) for bits in (1.2, 1.0, 1.3)]
    reports = [
        report(name, [task], disk, speed)
        for name, task, disk, speed in zip(
            ("small", "large", "<bad & bold>"), tasks, (100, 300, 350), (90.0, 40.0, None), strict=True
        )
    ]
    quality = choose_quality(reports, None)
    assert quality == ("passages", "bits_per_byte")
    content = write_pareto(gather(reports, *quality), quality, {"model-1": "sha256:small"}, tmp_path / "out")
    assert [model["on_disk_front"] for model in content["models"]] == [True, True, False]
    assert [model["on_speed_front"] for model in content["models"]] == [True, True, False]
    manifest = read_manifest(tmp_path / "out", PARETO_KIND, verify=True)
    assert set(manifest.files) == {"pareto.json", "pareto.html", "quality-disk.svg", "quality-speed.svg"}
    page = (tmp_path / "out" / "pareto.html").read_text()
    assert "<bad" not in page and "&lt;bad &amp; bold&gt;" in page


def test_a_metric_that_is_not_everywhere_is_refused() -> None:
    one = report("a", [task_json("knowledge", "acc", [1.0])])
    other = report("b", [task_json("text", "bits_per_byte", [1.0])])
    with pytest.raises(InputError, match="in common"):
        choose_quality([one, other], None)
    with pytest.raises(InputError, match=r"knowledge\.acc"):
        choose_quality([one, other], "knowledge.acc")
    assert choose_quality([one], "knowledge.acc") == ("knowledge", "acc")
