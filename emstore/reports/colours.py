"""The page's colours, in light and dark, and what stands for them while a picture is drawn.

Series are told apart by line and marker too. Their colours are after Okabe and Ito (jfly.uni-koeln.de/color, 2008), which most
colour-blind readers tell apart, made lighter or darker until each has a contrast of 3 to 1 with its ground (WCAG 2.2, 1.4.11).
"""

from typing import Final

LIGHT_DARK: Final = {
    "--ground": ("#ffffff", "#14171a"),
    "--ink": ("#1b1f23", "#e6e8ea"),
    "--quiet": ("#57606a", "#a6adb4"),
    "--rule": ("#d5d9dd", "#3a4149"),
    "--link": ("#0b57a4", "#7db8f0"),
    "--shade": ("#f3f5f7", "#1e2328"),
    "--series-0": ("#6b6f73", "#a8adb2"),
    "--series-1": ("#0072b2", "#56b4e9"),
    "--series-2": ("#00805c", "#35c79a"),
    "--series-3": ("#c75000", "#ff9a52"),
    "--series-4": ("#a03c78", "#e79cc8"),
    "--series-5": ("#8a6d00", "#e3c13f"),
    "--series-6": ("#5b3fa8", "#b3a0f0"),
    "--series-7": ("#a3262a", "#f08a8c"),
}
"""By the style sheet's variable: in light, in dark."""
SERIES: Final = 8

STAND_INS: Final = {f"#00ff{i:02x}": name for i, name in enumerate(LIGHT_DARK)}
"""Colours to draw with, and the variable each is shown as."""
_BY_NAME: Final = {name: colour for colour, name in STAND_INS.items()}

GROUND: Final = _BY_NAME["--ground"]
INK: Final = _BY_NAME["--ink"]
QUIET: Final = _BY_NAME["--quiet"]
RULE: Final = _BY_NAME["--rule"]


def series(number: int) -> str:
    """Return the colour to draw the n-th series with; they repeat after `SERIES`."""
    return _BY_NAME[f"--series-{number % SERIES}"]


def style_sheet() -> str:
    """Return the rules that define the variables: light, dark where the reader prefers it, and light on paper."""
    light = "".join(f"{name}:{pair[0]};" for name, pair in LIGHT_DARK.items())
    dark = "".join(f"{name}:{pair[1]};" for name, pair in LIGHT_DARK.items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
