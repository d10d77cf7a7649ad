"""What a client of Hugging Face does with Xet, in a process of its own."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

SIZE = 64 << 20


def content(seed: int = 7, size: int = SIZE) -> bytes:
    """Bytes that cannot be packed."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def push() -> None:
    """Push a large file, whose first bytes the environment may change."""
    api, repo = HfApi(), os.environ.get("REPO", "xenia/large")
    data = bytearray(content(int(os.environ.get("SEED", "7")), int(os.environ.get("BYTES", SIZE))))
    header = os.environ.get("HEADER", "").encode()
    data[: len(header)] = header
    api.create_repo(repo, exist_ok=True, private="PRIVATE" in os.environ)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        path.write_bytes(data)
        api.upload_file(path_or_fileobj=str(path), path_in_repo="model.bin", repo_id=repo)
    got = Path(hf_hub_download(repo, "model.bin")).read_bytes()
    print(got == data)


def push_a_pickle() -> None:
    """Push what is refused, and say why it was."""
    api, data = HfApi(), pickle.dumps(print) + bytes(100_000)
    api.create_repo("xenia/pickles", exist_ok=True)
    try:
        api.upload_file(path_or_fileobj=data, path_in_repo="model.safetensors", repo_id="xenia/pickles")
    except HfHubHTTPError as error:
        print(error)


def push_a_folder() -> None:
    """Files of many sizes in one commit, floats among them, which are packed in groups of bytes."""
    sizes = {"empty.bin": 0, "one.bin": 1, "small.bin": 9_000, "two.bin": 200_000, "large.bin": 70 << 20}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (file, size) in enumerate(sizes.items()):
            (folder / file).write_bytes(content(seed, size))
        (folder / "same.bin").write_bytes(content(3, 200_000))
        floats = np.linspace(0, 1, 300_000, dtype=np.float32)
        (folder / "floats.bin").write_bytes(floats.tobytes())
        (folder / "zeros.bin").write_bytes(bytes(3_000_000))
        api = HfApi()
        api.create_repo("xenia/folder", repo_type="dataset")
        api.upload_folder(repo_id="xenia/folder", folder_path=str(folder), repo_type="dataset")
        sent = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    got = Path(api.snapshot_download("xenia/folder", repo_type="dataset"))
    names = [name for name in os.listdir(got) if name != ".gitattributes"]
    print({name: hashlib.sha256((got / name).read_bytes()).hexdigest() for name in names} == sent, len(names))
