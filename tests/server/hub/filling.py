"""A hub filled with things like real ones: a model, adapters on it, image LoRAs with pictures. Made here, by seed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from drawing import picture
from filling_adapters import ADAPTERS, versions

from nomoat.base.errors import NotFoundError
from nomoat.formats.safetensors_file import safetensors_bytes
from nomoat.server.hub.commits import CommitRequest, LargeFile, SmallFile, apply_commit
from nomoat.server.hub.hub import Hub
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo
from nomoat.share.trust.keys import new_key

__all__ = ["OWNERS", "commit_files", "fill", "send_file"]

_STYLES = ("Dunes", "Harbour", "Linocut", "Nocturne", "Terracotta", "Gouache", "Aurora", "Paper Cut", "Meadow", "Tidal",
           "Ember", "Glacier", "Woodblock", "Orchard", "Monsoon", "Basalt")  # fmt: skip
_MOTIFS = ("hills at dawn", "a lighthouse in fog", "cranes over reeds", "an old bridge", "a quiet village",
           "a comet above pines", "boats at low tide", "a field of poppies")  # fmt: skip
_BASES = (("stabilityai/stable-diffusion-xl-base-1.0", "sdxl"), ("black-forest-labs/FLUX.1-dev", "flux1"),
          ("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd1"))  # fmt: skip
_LICENCES = ("apache-2.0", "cc-by-4.0", "creativeml-openrail-m", "mit", "cc-by-nc-4.0")
OWNERS = ("ines", "marek", "studio-nord", "yuki")


def fill(hub: Hub, base: Path, trained: Mapping[str, Path], n_image_loras: int = 200) -> None:
    """People, the model `base`, the adapters that were trained on it, a data set and `n_image_loras` image LoRAs."""
    accounts = hub.registry.accounts
    for name in OWNERS:
        accounts.add(name, kind="org" if name == "studio-nord" else "user", full_name=name.title())
    who = accounts.identity("ines", "write")
    send_file(hub, who, RepoName.parse("model", "ines/SmolLM2-135M-Instruct-GGUF"), base, _MODEL_CARD)
    _fill_adapters(hub, who, trained)
    commit_files(hub, who, RepoName.parse("dataset", "ines/kitchen-notes"), {
        "README.md": _DATASET_CARD.encode(),
        "train.jsonl": b"".join(json.dumps({"messages": [{"role": "user", "content": f"note {n}"}]}).encode() + b"\n"
                                for n in range(200)),
    })  # fmt: skip
    for index in range(n_image_loras):
        fill_image_lora(hub, index)
    _let_people_like(hub, n_image_loras)


def _let_people_like(hub: Hub, n_image_loras: int) -> None:
    """Some are liked, some more than others, so that the gallery has an order."""
    repos, accounts = hub.registry.repos, hub.registry.accounts
    model = RepoName.parse("model", "ines/SmolLM2-135M-Instruct-GGUF")
    adapters = [RepoName.parse("model", f"ines/{name}") for name in ADAPTERS]
    first = [_image_lora_name(index) for index in range(min(6, n_image_loras))]
    for rank, name in enumerate([model, *first, *adapters]):
        for fan in OWNERS[rank % 3 :]:
            repos.like(accounts.identity(fan, "write"), name, True)
        for _ in range(max(1, 14 - rank)):
            repos.count_download(repos.get(accounts.identity("ines"), name))


def _image_lora_name(index: int) -> RepoName:
    style = _STYLES[index % len(_STYLES)]
    return RepoName.parse("model", f"{OWNERS[index % len(OWNERS)]}/{style.replace(' ', '-')}-{index:03d}")


def commit_files(
    hub: Hub, who: Identity, name: RepoName, files: Mapping[str, bytes], title: str = "First version"
) -> Repo:
    """Make the repository if need be, and commit small files to it."""
    repos = hub.registry.repos
    try:
        repo = repos.get(who, name)
    except NotFoundError:
        repo = repos.create(who, name)
    operations = [SmallFile(path, content) for path, content in files.items()]
    apply_commit(hub, who, repo, "main", CommitRequest(title, "", None, list(operations)))
    return repos.get(who, name)


def send_file(hub: Hub, who: Identity, name: RepoName, path: Path, card: str) -> Repo:
    """A repository with one large file and a card."""
    with hub.registry.blobs.incoming() as (incoming, finish):
        with path.open("rb") as handle:
            while block := handle.read(4 << 20):
                incoming.write(block)
        info = finish()
    hub.registry.claims.note_sent(who.user_id, info)
    repo = hub.registry.repos.create(who, name)
    request = CommitRequest("First version", "", None, [LargeFile(path.name, info.digest, info.size_bytes),
                                                        SmallFile("README.md", card.encode())])  # fmt: skip
    apply_commit(hub, who, repo, "main", request)
    return hub.registry.repos.get(who, name)


def _fill_adapters(hub: Hub, who: Identity, trained: Mapping[str, Path]) -> None:
    """With the key of their owner, by which one of them is signed."""
    key = new_key()
    hub.registry.accounts.change("ines", public_key=key.public.pem)
    for name in ADAPTERS:
        for version in versions(name, trained, key):
            commit_files(hub, who, RepoName.parse("model", f"ines/{name}"), version.files, version.title)


def fill_image_lora(hub: Hub, index: int) -> None:
    """An image LoRA with one to seven pictures, each with the prompt that made it."""
    rng = random.Random(index)
    owner = OWNERS[index % len(OWNERS)]
    style = _STYLES[index % len(_STYLES)]
    base, family = _BASES[index % len(_BASES)]
    trigger = f"{style.lower().replace(' ', '')}_{index:03d}"
    files = {f"{trigger}.safetensors": _image_lora(rng, family, trigger)}
    for number in range(7 if index < 6 else 1):
        prompt = f"{trigger}, {_MOTIFS[(index + number) % len(_MOTIFS)]}, {style.lower()} style"
        files[f"pictures/{number + 1:02d}.png"] = picture(
            rng.randrange(1 << 30), prompt, large=index < 6, style=index
        )
    rating = {3: "mature", 11: "explicit"}.get(index % 16, "general")
    allowed = str(index % 3 != 0).lower()
    files["README.md"] = _IMAGE_CARD.format(
        style=style, trigger=trigger, base=base, licence=_LICENCES[index % len(_LICENCES)], rating=rating,
        motif=_MOTIFS[index % len(_MOTIFS)], allowed=allowed,
    ).encode()  # fmt: skip
    who = hub.registry.accounts.identity(owner, "write")
    commit_files(hub, who, _image_lora_name(index), files)


def _image_lora(rng: random.Random, family: str, trigger: str) -> bytes:
    """A LoRA as kohya's scripts write it, two attention layers of rank 4."""
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    prefix = {"flux1": "lora_unet_double_blocks_{n}_img_attn_proj"}.get(
        family, "lora_unet_down_blocks_{n}_attentions_0_transformer_blocks_0_attn1_to_q"
    )
    tensors = {}
    for n in (0, 1):
        name = prefix.format(n=n)
        tensors[f"{name}.lora_down.weight"] = numbers.normal(0, 0.02, (4, 32)).astype(np.float32)
        tensors[f"{name}.lora_up.weight"] = numbers.normal(0, 0.02, (32, 4)).astype(np.float32)
        tensors[f"{name}.alpha"] = np.array(4, np.float32)
    metadata = {"ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "4",
                "ss_base_model_version": {"sdxl": "sdxl_base_v1-0", "sd1": "sd_v1"}.get(family, family),
                "ss_output_name": trigger}  # fmt: skip
    return safetensors_bytes(tensors, metadata)


