"""contrast.invert: a processor in a package of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.volume import Volume


class InvertParams(Params):
    """Where the contrast turns."""

    top: int = Field(255, ge=0, description="value that becomes zero, in stored values")


@dataclass(frozen=True)
class Inverted:
    top: int

    def __call__(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        return (self.top - arrays[0].astype(np.int64)).clip(0, 255).astype(np.uint8)


class Invert:
    """Turns bright into dark."""

    name: ClassVar[str] = "contrast.invert"
    version: ClassVar[str] = "2"
    summary: ClassVar[str] = "Bright becomes dark"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = InvertParams

    def plan(self, volumes: Sequence[Volume], params: InvertParams) -> Operation:
        image = volumes[0]
        if image.dtype.kind not in "bui" or image.dtype.itemsize > 1:
            raise InvalidInput(f"it inverts 8-bit images, not {image.dtype}", where=image.name)
        return Operation(Result.like(image, dtype=np.dtype("u1")), Inverted(params.top))
