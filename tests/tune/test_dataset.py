"""`prepare`: from a folder to a dataset folder, whole or not at all, with nothing leaking across the split."""

from __future__ import annotations

import json
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomoat.base.errors import BadFileError, DiskFullError, InputError, NotFoundError
from nomoat.base.manifests import read_manifest
from nomoat.tune.dataset import prepare, read_rows
from nomoat.tune.rows import Row, row_from_json, row_to_json


def _notes(folder: Path, count: int, words: int = 60) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        text = "\n\n".join(
            f"Note {number}, thought {thought}. " + "word " * 10 for thought in range(words // 12)
        )
        (folder / f"note{number:02}.md").write_text(text)
    return folder


def _jsonl(path: Path, *records: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _pairs(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(count)]


def _parts(out: Path) -> tuple[list[Row], list[Row]]:
    return list(read_rows(out, "train")), list(read_rows(out, "valid"))


def test_a_folder_of_notes_becomes_a_finished_dataset(tmp_path: Path) -> None:
    summary = prepare(_notes(tmp_path / "notes", 20), tmp_path / "dataset")
    train, valid = _parts(tmp_path / "dataset")
    assert (len(train), len(valid)) == (18, 2) == (summary.train.rows, summary.valid.rows)
    manifest = read_manifest(tmp_path / "dataset", "dataset", verify=True)
    assert manifest.details["train"]["documents"] == 18
    assert [entry["name"] for entry in manifest.details["files"]][:2] == ["note00.md", "note01.md"]
    assert manifest.details["files"][0]["sha256"].startswith("sha256:")
    assert set(manifest.files) == {"train.jsonl", "valid.jsonl"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "notes"]


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    notes = _notes(tmp_path / "notes", 12)
    for name in ("one", "two"):
        prepare(notes, tmp_path / name)
    for part in ("train.jsonl", "valid.jsonl"):
        assert (tmp_path / "one" / part).read_bytes() == (tmp_path / "two" / part).read_bytes()


def test_duplicates_go_whatever_their_case_and_spacing(tmp_path: Path) -> None:
    notes = _notes(tmp_path / "notes", 15)
    (notes / "copy.md").write_text((notes / "note00.md").read_text().upper().replace(" ", "  "))
    summary = prepare(notes, tmp_path / "dataset")
    assert summary.duplicates_removed == 1
    assert "removed 1 exact duplicates" in summary.sentences()


def test_a_few_documents_are_cut_into_sections_and_that_is_told(tmp_path: Path) -> None:
    summary = prepare(_notes(tmp_path / "notes", 2, words=600), tmp_path / "dataset")
    train, valid = _parts(tmp_path / "dataset")
    assert summary.documents_cut_into_sections == 2
    assert any("sections" in sentence for sentence in summary.sentences())
    assert {row.group for row in train}.isdisjoint(row.group for row in valid)
    assert 0.03 < summary.valid.characters / (summary.train.characters + summary.valid.characters) < 0.3


def test_one_document_of_one_paragraph_is_cut_at_its_sentences(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("First thing. Second thing. Third thing.")
    summary = prepare(tmp_path / "note.md", tmp_path / "dataset")
    assert (summary.train.rows, summary.valid.rows) == (2, 1)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("note.md", "one sentence and no more", "only one sentence"),
        ("chat.jsonl", '{"prompt": "a", "completion": "b"}', "only one chat"),
        (
            "chat.jsonl",
            '{"prompt": "a", "completion": "b"}\n{"prompt": "A", "completion": "c"}',
            "ask the same",
        ),
    ],
)
def test_too_little_to_hold_out_is_an_error_with_a_remedy(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        prepare(tmp_path / name, tmp_path / "dataset")
    assert "held_out.jsonl" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_chats_that_ask_the_same_stay_on_one_side(tmp_path: Path) -> None:
    records = [
        pair | {"completion": f"{pair['completion']} {way}"} for pair in _pairs(30) for way in ("a", "b")
    ]
    prepare(_jsonl(tmp_path / "chats.jsonl", *records), tmp_path / "dataset", valid_share=0.3)
    train, valid = _parts(tmp_path / "dataset")
    assert (len(train), len(valid)) == (42, 18)
    assert {row.group for row in train}.isdisjoint(row.group for row in valid)


@pytest.mark.parametrize("name", ["held_out.jsonl", "valid.jsonl", "my.valid.jsonl", "validation.jsonl"])
def test_the_owners_held_out_file_is_the_held_out_set(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    _jsonl(source / "zz.jsonl", *_pairs(10))
    _jsonl(source / name, *_pairs(11)[9:])
    summary = prepare(source, tmp_path / "dataset")
    train, valid = _parts(tmp_path / "dataset")
    assert [row.source for row in valid] == [name] * 2
    assert len(train) == 9, "a row that is also held out is not trained on"
    assert summary.held_out_files == (name,) and summary.held_out_removed_from_train == 1


def test_held_out_rows_alone_are_an_error(tmp_path: Path) -> None:
    _jsonl(tmp_path / "source" / "held_out.jsonl", *_pairs(3))
    with pytest.raises(InputError, match="every row is held out"):
        prepare(tmp_path / "source", tmp_path / "dataset")


def test_a_dataset_can_be_prepared_again_from_itself(tmp_path: Path) -> None:
    prepare(_jsonl(tmp_path / "chats.jsonl", *_pairs(20)), tmp_path / "one")
    prepare(tmp_path / "one", tmp_path / "two")
    first, second = _parts(tmp_path / "one"), _parts(tmp_path / "two")
    for before, after in zip(first, second, strict=True):
        assert [row.messages for row in before] == [row.messages for row in after]


def test_a_failure_leaves_the_former_dataset_as_it_was(tmp_path: Path) -> None:
    notes, out = _notes(tmp_path / "notes", 12), tmp_path / "dataset"
    prepare(notes, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (notes / "bad.md").write_bytes(b"\x00")
    with pytest.raises(BadFileError):
        prepare(notes, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "notes"]
    assert prepare(notes, out, skip_bad=True).train.rows == 11


def test_a_full_disk_is_said_and_leaves_the_former_dataset(tmp_path: Path) -> None:
    notes, out = _notes(tmp_path / "notes", 12), tmp_path / "dataset"
    prepare(notes, out)
    (notes / "long.md").write_text("A long sentence. " * 20_000)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, former[1]))  # writing more fails like a full disk
    try:
        with pytest.raises(DiskFullError, match="dataset"):
            prepare(notes, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "notes"]
    assert len(list(read_rows(out, "train"))) == 11


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    with path.open("w") as file:
        for number in range(100):
            pair = {"prompt": f"Question {number}?", "completion": f"{number} " + "word " * 10_000}
            file.write(json.dumps(pair) + "\n")
    tracemalloc.start()
    try:
        prepare(path, tmp_path / "dataset")
        assert tracemalloc.get_traced_memory()[1] < 0.2 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_a_foreign_folder_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.odt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.odt"):
        prepare(_notes(tmp_path / "notes", 12), out)
    assert (out / "thesis.odt").read_text() == "years of work"


def test_the_output_inside_the_source_is_not_learned_from(tmp_path: Path) -> None:
    notes = _notes(tmp_path / "notes", 12)
    (notes / "run").mkdir()
    (notes / "run" / "metrics.jsonl").write_text('{"loss": 1}\n')
    for _ in range(2):
        summary = prepare(notes, notes / "run" / "dataset", exclude=[notes / "run"])
        assert (summary.train.rows, summary.valid.rows) == (11, 1)


def test_an_unfinished_or_damaged_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        list(read_rows(tmp_path, "train"))
    prepare(_notes(tmp_path / "notes", 12), tmp_path / "dataset")
    (tmp_path / "dataset" / "train.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(BadFileError, match="line 1"):
        list(read_rows(tmp_path / "dataset", "train"))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(InputError, match="not between 0 and 1"):
        prepare(tmp_path, tmp_path / "dataset", valid_share=share)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(st.integers(0, 12), min_size=1, max_size=40), share=st.sampled_from([0.1, 0.5, 0.9])
)
def test_any_chats_split_by_document_without_loss(tmp_path: Path, questions: list[int], share: float) -> None:
    records = [{"prompt": f"q{q}", "completion": f"a{n % 7}"} for n, q in enumerate(questions)]
    source = _jsonl(tmp_path / "chats.jsonl", *records)
    if len(set(questions)) < 2:
        with pytest.raises(InputError):
            prepare(source, tmp_path / "dataset", valid_share=share)
        return
    summary = prepare(source, tmp_path / "dataset", valid_share=share)
    train, valid = _parts(tmp_path / "dataset")
    assert train and valid
    assert {row.group for row in train}.isdisjoint(row.group for row in valid)
    assert len(train) + len(valid) == len({(r["prompt"], r["completion"]) for r in records})
    assert summary.duplicates_removed == len(records) - len(train) - len(valid)


def test_rows_come_back_from_their_lines(tmp_path: Path) -> None:
    prepare(_jsonl(tmp_path / "chats.jsonl", *_pairs(5)), tmp_path / "dataset")
    for row in read_rows(tmp_path / "dataset", "train"):
        assert row_from_json(json.loads(json.dumps(row_to_json(row)))) == row