_MODEL_CARD = """---
license: apache-2.0
language: [en]
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
base_model_relation: quantized
pipeline_tag: text-generation
tags: [chat, small]
---

# SmolLM2 135M Instruct

A small chat model that runs at reading speed on any laptop, quantised to 4 bits. Good for drafts, short answers and as
the base of adapters that learn from your own texts.

## What it is good at

* short answers to plain questions
* rewriting a paragraph
* being tuned: a LoRA adapter of rank 8 trains in minutes

| Task | Score |
|---|---|
| IFEval | 29.9 |
| HellaSwag | 40.9 |

## What it is not good at

Arithmetic, long documents, languages other than English. Check what it says.

```bash
nomoat run smollm2 "Why is the sky blue?"
```
"""
_DATASET_CARD = """---
license: cc-by-4.0
language: [en]
tags: [notes, chat]
task_categories: [text-generation]
---

# Kitchen notes

Two hundred notes on cooking for a family, as chats.
"""
_IMAGE_CARD = """---
license: {licence}
base_model: {base}
library_name: diffusers
pipeline_tag: text-to-image
content_rating: {rating}
trigger_words: [{trigger}, "{style} style"]
tags: [style, landscape, lora]
permissions:
  allowNoCredit: {allowed}
  allowCommercialUse: [Image, Rent]
  allowDerivatives: true
  allowDifferentLicense: {allowed}
---

# {style}

Calm landscapes in the manner of {style}: {motif}, few colours, soft edges.

Begin the prompt with `{trigger}`. A weight of 0.7 to 0.9 keeps faces intact; 20 to 30 steps are enough.

![One of the pictures](pictures/01.png)

## Training

Forty drawings of my own, captioned by hand, rank 4, 1,600 steps.
"""
