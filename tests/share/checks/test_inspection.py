"""What comes in is what it says; what can run, hides or explodes is refused, with the place."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.numpy import save

from nomoat.formats.gguf_write import write_gguf
from nomoat.share.checks.inspect import inspect
from nomoat.share.checks.template_trial import try_template
from nomoat.share.errors import RefusedError


def look(path: str, content: bytes) -> dict[str, Any]:
    return inspect(path, io.BytesIO(content), len(content))


def header(rows: dict[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = json.dumps(rows).encode()
    return struct.pack("<Q", len(text)) + text + data


def row(start: int, end: int, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checks") / "m.gguf"
    keys = {
        "general.architecture": "llama",
        "general.name": "m",
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    write_gguf(path, keys, {"a.weight": np.ones((4, 32), np.float32), "b": np.ones(32, np.float32)})
    return path.read_bytes()


# -- what is told of sound files ---------------------------------------------------------------------


def test_a_real_model(smollm2_path: Path) -> None:
    with smollm2_path.open("rb") as reader:
        facts = inspect("m.gguf", reader, smollm2_path.stat().st_size)
    found = [facts[key] for key in ("artefact", "architecture", "quantisation", "parameters")]
    assert found == ["gguf", "llama", "Q4_1", 134_515_008]
    assert facts["chat_template"]["renders"]


def test_adapters_image_loras_and_parts_of_pipelines_are_told_apart() -> None:
    ones = np.ones((4, 8), np.float16)
    peft = save(
        {
            "base_model.model.layers.0.q_proj.lora_A.weight": ones,
            "base_model.model.layers.0.q_proj.lora_B.weight": ones.T.copy(),
        }
    )
    kohya = save({"lora_unet_down.lora_down.weight": ones, "lora_te2_text.lora_up.weight": ones},
                 {"ss_base_model_version": "sdxl_base_v1-0", "ss_network_alpha": "8.0",
                  "ss_tag_frequency": json.dumps({"10_dunes": {"dunes style": 40, "hill": 3}})})  # fmt: skip
    assert look("adapter_model.safetensors", peft) | {"artefact": "adapter", "rank": 4} == look(
        "adapter_model.safetensors", peft
    )
    facts = look("dunes.safetensors", kohya)
    assert (facts["artefact"], facts["architecture"], facts["rank"], facts["alpha"]) == (
        "image-lora",
        "sdxl",
        4,
        8.0,
    )
    assert facts["trigger_words"] == ["dunes style", "hill"]
    plain = save({"w": ones})
    assert look("unet/diffusion_pytorch_model.safetensors", plain)["artefact"] == "pipeline"
    assert look("model.safetensors", plain)["artefact"] == "safetensors"


@pytest.mark.parametrize(
    ("name", "task"),
    [("StableDiffusionPipeline", "text-to-image"), ("FluxPipeline", "text-to-image"),
     ("StableDiffusionXLPAGPipeline", "text-to-image"), ("StableDiffusionImg2ImgPipeline", None),
     ("StableDiffusionXLControlNetPipeline", None), ("WanPipeline", None)],
)  # fmt: skip
def test_the_index_of_a_pipeline_names_its_parts(name: str, task: str | None) -> None:
    index = {"_class_name": name, "unet": ["diffusers", "UNet"], "safety_checker": [None, None], "sizes": [1, 2],
             "requires_safety_checker": False}  # fmt: skip
    facts = look("model_index.json", json.dumps(index).encode())
    assert (facts["artefact"], facts["architecture"]) == ("pipeline", name)
    assert facts["components"] == {"unet": ["diffusers", "UNet"]} and facts.get("pipeline_tag") == task
    assert look("docs/model_index.json", json.dumps(index).encode()) == {"format": "json"}


@pytest.mark.parametrize("index", [[], {}, 1, {"_class_name": 3}, {"_class_name": ""}, {"unet": ["a", "b"]}])
def test_what_only_is_called_the_index_of_a_pipeline_is_none(index: object) -> None:
    assert look("model_index.json", json.dumps(index).encode()) == {"format": "json"}


def png(text: dict[str, str], size: tuple[int, int] = (40, 30)) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    target = io.BytesIO()
    Image.new("RGB", size, "teal").save(target, "PNG", pnginfo=info)
    return target.getvalue()


WEB_UI = ("a lighthouse, <lora:dunes:0.8>\nin fog\nNegative prompt: people, text\n"
          "Steps: 28, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 12345, Size: 40x30, "
          'Model: "base, v1", Version: v1.9')  # fmt: skip
COMFY = json.dumps({
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "cfg": 8, "sampler_name": "euler",
                                               "positive": ["6", 0], "negative": ["7", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "an old bridge"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
})  # fmt: skip


def test_pictures_say_how_they_were_made() -> None:
    found = look("a.png", png({"parameters": WEB_UI}))["picture"]
    assert found == {
        "width": 40, "height": 30, "prompt": "a lighthouse, <lora:dunes:0.8>\nin fog",
        "negative_prompt": "people, text",
        "seed": "12345", "sampler": "DPM++ 2M", "steps": "28", "cfg_scale": "6.5", "model": "base, v1",
    }  # fmt: skip
    found = look("a.png", png({"prompt": COMFY}))["picture"]
    assert (found["prompt"], found["negative_prompt"], found["seed"], found["model"]) == (
        "an old bridge", "blurry", "7", "sd_xl.safetensors",
    )  # fmt: skip
    for kind, text in (("JPEG", WEB_UI), ("WEBP", WEB_UI)):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        target = io.BytesIO()
        Image.new("RGB", (40, 30)).save(target, kind, exif=exif)
        assert look("a", target.getvalue())["picture"]["seed"] == "12345", kind


def test_other_content_is_taken_as_it_is() -> None:
    assert look("data.bin", bytes(range(255, 0, -1)))["format"] == "other"
    assert look("notes.txt", "größe".encode())["format"] == "text"
    assert look("empty.txt", b"")["format"] == "text"
    assert look("tokenizer.model", b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\2\n")["format"] == "other"
    assert look("config.json", b'{"a": [1]}')["format"] == "json"


# -- what is refused ---------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("owned",)


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Evil()))
    return target.getvalue()


def objects() -> bytes:
    target = io.BytesIO()
    np.save(target, np.array([{}], object))
    return target.getvalue()


@pytest.mark.parametrize("name", ["model.safetensors", "m.gguf", "data.bin", "README.md", "x.png"])
@pytest.mark.parametrize(
    "content",
    [*(pickle.dumps(Evil(), protocol) for protocol in range(6)), b"cos\nsystem\n(S'id'\ntR.", zipped(), objects(),
     b"\x7fELF\2\1\1", b"MZ\x90\0", b"#!/bin/sh\nid", b"\x1f\x8b\x08\0", bytes(257) + b"ustar\0" + bytes(300),
     b"<!DOCTYPE html><script>alert(1)</script>", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'],
)  # fmt: skip
def test_what_can_run_is_refused_whatever_its_name(name: str, content: bytes) -> None:
    with pytest.raises(RefusedError, match="byte 0"):
        look(name, content)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (header({"a": row(0, 4), "b": row(2, 6)}, bytes(6)), "overlaps"),
        (header({"a": row(0, 4), "b": row(5, 6)}, bytes(6)), "gap"),
        (header({"a": row(1, 4)}, bytes(4)), "gap"),
        (header({"a": row(0, 4)}, bytes(5)), "end here"),
        (header({"a": row(0, 4)}, bytes(3)), "end here"),
        (header({"a": row(0, 4, "F32", [2])}, bytes(4)), "do not hold"),
        (header({"a": row(0, 4, "F32", [-1])}, bytes(4)), "no list"),
        (header({"a": row(0, 4, "F32", [True])}, bytes(4)), "no list"),
        (header({"a": row(0, 4, "OBJECT")}, bytes(4)), "not known"),
        (header({"a": row(0, 1 << 63, "U8", [1 << 63])}, bytes(4)), "no list"),
        (header({"a": row(0, 4) | {"more": 1}}, bytes(4)), "nothing else"),
        (header({"__metadata__": {"a": 1}}), "texts"),
        (struct.pack("<Q", 1 << 40) + b"{}", "header of"),
        (struct.pack("<Q", 300) + b"{}", "header of"),
        (struct.pack("<Q", 40) + b'{"a":1,"a":2}'.ljust(40), "twice"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "no JSON object"),
        (struct.pack("<Q", 100_005) + b'{"a":' + b"[" * 100_000, "no sound JSON"),
        (struct.pack("<Q", 40) + b'{"__metadata__":{"a":"\\ud800"}}'.ljust(40), "no sound JSON"),
        (b"", "too short"),
    ],
)
def test_safetensors_that_do_not_add_up(content: bytes, word: str) -> None:
    with pytest.raises(RefusedError, match=word):
        look("m.safetensors", content)


def test_a_million_tensors_are_refused_before_they_are_read() -> None:
    one = b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    text = b"{" + b"".join(one % number for number in range(200_000))[:-1] + b"}"
    escaped = text[:20_000_000].replace(b'"dtype"', b'"\\u0064type"')
    with pytest.raises(RefusedError, match="more than 100,000 tensors"):
        look("m.safetensors", struct.pack("<Q", len(escaped)) + escaped)
    with pytest.raises(RefusedError, match="more than 100,000 tensors"):
        look("m.safetensors", struct.pack("<Q", len(text)) + text)
    with pytest.raises(RefusedError, match="header of"):
        look("m.safetensors", struct.pack("<Q", 80_000_000) + bytes(80_000_000))


def test_nothing_hides_behind_the_tensors_of_a_gguf(gguf: bytes) -> None:
    assert look("m.gguf", gguf)["tensors"] == 2
    with pytest.raises(RefusedError, match="end here"):
        look("m.gguf", gguf + b"payload" * 20)
    with pytest.raises(RefusedError, match="missing"):
        look("m.gguf", gguf[:-1])


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_sound_file_whose_length_looks_like_a_pickle(length: int) -> None:
    text = json.dumps({"a": row(0, 4)}).encode().ljust(length)
    assert look("m.safetensors", struct.pack("<Q", length) + text + bytes(4))["tensors"] == 1


def test_counts_that_belong_to_no_model_are_refused_at_once(tmp_path: Path) -> None:
    for counts in ((1_000_000, 1), (1, 50_000)):
        with pytest.raises(RefusedError, match="byte 8"):
            look("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(80_000_000))
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "llama"}, {})
    hidden = (tmp_path / "m.gguf").read_bytes() + bytes(64)
    with pytest.raises(RefusedError, match="end here"):
        look("m.gguf", hidden)


@pytest.mark.parametrize(
    "field",
    ["a: 0x" + "f" * 9000, "a: !!int ''", "a: !!timestamp x", "a: !!bool x", "a: !!float ''",
     "a: " + "1:" * 200_000 + "1", "a: !!python/object:os.system x", "a: " + "9" * 100_000],
)  # fmt: skip
def test_cards_that_only_look_like_numbers_are_refused(field: str) -> None:
    with pytest.raises(RefusedError, match="front matter"):
        look("README.md", f"---\n{field}\n---\n".encode())


def test_a_long_line_of_settings_takes_no_time() -> None:
    text = "a\nSteps: 1, " + "A" * 900_000
    assert look("a.png", png({"parameters": text}))["picture"]["prompt"]


def test_pickles_without_a_head_and_with_a_late_call_are_refused() -> None:
    late = b"(" + b"V" + b"x" * 60_000 + b"\n0cos\nsystem\n(S'id'\ntR."
    stacked = b"\x8c\x08builtins\x8c\x05print\x93(\x8c\x05ownedtR."
    for content in (late, stacked):
        with pytest.raises(RefusedError, match="pickle"):
            look("data.bin", content)


def test_random_bytes_are_next_to_never_taken_for_a_pickle() -> None:
    draw, refused = np.random.default_rng(3), 0
    for number in range(20_000):
        content = draw.bytes((10, 100, 1000)[number % 3])
        if content[0] == 0x80 and content[1] in range(2, 6):
            continue  # begins as every newer pickle does
        try:
            look("data.bin", content)
        except RefusedError as error:
            refused += "pickle" in error.message
    assert refused == 0


def test_json_of_countless_values_is_refused_before_it_is_read() -> None:
    with pytest.raises(RefusedError, match="4,000,000 values"):
        look("config.json", b"[" + b"[]," * 2_100_000 + b"[]]")


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", start)
        + chunk(b"IDAT", zlib.compress(bytes(9000)))
        + chunk(b"IEND", b"")
    )


def test_picture_bombs_and_halves_are_refused() -> None:
    for content, word in (
        (bomb(60_000, 60_000), "pixels"),
        (png({})[:-30], "decoded"),
        (bomb(500, 500), "decoded"),
    ):
        with pytest.raises(RefusedError, match=word):
            look("a.png", content)
    with pytest.raises(RefusedError, match="decoded"):
        look("a.webp", b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0")


@pytest.mark.parametrize("content", [b"{", b"[" * 200_000, b"\xff{}", b'{"a": 1} trailing'])
def test_json_that_is_none(content: bytes) -> None:
    with pytest.raises(RefusedError, match=r"JSON|nested"):
        look("config.json", content)


def test_a_card_that_grows_without_a_limit_is_refused() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    with pytest.raises(RefusedError, match="README"):
        look("README.md", ("---\n" + "\n".join(lines) + "\n---\n").encode())


def test_templates_that_never_end_are_ended() -> None:
    assert try_template("{{ messages[0].content }}")["renders"]
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    for source in (
        endless,
        "{{ 'x' * 2000000000 }}",
        "{% if %}",
        "{{ ().__class__.__base__.__subclasses__() }}",
    ):
        found = try_template(source)
        assert not found["renders"] and found["problem"]


@settings(max_examples=150, deadline=2000)
@given(st.data())
def test_what_is_damaged_is_refused_or_read_and_nothing_else(gguf: bytes, data: st.DataObject) -> None:
    weights = save({"a": np.ones((3, 4), np.float32), "b": np.zeros(5, np.int8)}, {"note": "x"})
    name, content = data.draw(
        st.sampled_from(
            [("m.gguf", gguf), ("m.safetensors", weights), ("a.png", png({"parameters": WEB_UI}))]
        )
    )
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, min(len(content), 400) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(content) // 2, len(content))) :]
    try:
        look(name, bytes(damaged))
    except RefusedError as error:
        assert error.message and name in error.message
