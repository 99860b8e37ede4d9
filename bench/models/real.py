"""What the real models are fed: pages with writing, voices; sizes as in use."""

from __future__ import annotations

import numpy as np

from .store import Feeds


def page(height: int, width: int, n: int = 1) -> np.ndarray:
    """Pictures of something like writing, dark strokes on light paper: (n,3,height,width) in [-1, 1]."""
    rng = np.random.default_rng(height * width + n)
    pages = np.full((n, height, width), 0.9)
    for picture in pages:
        for _ in range(width * height // 400):
            y, x = int(rng.integers(2, height - 10)), int(rng.integers(2, width - 10))
            tall = rng.random() < 0.5
            h, w = (int(rng.integers(4, 10)), 2) if tall else (2, int(rng.integers(4, 10)))
            picture[y:y + h, x:x + w] = 0.1
    pages = pages + rng.normal(0, 0.02, pages.shape)
    return np.repeat(((pages - 0.5) / 0.5)[:, None], 3, 1).astype(np.float32)


def voice(samples: int, rate: int, n: int = 1) -> np.ndarray:
    """Sound with a pitch, overtones and some noise: (n,samples) in [-1, 1]."""
    rng = np.random.default_rng(samples + n)
    t = np.arange(samples) / rate
    wave = sum(np.sin(2 * np.pi * rng.uniform(90, 240, (n, 1)) * k * t) / k for k in range(1, 6))
    return (0.3 * wave + rng.normal(0, 0.01, (n, samples))).astype(np.float32)


def silero() -> Feeds:
    """32 ms of sound at 16 kHz and the last eighth of the piece before."""
    return {"input": voice(576, 16000), "sr": np.array(16000, np.int64),
            "state": np.random.default_rng(0).normal(0, 0.3, (2, 1, 128)).astype(np.float32)}


def basic_pitch() -> Feeds:
    """Two seconds at 22050 Hz."""
    return {"serving_default_input_2:0": voice(43844, 22050)[..., None]}
