"""Kernels are built once for a machine; where they cannot be, torch does the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nomoat.tune.native.build import built_library
from nomoat.tune.ops import EagerOps, FusedOps, load_ops


def test_a_library_is_built_once(kernel_cache: Path, fused: FusedOps) -> None:
    first = built_library(kernel_cache)
    assert first is not None
    built = first.stat().st_mtime_ns
    assert built_library(kernel_cache) == first
    assert first.stat().st_mtime_ns == built
    assert isinstance(load_ops(kernel_cache), FusedOps)


def test_a_library_that_is_damaged_is_built_anew(kernel_cache: Path, fused: FusedOps, tmp_path: Path) -> None:
    built = built_library(kernel_cache)
    assert built is not None
    (tmp_path / built.name).write_bytes(b"no library")
    assert isinstance(load_ops(tmp_path), FusedOps)


def test_without_a_compiler_torch_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(load_ops(tmp_path / "cache"), EagerOps)


@pytest.mark.parametrize("fault", ["exit 1", "kill -9 $$"])
def test_a_compiler_that_fails_leaves_the_work_to_torch_and_nothing_behind(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text(f"#!/bin/sh\n{fault}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert isinstance(load_ops(tmp_path / "cache"), EagerOps)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())
