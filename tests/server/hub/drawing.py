"""Pictures as an image model might make them, with the recipe that A1111 writes into its own. Drawn here, by seed."""

from __future__ import annotations

import colorsys
import io
import math
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from PIL.PngImagePlugin import PngInfo

__all__ = ["picture"]

_SAMPLERS = ("Euler a", "DPM++ 2M Karras", "DDIM", "UniPC")


def picture(seed: int, prompt: str, *, large: bool = False, style: int = 0) -> bytes:
    """A PNG of layered hills under a sun, with the recipe that A1111 would have written into it."""
    rng = random.Random(seed)
    width, height = (640, 768) if large else (288, 360)
    shown = Image.fromarray(_sky(rng, width, height, style))
    draw = ImageDraw.Draw(shown)
    _sun(draw, rng, width, height)
    for layer in range(5):
        draw.polygon(list(_ridge(rng, layer, width, height)), fill=_layer_colour(style, layer))
    shown = shown.filter(ImageFilter.GaussianBlur(0.6)).quantize(96)
    info = PngInfo()
    info.add_text("parameters", (
        f"{prompt}\nNegative prompt: blurry, text, watermark\nSteps: {rng.choice((20, 28, 30))}, "
        f"Sampler: {rng.choice(_SAMPLERS)}, CFG scale: {rng.choice((5, 6.5, 7))}, Seed: {seed}, "
        f"Size: {width}x{height}, Model: base"
    ))  # fmt: skip
    written = io.BytesIO()
    shown.save(written, "PNG", pnginfo=info)
    return written.getvalue()


def _sky(rng: random.Random, width: int, height: int, style: int) -> np.ndarray:
    top, bottom = _hue(style * 0.13 + 0.55, 0.35, 0.75), _hue(style * 0.13 + 0.05, 0.45, 0.95)
    blend = np.linspace(0, 1, height)[:, None, None]
    plain = (np.array(top) * (1 - blend) + np.array(bottom) * blend) * np.ones((1, width, 1))
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 2, (height, width, 1))
    return np.clip(plain + noise, 0, 255).astype(np.uint8)


def _sun(draw: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
    x, y, radius = (
        rng.uniform(0.2, 0.8) * width,
        rng.uniform(0.15, 0.4) * height,
        rng.uniform(0.06, 0.13) * width,
    )
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 244, 220))


def _ridge(rng: random.Random, layer: int, width: int, height: int) -> Iterator[tuple[float, float]]:
    base, phase = height * (0.45 + layer * 0.12), rng.uniform(0, 6)
    first, second = rng.uniform(1, 2.5), rng.uniform(3, 6)
    yield 0, height
    for x in range(0, width + 8, 8):
        t = x / width * math.pi
        yield x, base + height * 0.07 * (math.sin(first * t + phase) + 0.4 * math.sin(second * t + 2 * phase))
    yield width, height


def _layer_colour(style: int, layer: int) -> tuple[int, int, int]:
    r, g, b = _hue(style * 0.13 + 0.45 + layer * 0.04, 0.45, 0.7 - layer * 0.12)
    return int(r), int(g), int(b)


def _hue(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return r * 255, g * 255, b * 255
