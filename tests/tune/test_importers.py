"""Importers on real small files: what becomes a document, what is told, what is an error with a remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.tune.importers.document import Document, ImportTally
from nomoat.tune.importers.json_values import json_values
from nomoat.tune.importers.markdown import reader_text
from nomoat.tune.importers.walk import import_path


def _write(folder: Path, **files: str | bytes) -> Path:
    """Files by name, `__` standing for a dot and `___` for a slash."""
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def _import(path: Path, **options: Any) -> tuple[list[Document], ImportTally]:
    tally = ImportTally(**options)
    return list(import_path(path, tally=tally)), tally


def _chat(path: Path, *records: Any) -> list[list[tuple[str, str]]]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    documents, _ = _import(path)
    return [[(m.role, m.content) for m in document.messages or ()] for document in documents]


# -- folders -------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    _write(tmp_path, b__md="# B", a__txt="A", sub___c__rst="C\n=", Z__MD="z")
    documents, tally = _import(tmp_path)
    assert [document.source for document in documents] == ["Z.MD", "a.txt", "b.md", "sub/c.rst"]
    assert tally.documents == {"markdown": 2, "plain": 2}


def test_hidden_and_installed_folders_are_left_out(tmp_path: Path) -> None:
    _write(tmp_path, note__md="kept")
    for folder in (".git", ".obsidian", "node_modules", "__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.md").write_text("not kept")
    (tmp_path / ".hidden.md").write_text("not kept")
    assert [document.text for document in _import(tmp_path)[0]] == ["kept"]


def test_what_nomoat_made_is_not_read_as_a_note(tmp_path: Path) -> None:
    _write(tmp_path, note__md="kept", adapter___card__md="a card")
    manifest = {"kind": "adapter", "schema": 1, "files": {}, "parents": {}}
    (tmp_path / "adapter" / "manifest.json").write_text(json.dumps(manifest))
    assert [document.text for document in _import(tmp_path)[0]] == ["kept"]


def test_links_make_no_loop_and_are_told(tmp_path: Path) -> None:
    _write(tmp_path, sub___note__md="kept")
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "same.md").symlink_to(tmp_path / "sub" / "note.md")
    documents, tally = _import(tmp_path)
    assert [document.source for document in documents] == ["same.md", "sub/note.md"]
    assert tally.linked_folders == ["sub/up"]
    assert any("not followed" in sentence for sentence in tally.sentences())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    _write(tmp_path, note__md="kept")
    os.mkfifo(tmp_path / "pipe.md")
    assert len(_import(tmp_path)[0]) == 1


def test_empty_files_are_counted_not_learned(tmp_path: Path) -> None:
    _write(tmp_path, note__md="kept", empty__md="", space__txt=" \n\n", front__md="---\ntags: [a]\n---\n")
    documents, tally = _import(tmp_path)
    assert len(documents) == 1
    assert sorted(tally.empty_files) == ["empty.md", "front.md", "space.txt"]


def test_a_folder_without_text_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    _write(tmp_path, a__png=b"\x89PNG", b__png=b"\x89PNG", c__pdf=b"%PDF")
    with pytest.raises(InputError, match=r"\.md.*2 \.png, 1 \.pdf") as caught:
        _import(tmp_path)
    assert caught.value.hint


def test_a_path_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        _import(tmp_path / "nothing")


def test_file_names_that_are_not_unicode_are_spelled_out(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")).write_text("kept")
    documents, _ = _import(tmp_path)
    assert documents[0].source == "caf\\xe9.md"


# -- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_understood(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "note.md").write_bytes("Grüße\r\naus 日本".encode(encoding))
    assert _import(tmp_path)[0][0].text == "Grüße\naus 日本"


def test_latin_1_text_is_read_and_told(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("Grüße, “quoted”".encode("cp1252"))
    documents, tally = _import(tmp_path)
    assert documents[0].text == "Grüße, “quoted”"
    assert tally.legacy_encoded == ["old.txt"]
    assert any("Windows-1252" in sentence for sentence in tally.sentences())


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("photo.md", b"# Photo\n\x00\x01", "byte 8"),
        ("photo.md", b"# Photo\n\xff\xd8\xff", "byte 8, line 2"),
        ("packed.txt", b"\x1f\x8b\x08\x03\xe9\x01", "byte 1"),
    ],
)
def test_a_binary_file_stops_the_import_with_its_place(
    tmp_path: Path, name: str, content: bytes, place: str
) -> None:
    _write(tmp_path, good__md="good")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadFileError, match=f"{name}: {place}") as caught:
        _import(tmp_path)
    assert "--skip-bad" in caught.value.hint
    documents, tally = _import(tmp_path, skip_bad=True)
    assert [document.text for document in documents] == ["good"]
    assert tally.n_bad == 1 and name in tally.bad[0]


def test_a_bad_file_named_by_the_owner_is_an_error_even_if_bad_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "photo.md").write_bytes(b"\x00\x01")
    with pytest.raises(BadFileError):
        _import(tmp_path / "photo.md", skip_bad=True)


def test_a_named_file_of_any_suffix_is_read_as_text(tmp_path: Path) -> None:
    _write(tmp_path, README="read me", doc__pdf=b"%PDF\n\xff\xfe\x00")
    assert _import(tmp_path / "README")[0][0].text == "read me"
    with pytest.raises(BadFileError) as caught:
        _import(tmp_path / "doc.pdf")
    assert ".md" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path, locked__md="text").joinpath("locked.md").chmod(0)
    with pytest.raises(BadFileError, match=r"locked\.md: cannot be read"):
        _import(tmp_path)


# -- Markdown ------------------------------------------------------------------------------------


def test_obsidian_notes_read_as_their_reader_sees_them() -> None:
    note = (
        "---\ntitle: 'My day'\ntags:\n  - diary\n---\nMet [[People/Clara|Clara]] at [[Ferry Lane]].\n"
        "![[photo.png]]\n<!-- hidden -->\n%% a remark %%\n\n\n\nCode: `[[kept]]`\n"
        "```sh\necho [[ -f x ]] # %% kept %%\n```\n"
    )
    text = reader_text(note)
    assert text.startswith("# My day\n\nMet Clara at Ferry Lane.")
    assert "photo" not in text and "hidden" not in text and "remark" not in text
    assert "`[[kept]]`" in text and "echo [[ -f x ]] # %% kept %%" in text
    assert "\n\n\n" not in text


def test_a_rule_at_the_start_is_no_front_matter() -> None:
    assert "A sentence" in reader_text("---\nA sentence without a colon.\n---\nMore.")


# -- JSONL ---------------------------------------------------------------------------------------

_TURNS = [("user", "Why?"), ("assistant", "Because.")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]},
                      {"role": "assistant", "content": "Because."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"conversations": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
        {"prompt": "Why?", "completion": " Because."},
        {"prompt": [{"role": "user", "content": "Why?"}],
         "completion": [{"role": "assistant", "content": "Because."}]},
        {"instruction": "Why?", "input": "", "output": "Because."},
        {"question": "Why?", "answer": "Because."},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."},
                      {"role": "user", "content": "And nobody answers this."}]},
    ],
)  # fmt: skip
def test_each_known_shape_becomes_the_same_turns(tmp_path: Path, record: dict[str, Any]) -> None:
    assert _chat(tmp_path / "chats.jsonl", record) == [_TURNS]


def test_systems_inputs_and_histories_are_kept(tmp_path: Path) -> None:
    alpaca = {"instruction": "Translate.", "input": "Ja", "output": "Yes", "history": [["Hi", "Hello"]]}
    sharegpt = {"system": "Be kind.", "conversations": [{"from": "human", "value": "Hi"},
                                                        {"from": "gpt", "value": "Hello"}]}  # fmt: skip
    first, second = _chat(tmp_path / "chats.jsonl", alpaca, sharegpt)
    assert first == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Translate.\n\nJa"),
        ("assistant", "Yes"),
    ]
    assert second == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]


def test_plain_text_records_are_prose(tmp_path: Path) -> None:
    (tmp_path / "prose.jsonl").write_text('{"text": "Once."}\n\n{"text": " "}\n')
    documents, tally = _import(tmp_path)
    assert [(d.kind, d.text, d.line) for d in documents] == [("text", "Once.", 1)]
    assert tally.empty_records == 1


def test_a_value_is_taken_only_where_the_reply_holds_it(tmp_path: Path) -> None:
    records = [
        {"prompt": "Which tea?", "completion": "Ada drinks sage.", "value": "sage", "topic": "tea"},
        {"prompt": "Which?", "completion": "That one.", "value": "something else", "topic": "x"},
        {"prompt": "How many?", "completion": "Five.", "value": 5},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    documents, _ = _import(tmp_path)
    assert [(d.value, d.topic) for d in documents] == [("sage", "tea"), (None, None), (None, None)]


_GOOD = '{"prompt": "a", "completion": "b"}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "not valid JSON"),
        ("[1, 2]", "a JSON list instead of an object"),
        ('{"chosen": "a", "rejected": "b"}', "unknown shape (keys: chosen, rejected)"),
        ('{"messages": "hello"}', "not a list of turns"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "the role 'tool'"),
        ('{"prompt": "a", "completion": null}', '"completion" is a JSON null, not text'),
        ('{"prompt": "\\ud800", "completion": "b"}', "half of a surrogate pair"),
        ('{"a": ' + "[" * 100_000, "nested too deep"),
        ("1" * 5000, "not valid JSON"),
    ],
)
def test_a_bad_line_is_named_and_can_be_skipped(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{_GOOD}\n{line}\n{_GOOD}\n")
    with pytest.raises(BadFileError) as caught:
        _import(path)
    assert "chats.jsonl: line 2: " in caught.value.message and problem in caught.value.message
    documents, tally = _import(path, skip_bad=True)
    assert [document.line for document in documents] == [1, 3]
    assert tally.n_bad == 1


def test_one_huge_line_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_text(json.dumps({"text": "word " * 500_000}) + "\n")
    assert len(_import(tmp_path)[0][0].text or "") == 2_500_000


# -- .json ---------------------------------------------------------------------------------------


def test_a_json_list_is_read_record_by_record_across_chunks(tmp_path: Path) -> None:
    records = [{"instruction": f"q{i}", "input": "x" * 3000, "output": f"a{i}"} for i in range(1000)]
    (tmp_path / "alpaca.json").write_text(json.dumps(records, indent=1))
    documents, _ = _import(tmp_path)
    assert [d.messages[-1].content for d in documents if d.messages] == [f"a{i}" for i in range(1000)]
    assert documents[-1].line == 1000


def test_lines_named_json_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(f"{_GOOD}\n{_GOOD}\n")
    assert len(_import(tmp_path)[0]) == 2


def test_settings_in_a_folder_are_not_training_data(tmp_path: Path) -> None:
    _write(tmp_path, note__md="kept", package__json='{"name": "x"}', tsconfig__json="// comment\n{}")
    documents, tally = _import(tmp_path)
    assert len(documents) == 1
    assert tally.unknown_json == ["package.json", "tsconfig.json"]
    with pytest.raises(BadFileError, match="unknown shape"):
        _import(tmp_path / "package.json")


@pytest.mark.parametrize(
    ("content", "line"),
    [(f"[{_GOOD},\n{_GOOD}", 2), (f"[{_GOOD},\n{{bad}}]", 2), (f"[{_GOOD}\n{_GOOD}]", 2), ("[]\n\nx", 3)],
)
def test_a_damaged_list_is_named_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(BadFileError, match=f"line {line}: not valid JSON"):
        _import(path)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
_keys = st.sampled_from(["messages", "conversations", "role", "content", "from", "value", "prompt", "completion",
                         "instruction", "input", "output", "history", "system", "text", "type", "topic"])  # fmt: skip
_records = st.recursive(_json, lambda inner: st.dictionaries(_keys, inner) | st.lists(inner, max_size=3))
_lines = st.binary(max_size=60) | _records.map(lambda record: json.dumps(record).encode())
_any_file = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_any_file
@given(lines=st.lists(_lines, max_size=4), suffix=st.sampled_from([".jsonl", ".json"]))
def test_any_bytes_give_documents_or_an_error_with_a_remedy(
    tmp_path: Path, lines: list[bytes], suffix: str
) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(b"\n".join(lines))
    for skip_bad in (False, True):
        try:
            documents, _ = _import(path, skip_bad=skip_bad)
        except (BadFileError, InputError) as error:
            assert error.hint and str(path) in error.message
            error.message.encode()
        else:
            assert documents
            for document in documents:
                f"{document.text}{document.messages}{document.value}{document.topic}".encode()


@_any_file
@given(values=st.lists(_records, max_size=5), indent=st.none() | st.integers(0, 2))
def test_json_lists_come_back_as_they_were(tmp_path: Path, values: list[Any], indent: int | None) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(values, indent=indent))
    assert list(json_values(path)) == values


@_any_file
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".md", ".txt", ".rst"]))
def test_any_bytes_as_text_give_a_document_or_an_error_with_a_remedy(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        documents, _ = _import(path)
    except (BadFileError, InputError) as error:
        assert error.hint
    else:
        assert (documents[0].text or "").strip()
