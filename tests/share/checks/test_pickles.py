"""Pickles are known by what an unpickler would do with them, however they begin and wherever the call stands."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from nomoat.share.checks.inspect import inspect
from nomoat.share.checks.pickles import is_pickle
from nomoat.share.errors import RefusedError

CALL = b"cos\nsystem\n(S'id'\ntR."


def says(content: bytes) -> bool:
    return is_pickle(io.BytesIO(content))


def refused(path: str, content: bytes) -> bool:
    try:
        inspect(path, io.BytesIO(content), len(content))
    except RefusedError:
        return True
    return False


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("owned",)


VALUES: list[Any] = [
    Evil(), [Evil()] * 3, {"state": {"a": Evil()}}, OrderedDict(a=1), np.array([{}, 1], object), np.ones(3),
    slice(1, 2),
    {"text": "x" * 3_000_000, "late": Evil()}, [list(range(300_000)), Evil()], (b"y" * 3_000_000, Evil()),
    complex(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_real_pickles_of_every_protocol(protocol: int) -> None:
    for number, value in enumerate(VALUES):
        content = pickle.dumps(value, protocol)
        assert says(content), (number, protocol)
        assert says(pickletools.optimize(content)) or protocol < 2, (number, protocol)
    for plain in ({"a": [1, 2.5, None, "text"]}, 1, "x", ()):
        assert says(pickle.dumps(plain, protocol)) == (protocol >= 2), (
            plain
        )  # without a head it is like many texts


def test_files_of_the_programs_that_pickle(tmp_path: Path) -> None:
    weights = {"layer.weight": torch.ones(3, 4), "layer.bias": torch.zeros(4)}
    for name, write in {
        "zip.bin": lambda path: torch.save(weights, path),
        "legacy.bin": lambda path: torch.save(weights, path, _use_new_zipfile_serialization=False),
        "objects.npy": lambda path: np.save(path, np.array([{}, Evil()], object)),
        "objects.npz": lambda path: np.savez(path, a=np.array([{}], object)),
        "joblib.bin": lambda path: joblib.dump({"a": np.ones(5), "b": Evil()}, path),
        "packed.bin": lambda path: joblib.dump({"a": np.ones(5)}, path, compress=("zlib", 3)),
        "gzip.bin": lambda path: joblib.dump({"a": np.ones(5)}, path, compress=("gzip", 3)),
    }.items():  # fmt: skip
        write(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert refused("model.bin", content) and refused("model.safetensors", content), name


@pytest.mark.parametrize(
    "filler",
    [b"V" + b"x" * 3_000_000 + b"\n0", b"B\0\0\x30\0" + bytes(0x300000) + b"0", b"N" * 3_000_000, b"N0" * 100_000,
     b"I1\n." * 1000, b"X\1\0\0\0a0" * 400_000, b"K\1" * 2_000_000, b"(" * 1000, b"(0" * 100_000, b"I1\n0" * 5],
)  # fmt: skip
def test_a_call_behind_anything_is_found(filler: bytes) -> None:
    assert says(filler + CALL) and refused("data.bin", filler + CALL)


def test_what_goes_on_without_end_is_one_and_not_read_to_its_end() -> None:
    for filler in (b"X\1\0\0\0a0" * 9_000_000, b"N0" * 30_000_000):
        reader = io.BytesIO(filler)
        assert is_pickle(reader) and reader.tell() < 10_000_000


@pytest.mark.parametrize(
    "text",
    [b"copyright\nname\nRest of it", b"chapter\none\n(the first)\ntRaining", b"iPhone\nname\nR",
     b"c comment\np cnf 1 2\n",
     b"GATTACA" * 1000, b"N" * 100_000, b"cat\ndog\n.R", b"V" * 5000, b"0" * 5000,
     b"# Title\n\ncos\nsystem\n(S'id'\ntR."],
)  # fmt: skip
def test_texts_that_only_look_like_one(text: bytes) -> None:
    assert not says(text)


def test_random_bytes_are_no_pickle() -> None:
    draw = np.random.default_rng(11)
    assert sum(says(draw.bytes((10, 100, 1000)[number % 3])) for number in range(100_000)) == 0
    # Those that begin as every newer pickle does would have to end like one as well: one in some thousands.
    heads = (bytes([0x80, 2 + number % 4]) + draw.bytes(200) for number in range(20_000))
    assert sum(says(content) for content in heads) < 40


class _Called(Exception):
    """The unpickler was made to call something."""


class _Trap:
    def __new__(cls, *arguments: Any, **named: Any) -> _Trap:
        raise _Called

    def __setstate__(self, state: Any) -> None:
        raise _Called


def calls(content: bytes, unpickler: type[pickle.Unpickler]) -> bool:
    """Whether this unpickler calls what the bytes name."""

    class Watched(unpickler):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> Any:
            if not module or not name:
                raise AttributeError(name)
            return _Trap

        def persistent_load(self, pid: Any) -> Any:
            return pid

    reader = io.BytesIO(content)
    try:
        while True:
            Watched(reader).load()
    except _Called:
        return True
    except Exception:
        return False


def random_pickle(draw: random.Random) -> bytes:
    """Opcodes in any order, those that build calls more often."""
    names = ("MARK GLOBAL STACK_GLOBAL REDUCE OBJ INST BUILD NEWOBJ NEWOBJ_EX TUPLE EMPTY_TUPLE TUPLE1 "
             "SHORT_BINUNICODE POP POP_MARK DUP MEMOIZE BINGET STOP EMPTY_DICT SETITEMS APPENDS EMPTY_LIST "
             "NONE BININT1 DICT LIST")  # fmt: skip
    common = [each for each in pickletools.opcodes if each.name in names.split()]
    parts = []
    for _ in range(draw.randint(2, 12)):
        opcode = draw.choice(common if draw.random() < 0.9 else pickletools.opcodes)
        size = opcode.arg.n if opcode.arg else 0
        if opcode.name == "PROTO":
            argument = b"\4"
        elif opcode.name in {"GLOBAL", "INST"}:
            argument = b"os\nsystem\n"
        elif size == pickletools.UP_TO_NEWLINE:
            argument = draw.choice([b"1\n", b"'a'\n", b"x\n"])
        elif size < 0:
            width = {-2: 1, -3: 4, -4: 4, -5: 8}[size]
            argument = (1).to_bytes(width, "little") + b"a"
        else:
            argument = bytes(draw.choice([0, 1]) for _ in range(size))
        parts.append(opcode.code.encode("latin-1") + argument)
    return b"".join(parts)


def test_whatever_makes_an_unpickler_call_is_found() -> None:
    draw, called = random.Random(5), 0
    for _ in range(30_000):
        content = random_pickle(draw)
        if calls(content, pickle.Unpickler) or calls(content, pickle._Unpickler):  # type: ignore[arg-type, attr-defined]
            called += 1
            assert says(content), content
    assert called > 20
