"""All values of a volume."""

from typing import Any

import numpy.typing as npt

from emstore.volume import Volume


def everything(volume: Volume) -> npt.NDArray[Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]
