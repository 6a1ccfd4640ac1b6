"""How far apart two colours look: OKLab distance times 100, also in simulated colour blindness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcowtui.views.palette import RGB

Matrix = NDArray[np.float64]

#: Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
VISIONS: dict[str, Matrix] = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colour: RGB, vision: str = "normal") -> Matrix:
    """Lightness and two opponent axes, each times 100."""
    part = np.array(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISIONS[vision] @ linear, 0, 1)
    result: Matrix = _TO_LAB @ np.cbrt(_TO_LMS @ seen) * 100
    return result


def distance(one: RGB, other: RGB, vision: str = "normal") -> float:
    return float(np.linalg.norm(oklab(one, vision) - oklab(other, vision)))
