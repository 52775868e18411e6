"""Block matching and 3-D filtering (BM3D). The library's licence allows non-commercial use only: an extra of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput, Kind
from emstore.operation import Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.noise import NoiseParams, UnitNoise
from emstore.processors.denoise.selection import Axes, filtered, only
from emstore.processors.denoise.unitwise import Unitwise
from emstore.processors.denoise.values import Floats, notes, result_type
from emstore.volume import Volume

SMALLEST: Final = 16
"""Voxels a slice needs along both axes: the library compares blocks of 8 and ends the process on slices hardly larger."""


class Bm3dParams(NoiseParams):
    """Parameters of `Bm3d`."""

    axes: Axes = Field("slice", description="the two axes of a slice: slice (the last two of space), or their names")


class Bm3d:
    """Filter groups of similar patches together, hard thresholding then Wiener: the library `bm3d`, profile ``np``.

    Patches are matched all over a slice and the library pads as it likes at its border: slices are never cut. One thread, so
    that sums come in the same order every time.

    References
    ----------
    .. [1] K. Dabov et al., "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE Trans. Image Process.
       16 (2007) 2080-2095.
    .. [2] Y. Mäkinen, L. Azzari, A. Foi, "Collaborative filtering of correlated noise", IEEE Trans. Image Process. 29 (2020)
       8339-8354.
    """

    name: ClassVar[str] = "denoise.bm3d"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Filter groups of similar patches of slices (BM3D, Dabov et al. 2007); non-commercial use only"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Bm3dParams

    def plan(self, volumes: Sequence[Volume], params: Bm3dParams) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`.

        Raises
        ------
        InvalidInput
            Kind ``missing_extra`` where the library is not installed.
        """
        if find_spec("bm3d") is None:
            raise InvalidInput(
                "denoise.bm3d needs the library bm3d, whose licence allows non-commercial use only",
                fix="pip install 'emstore[bm3d]'",
                kind=Kind.MISSING_EXTRA,
            )
        volume = only(volumes)
        axes = filtered(volume, params.axes)
        shape = [volume.shape[axis] for axis in axes]
        if len(axes) != 2 or min(shape) < SMALLEST:
            raise InvalidInput(
                f"BM3D works on slices of at least {SMALLEST} by {SMALLEST} voxels; these are {' by '.join(map(str, shape))}",
                where=volume.name,
                fix="use denoise.nlm",
            )
        noise = UnitNoise.of(params, volume, axes)
        dtype = result_type(volume, params.dtype)
        return Operation(
            Result.like(volume, dtype=dtype, notes=(*notes(volume, params.dtype), *noise.notes)),
            Unitwise(_Collaborate(), axes, noise, np.dtype(np.float64), dtype),
            noise.reduction,
            whole=tuple(volume.grid.dims[axis] for axis in axes),
            work_bytes=640.0,
        )


@dataclass(frozen=True)
class _Collaborate:
    def __call__(self, values: Floats) -> Floats:
        bm3d = import_module("bm3d")  # it ships no types
        profile = bm3d.BM3DProfile()
        profile.num_threads = 1
        return np.asarray(bm3d.bm3d(values, 1.0, profile), dtype=np.float64)
