"""What a person does with a diffusion pipeline and the Python client of Hugging Face, in a process of its own."""

from __future__ import annotations

import os
import tempfile

from huggingface_hub import HfApi, snapshot_download


def push() -> None:
    api, name = HfApi(), os.environ["REPO"]
    api.create_repo(name)
    api.upload_folder(repo_id=name, folder_path=os.environ["FOLDER"])


def find_and_pull() -> None:
    api, name = HfApi(), os.environ["REPO"]
    info = api.model_info(name)
    assert (info.library_name, info.pipeline_tag) == ("diffusers", "text-to-image"), info
    for wanted in (
        {"pipeline_tag": "text-to-image"},
        {"filter": "diffusers"},
        {"filter": ["text-to-image", "diffusers"]},
    ):
        assert name in {each.id for each in api.list_models(**wanted)}, wanted
    assert name not in {each.id for each in api.list_models(pipeline_tag="text-generation")}
    snapshot_download(name, local_dir=os.environ["FOLDER"])


def draw() -> None:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline, StableDiffusionPipeline

    name, pictures = os.environ["REPO"], []
    for source in (name, os.environ["FOLDER"]):
        loaded = DiffusionPipeline.from_pretrained(source, cache_dir=tempfile.mkdtemp())
        assert isinstance(loaded, StableDiffusionPipeline)
        loaded.set_progress_bar_config(disable=True)
        seeded = torch.Generator().manual_seed(1)
        made = loaded(
            "the lowest", num_inference_steps=2, height=8, width=8, output_type="np", generator=seeded
        )
        pictures.append(made.images)
    assert pictures[0].shape == (1, 8, 8, 3) and np.isfinite(pictures[0]).all()
    assert (pictures[0] == pictures[1]).all()
