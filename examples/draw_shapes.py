"""Draw examples/shapes: table tops from above, round, square and triangular, a small PNG file each.

Run it anywhere: python examples/draw_shapes.py. The same seed draws the same pictures.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent / "shapes"
EACH, SIDE, FINER, SEED = 24, 32, 4, 7
CORNERS = {"circle": 48, "square": 4, "triangle": 3}
WOODS = [(150, 90, 40), (95, 60, 35), (190, 140, 80), (70, 70, 75)]
FLOORS = [(235, 230, 220), (205, 215, 220), (225, 205, 190)]


def main() -> None:
    """Write every picture."""
    draws = random.Random(SEED)
    for name, corners in CORNERS.items():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            top(corners, draws).save(FOLDER / name / f"{number:02d}.png", optimize=True)


def top(corners: int, draws: random.Random) -> Image.Image:
    """One picture: a regular polygon of wood on a floor, of any size and place, turned a little."""
    side = SIDE * FINER
    image = Image.new("RGB", (side, side), draws.choice(FLOORS))
    radius = side * draws.uniform(0.26, 0.36)
    x, y = (side * draws.uniform(0.42, 0.58) for _ in range(2))
    turn = math.pi / corners - math.pi / 2 + draws.uniform(-0.2, 0.2)
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    ImageDraw.Draw(image).polygon(points, fill=draws.choice(WOODS))
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).quantize(16)


if __name__ == "__main__":
    main()
