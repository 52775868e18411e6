"""A simulator of made-up crystals, found through a real entry point."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.processor import Params
from emstore.simulator import Simulated
from emstore.volume import MemoryArray, Volume
from emstore.work import Bench
from lattices import crystals

SIMULATORS = ("planted.crystals = planted_crystals:Crystals",)


class CrystalsParams(Params):
    count: int = Field(16, description="images")
    seed: int = Field(1, description="of the crystals")


class Crystals:
    name: ClassVar[str] = "planted.crystals"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Make up crystals"
    params: ClassVar[type[Params]] = CrystalsParams

    def simulate(self, params: CrystalsParams, bench: Bench) -> Sequence[Simulated]:
        values = crystals(params.seed, params.count, size=(32, 32), dose=800)
        sides = [Axis(name, 32, spacing=0.2, unit="angstrom") for name in "yx"]
        grid = Grid((Axis("n", params.count, AxisKind.OTHER), *sides))
        image = Volume("crystals", MemoryArray(values), grid, Header("simulation"), attributes={"quantity": "electrons"})
        return (Simulated("", image), Simulated("second", image))
