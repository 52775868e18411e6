"""Charts and pictures for reports, as SVG that follows the page's colours.

Charts are drawn by matplotlib (extra ``report``) with `colours` that stand for those of the page. Their words stay text: they
can be read aloud, searched and enlarged.
"""

import base64
import io
import struct
import textwrap
import warnings
import zlib
from collections.abc import Callable
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, Kind
from emstore.reporter import Panel
from emstore.reports.colours import GROUND, INK, QUIET, RULE, series

LINES: Final = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")


def style_of(number: int) -> dict[str, Any]:
    """Return how the n-th series is drawn: a colour, a line and a marker of its own."""
    return {"color": series(number), "linestyle": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)]}


def chart(paint: Callable[[Any], None], *, alt: str, title: str = "", size: tuple[float, float] = (4.7, 3.4)) -> Panel:
    """Return a chart.

    Parameters
    ----------
    paint : callable
        Draws into the matplotlib Axes it gets; names both axes with their units.
    alt : str
        What it shows, in a sentence or two.
    title : str
        Stands above it.
    size : tuple of float
        Width and height, inches; text has 10 points, whatever the size.

    Raises
    ------
    InvalidInput
        Kind ``missing_extra``: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput("figures need matplotlib", fix="pip install 'emstore[report]'", kind=Kind.MISSING_EXTRA) from error
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "emstore",
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "errorbar.capsize": 2.5,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Words of a script that matplotlib's own font lacks are drawn by the reader's, which has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        if not axes.get_xlabel() or not axes.get_ylabel():
            raise InvalidInput("an axis of a chart has no name", where=title or alt)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Panel(buffer.getvalue(), alt, title)


def broken(words: str) -> str:
    """Return words of a legend or tick in lines short enough for a phone."""
    return textwrap.fill(words, 26)


def legend(axes: Any, columns: int = 2) -> None:
    """Put the legend above the chart, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2, columnspacing=1.2, handlelength=2.6)


def picture(
    values: npt.NDArray[Any],
    *,
    low: float,
    high: float,
    alt: str,
    title: str = "",
    pixel: float | None = None,
    unit: str | None = None,
) -> Panel:
    """Return a grey picture of values, shape (rows, columns), black at `low`, white at `high`, with a bar for its scale.

    Parameters
    ----------
    pixel : float, optional
        Size of a pixel, in `unit`; a bar is drawn only where it is known. Values that are not finite are black.
    """
    height, width = values.shape
    span = high - low if high > low else 1.0
    grey = np.nan_to_num((values.astype(np.float64) - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    data = base64.b64encode(_png(np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8))).decode()
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 260 {260 * height / width:.2f}">']
    parts.append(f'<image width="260" height="{260 * height / width:.2f}" href="data:image/png;base64,{data}"/>')
    if pixel is not None and unit is not None:
        length, bottom = _round(0.3 * width * pixel), 260 * height / width
        long = 260 * length / (width * pixel)
        words = escape(f"{length:g} {unit}")
        parts.append(
            f'<rect x="8" y="{bottom - 34:.1f}" width="{max(long, 62) + 12:.1f}" height="28" fill="{GROUND}" opacity="0.8"/>'
        )
        parts.append(f'<rect x="14" y="{bottom - 14:.1f}" width="{long:.1f}" height="3.5" fill="{INK}"/>')
        parts.append(f'<text x="14" y="{bottom - 18:.1f}" font-size="13" font-family="sans-serif" fill="{INK}">{words}</text>')
    return Panel("".join([*parts, "</svg>"]), alt, title)


def _round(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20 ... that is no longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)) * power)


def _png(grey: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture in eight bits of grey as a PNG file (ISO/IEC 15948): a third of the size of one in colours."""
    height, width = grey.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1).tobytes()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


__all__ = ["LINES", "MARKERS", "broken", "chart", "legend", "picture", "style_of"]
