"""A diffusion pipeline goes up, is shown and found as what it is, and comes down byte for byte."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from diffusion_pipeline import PARTS, PROMPT, SEED, write_pipeline
from running_hub import RunningHub
from safetensors import safe_open

_PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def pushed_by_hf(
    running_hub: RunningHub, alice: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """With `upload_folder`."""
    folder, name = write_pipeline(tmp_path_factory.mktemp("pipeline")), "alice/harbour-light"
    running_hub.run_client("pipeline_script", "push", alice, REPO=name, FOLDER=str(folder))
    return name, folder


@pytest.fixture(scope="module")
def pushed_by_nomoat(
    running_hub: RunningHub, alice: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """With `nomoat push`, which computes the card."""
    folder, name = write_pipeline(tmp_path_factory.mktemp("pipeline"), card="", seed=1), "alice/no-card"
    host = running_hub.url.removeprefix("http://")
    _nomoat(running_hub, "login", host, "--token-file", "-", typed=alice)
    sent = _nomoat(running_hub, "push", str(folder), f"{host}/{name}", "--licence", "Apache-2.0", "--json")
    assert json.loads(sent)["kind"] == "folder"
    return name, folder


@pytest.fixture(params=["pushed_by_hf", "pushed_by_nomoat"])
def pushed(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """The repository, and the folder that it was made of."""
    found: tuple[str, Path] = request.getfixturevalue(request.param)
    return found


def test_its_page_shows_it_as_a_pipeline(running_hub: RunningHub, pushed: tuple[str, Path]) -> None:
    name, folder = pushed
    page = html.unescape(running_hub.get(f"/{name}", headers=_PAGE).text)
    assert '<li class="chip strong">Image pipeline</li>' in page
    about = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]*)", page))
    assert about["Architecture"] == "StableDiffusionPipeline" and about["Library"] == "diffusers"
    assert f"({_parameters(folder):,})" in about["Parameters"] and about["Task"] == "text-to-image"
    said = page.split("<h2>Said by its owner</h2>")[1]
    assert ("<dt>Task</dt>" in said) == (folder / "README.md").is_file(), "without a card the files say it"
    assert "Tensors" not in about, "no part speaks for all of them"
    components = page.split("<h2>Components</h2>")[1].split("</section>")[0]
    assert re.findall(r'<a href="[^"]+">([^<]+)</a></dt>', components) == list(PARTS)
    assert "UNet2DConditionModel" in components and "(transformers, " in components
    links = re.findall(r'<a href="([^"]+)">', components)
    assert all(running_hub.get(link, headers=_PAGE).status_code == 200 for link in links)
    assert f'DiffusionPipeline.from_pretrained("{name}")' in page


def test_its_pictures_tell_how_they_were_made(running_hub: RunningHub, pushed: tuple[str, Path]) -> None:
    name, _ = pushed
    page = running_hub.get(f"/{name}", headers=_PAGE).text
    gallery = page.split('<ul class="pictures')[1].split("</ul>")[0]
    assert f'alt="Example: {PROMPT}"' in gallery and f"<dt>Seed</dt><dd>{SEED}</dd>" in gallery
    [small] = re.findall(r'<img src="([^"]+)"', gallery)
    shown = running_hub.get(html.unescape(small).removeprefix(running_hub.url))
    assert shown.headers["content-type"] == "image/webp"
    recipe = running_hub.get(f"/{name}/blob/main/pictures/01.png", headers=_PAGE).text
    assert PROMPT in recipe and "blurry, text, watermark" in recipe and "CFG scale" in recipe


@pytest.mark.parametrize(
    "query",
    [
        "pipeline_tag=text-to-image",
        "library=diffusers",
        "artefact=pipeline",
        "architecture=StableDiffusionPipeline",
    ],
)
def test_the_gallery_finds_it(running_hub: RunningHub, pushed: tuple[str, Path], query: str) -> None:
    name, _ = pushed
    page = running_hub.get(f"/models?{query}", headers=_PAGE).text
    [card] = [each for each in page.split("<article")[1:] if f'href="/{name}"' in each]
    assert "Image pipeline" in card and "<img " in card


@pytest.mark.parametrize(
    "query", ["pipeline_tag=text-generation", "library=transformers", "artefact=safetensors"]
)
def test_the_gallery_takes_it_for_nothing_else(
    running_hub: RunningHub, pushed: tuple[str, Path], query: str
) -> None:
    assert f'href="/{pushed[0]}"' not in running_hub.get(f"/models?{query}", headers=_PAGE).text


def test_it_comes_down_byte_for_byte(
    running_hub: RunningHub, pushed: tuple[str, Path], tmp_path: Path
) -> None:
    name, folder = pushed
    running_hub.run_client("pipeline_script", "find_and_pull", REPO=name, FOLDER=str(tmp_path / "hf"))
    place = f"{running_hub.url.removeprefix('http://')}/{name}"
    _nomoat(running_hub, "pull", place, "--to", str(tmp_path / "own"), home=tmp_path / "home")
    sent = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(sent) >= 11
    for pulled in (tmp_path / "hf", tmp_path / "own"):
        for path in sent:
            assert (pulled / path).read_bytes() == (folder / path).read_bytes(), path


def test_diffusers_draws_with_it(running_hub: RunningHub, pushed: tuple[str, Path]) -> None:
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("diffusers is not installed: pip install --no-deps diffusers")
    name, folder = pushed
    running_hub.run_client("pipeline_script", "draw", REPO=name, FOLDER=str(folder))


def _parameters(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "numpy") as weights:
            total += sum(weights.get_tensor(name).size for name in weights.keys())
    return total


def _nomoat(hub: RunningHub, *arguments: str, typed: str = "", home: Path | None = None) -> str:
    environment = hub.environment(**({"NOMOAT_HOME": str(home)} if home else {}))
    argv = [sys.executable, "-m", "nomoat.cli.main", *arguments]
    done = subprocess.run(
        argv, input=typed, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
