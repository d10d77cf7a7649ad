"""What the gallery shows of a repository: computed from bytes first, from the card where they say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from nomoat.share.registry.card import Card, read_card
from nomoat.share.registry.describe import describe_files
from nomoat.share.registry.trees import Entry

_GGUF = {
    "artefact": "gguf",
    "format": "gguf",
    "architecture": "llama",
    "quantisation": "Q4_1",
    "parameters": 135,
}


def _file(path: str, size: int = 1, **facts: Any) -> tuple[Entry, dict[str, Any]]:
    return Entry(path, "blob", "0" * 40, size, f"sha256:{'0' * 64}"), facts


def _described(*files: tuple[Entry, dict[str, Any]], card: str = "", kind: str = "model") -> dict[str, Any]:
    return describe_files(kind, files, read_card(card))


def test_bytes_say_what_a_model_is() -> None:
    front = "license: MIT\npipeline_tag: text-generation\nbase_model: [a/b, c/d]\ntags: [x]"
    card = f"---\n{front}\n---\n# T\n\nWrites *verse*.\n"
    found = _described(_file("README.md"), _file("m.gguf", 9, **_GGUF), card=card)
    assert (found["artefact"], found["architecture"], found["quantisation"], found["parameters"]) == (
        "gguf",
        "llama",
        "Q4_1",
        135,
    )
    assert (found["licence"], found["base_model"], found["summary"], found["library"]) == (
        "mit",
        "a/b",
        "Writes verse.",
        "gguf",
    )
    assert found["tags"] == [
        "gguf",
        "x",
        "text-generation",
        "base_model:a/b",
        "base_model:c/d",
        "license:MIT",
    ]


def test_a_pipeline_is_the_sum_of_its_parts_each_counted_once() -> None:
    part = {"artefact": "pipeline", "format": "safetensors"}
    unet = [_file(f"unet/m-0000{n}-of-00002.safetensors", 9, parameters=50, **part) for n in (1, 2)]
    smaller = [_file(f"unet/m.fp16-0000{n}-of-00002.safetensors", 5, parameters=50, **part) for n in (1, 2)]
    other = _file("tagger/model.safetensors", 3, artefact="safetensors", format="safetensors", parameters=7)
    index = _file(
        "model_index.json", artefact="pipeline", architecture="FluxPipeline", pipeline_tag="text-to-image"
    )
    found = _described(*unet, *smaller, other, index)
    assert (found["artefact"], found["architecture"], found["parameters"]) == (
        "pipeline",
        "FluxPipeline",
        107,
    )
    assert (found["library"], found["pipeline_tag"]) == ("diffusers", "text-to-image")
    card = "---\npipeline_tag: image-to-image\n---\n"
    assert _described(*unet, index, card=card)["pipeline_tag"] == "image-to-image", "its owner knows best"


def test_an_adapter_beside_a_model_makes_it_an_adapter_and_pieces_add_up() -> None:
    adapter = {"artefact": "adapter", "parameters": 7}
    assert _described(_file("m.gguf", 9, **_GGUF), _file("a.safetensors", **adapter))["parameters"] == 7
    piece = {"artefact": "safetensors", "parameters": 10}
    pieces = [_file(f"model-{number}-of-3.safetensors", number, **piece) for number in range(1, 4)]
    assert _described(*pieces)["parameters"] == 30


def test_what_one_form_of_an_adapter_leaves_open_the_other_one_says() -> None:
    peft = {"artefact": "adapter", "architecture": "", "parameters": 7}
    gguf = {"artefact": "adapter", "architecture": "llama", "parameters": 7}
    found = _described(_file("adapter_model.safetensors", 9, **peft), _file("adapter.gguf", 8, **gguf))
    assert (found["artefact"], found["architecture"], found["parameters"]) == ("adapter", "llama", 7)


def test_the_picture_is_the_one_that_the_card_names() -> None:
    files = [_file("z.png"), _file("deep/a.png"), _file("b.webp")]
    assert _described(*files)["picture"] == "b.webp"
    assert _described(*files, card="---\nthumbnail: z.png\n---\n")["picture"] == "z.png"
    widget = "---\nwidget:\n- text: cat\n  output:\n    url: deep/a.png\n---\n"
    assert _described(*files, card=widget)["picture"] == "deep/a.png"
    assert (
        _described(*files, card="---\nthumbnail: https://elsewhere.example/x.png\n---\n")["picture"]
        == "b.webp"
    )


@pytest.mark.parametrize(
    ("front", "rating"),
    [("content_rating: explicit", "explicit"), ("rating: Mature", "mature"), ("rating: worst", ""),
     ("tags: [not-for-all-audiences]", "mature"), ("x: y", "")],
)  # fmt: skip
def test_ratings_are_of_three_kinds(front: str, rating: str) -> None:
    assert _described(card=f"---\n{front}\n---\n")["rating"] == rating


@pytest.mark.parametrize(
    ("prose", "summary"),
    [("# Title\n![x](y)\n| a | b |\n\nA [link](http://x) to `it`.", "A link to it."),
     ("```\ncode here\n```\nText", "Text"),
     ("<p>html</p>", ""), ("- list\n> quote", ""), ("w" * 300, "w" * 199 + "…"), ("", ""),
     ("# T\n\nShort answers and as\nfew words as can be.\n\nMore.", "Short answers and as few words as can be."),
     ("Ends here.\n- a list\nand more", "Ends here."), ("Ends here.\n```\ncode\n```", "Ends here."),
     ("word, " * 50, "word, " * 32 + "word…"), ("a" * 20 + " " + "b" * 300, "a" * 20 + " " + "b" * 178 + "…")],
)  # fmt: skip
def test_the_summary_is_the_first_paragraph(prose: str, summary: str) -> None:
    assert describe_files("model", [], Card({}, prose))["summary"] == summary


@pytest.mark.parametrize(
    "data",
    [{"license": {"a": 1}, "tags": {"x": 1}, "base_model": 7, "pipeline_tag": ["a"], "library_name": None,
      "widget": [1, {}]},
     {"tags": [None, [], "ok"], "license": ["mit", {"b": 2}], "widget": {"a": 1}, "datasets": 5, "thumbnail": []}],
)  # fmt: skip
def test_a_card_of_the_wrong_types_does_no_harm(data: dict[str, Any]) -> None:
    found = describe_files("model", [_file("a.png", parameters="many")], Card(data, "x y"))
    assert all(isinstance(tag, str) for tag in found["tags"])
    assert all(
        isinstance(found[name], str)
        for name in ("licence", "pipeline_tag", "library", "base_model", "rating")
    )


def test_tags_of_data_sets_name_their_kind() -> None:
    found = _described(
        card="---\nlanguage: de\ntask_categories: [qa]\nlicense: cc0-1.0\n---\n", kind="dataset"
    )
    assert found["tags"] == ["language:de", "task_categories:qa", "license:cc0-1.0"]
