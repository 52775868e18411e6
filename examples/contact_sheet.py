"""Draw versions as one picture: a labelled tile each, in true proportions, grey levels as the scan says or by percentile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import emstore
from emstore.geometry import Affine, AxisKind, Space, units

COLUMNS = 4
TILE = 300
CAPTION = 100
INSET = 12
GAP = 18
HEADER = 64
BACKGROUND = (17, 20, 24)
PANEL = (28, 32, 38)
TEXT = (235, 238, 242)
FAINT = (150, 158, 170)
PLAIN = str.maketrans({"Å": "Angstrom", "µ": "u"})
"""Letters that the font of the picture has not, and what stands for them."""


@dataclass(frozen=True)
class Tile:
    """One picture and what to say of it."""

    image: Image.Image
    lines: tuple[str, ...]


def draw(versions: Sequence[emstore.Version], path: Path) -> None:
    """Write a contact sheet of some versions as a PNG."""
    tiles = [tile(version) for version in versions]
    rows = -(-len(tiles) // COLUMNS)
    width = COLUMNS * TILE + (COLUMNS + 1) * GAP
    height = HEADER + rows * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 18), "emstore", TEXT, ImageFont.load_default(26))
    pen.text((width - GAP, 26), f"{len(tiles)} sealed versions", FAINT, ImageFont.load_default(16), anchor="ra")
    for index, each in enumerate(tiles):
        left = GAP + (index % COLUMNS) * (TILE + GAP)
        top = HEADER + (index // COLUMNS) * (TILE + CAPTION + GAP)
        pen.rounded_rectangle((left, top, left + TILE, top + TILE + CAPTION), 8, PANEL)
        sheet.paste(each.image, (left + (TILE - each.image.width) // 2, top + (TILE - each.image.height) // 2))
        for row, line in enumerate(each.lines):
            font = ImageFont.load_default(17 if row == 0 else 13)
            at = (left + INSET, top + TILE + 8 + row * 19 + (row > 0) * 4)
            pen.text(at, fitted(line, font, TILE - 2 * INSET), TEXT if row == 0 else FAINT, font)
    sheet.save(path)


def fitted(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return a line, without its middle where it is wider than so many pixels: both ends of a name tell."""
    kept = len(line)
    while font.getlength(shown := line if kept == len(line) else f"{line[: kept - kept // 2]}...{line[-(kept // 2) :]}") > width:
        kept -= 1
    return shown


def tile(version: emstore.Version) -> Tile:
    """Return the middle slice of a version, scaled to fit, and its caption; of a table, its figures of the whole."""
    if version.is_table:
        return figures(version)
    volume = version.volume()
    axes = volume.grid.axes
    colour = axes[-3].kind is AxisKind.CHANNEL and axes[-3].size in (3, 4) if len(axes) >= 3 else False
    fixed = len(axes) - (3 if colour else 2)
    region = tuple(slice(axis.size // 2, axis.size // 2 + 1) for axis in axes[:fixed]) + (slice(None),) * (len(axes) - fixed)
    plane = volume.data[region].reshape([axis.size for axis in axes[fixed:]])

    if colour:
        grey, levels = np.moveaxis(plane[:3], 0, -1), "colour as stored"
    else:
        low, high = volume.window or tuple(round(float(v)) for v in np.percentile(plane, (1, 99.5)))
        grey, levels = stretched(plane, low, high), f"window {low:g} to {high:g}"

    if volume.grid.affine is not None:
        grey = upright(grey, volume.grid.affine)
    image = Image.fromarray(np.ascontiguousarray(grey))
    step = [axis.median_step() or 1.0 for axis in axes[-2:]]
    tall, wide = image.height * step[0], image.width * step[1]
    scale = (TILE - 2 * INSET) / max(tall, wide)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if size[0] > 8 * image.width else Image.Resampling.BICUBIC)

    at = ", ".join(f"{axis.name} {axis.size // 2 + 1}/{axis.size}" for axis in axes[:fixed])
    shape = ", ".join(f"{axis.name} {axis.size}" for axis in axes)
    return Tile(
        image.convert("RGB"),
        (
            str(version.place),
            f"{shape}   {volume.dtype}",
            made_by(version) if version.record.inputs else spacing(version),
            "   ".join(part for part in (levels, at) if part),
        ),
    )


def figures(version: emstore.Version) -> Tile:
    """Return the figures of the whole of a table as a picture of text."""
    table = version.table()
    image = Image.new("RGB", (TILE - 2 * INSET, TILE - 2 * INSET), BACKGROUND)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(17)
    known = [(name, value) for name, value in table.summary.items() if value is not None]
    for row, (name, value) in enumerate(known[:10]):
        pen.text((INSET, INSET + row * 26), name, FAINT, font)
        shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        pen.text((image.width - INSET, INSET + row * 26), shown, TEXT, font, anchor="ra")
    columns = f"{table.rows} rows: {', '.join(table.columns)}"
    return Tile(image, (str(version.place), fitted(columns, ImageFont.load_default(13), TILE - 2 * INSET), made_by(version)))


def made_by(version: emstore.Version) -> str:
    """Return what made a version, and from what."""
    record = version.record
    return " ".join((record.activity.name, *(f"of {each.ref}" for each in record.inputs)))


def stretched(plane: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return a plane as 8-bit grey, `low` black and `high` white."""
    span = (high - low) or 1.0
    return (np.clip((plane.astype(np.float64) - low) / span, 0, 1) * 255).round().astype(np.uint8)


def upright(plane: npt.NDArray[np.uint8], affine: Affine) -> npt.NDArray[np.uint8]:
    """Return a plane as radiologists look at it: front or head on top, the patient's right side on the left."""
    if affine.space is Space.INSTRUMENT:
        return plane
    steps = affine.to(Space.LPS).array[:3, :3]
    for axis, column in ((0, 1), (1, 2)):
        world = int(np.argmax(np.abs(steps[:, column])))
        # LPS: x and y should grow rightwards and downwards, z (up the body) should not.
        if (steps[world, column] > 0) == (world == 0):
            plane = np.flip(plane, axis)
    return plane


def spacing(version: emstore.Version) -> str:
    """Return the voxel size for people, or that it is unknown."""
    known = [axis for axis in version.grid().axes if axis.known and axis.kind in (AxisKind.SPACE, AxisKind.TIME)]
    if not known:
        return "spacing unknown"
    parts = []
    for axis in known:
        step = axis.median_step()
        if step is None:
            parts.append(f"{axis.name} ?")
            continue
        value, unit = units.readable(step, axis.unit or "")
        parts.append(f"{axis.name} {value:.4g} {units.symbol(unit).translate(PLAIN)}".rstrip())
    return ", ".join(parts)
