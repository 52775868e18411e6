"""SVG documents made part of a page: only what draws stays, names are made unique, colours follow the page's light or dark.

A report's author may draw with any library. Elements and attributes that could run, load or lead somewhere are taken out here;
the page's own security policy would stop them too.
"""

import re
from typing import Final
from xml.etree import ElementTree

from emstore.errors import InvalidInput

_ELEMENTS: Final = frozenset(
    "svg g defs path line polyline polygon rect circle ellipse text tspan use clipPath image title desc "
    "linearGradient radialGradient stop marker symbol".split()
)
_ATTRIBUTES: Final = frozenset(
    "id d x y x1 y1 x2 y2 cx cy r rx ry width height points transform viewBox preserveAspectRatio clip-path clip-rule fill "
    "fill-rule fill-opacity stroke stroke-width stroke-opacity stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin "
    "opacity font-size font-family font-weight text-anchor dominant-baseline gradientUnits gradientTransform offset stop-color "
    "stop-opacity markerWidth markerHeight refX refY orient clipPathUnits style href dx dy".split()
)
_INNER: Final = re.compile(r"url\(\s*['\"]?#([^'\")]*)['\"]?\s*\)")
_USED: Final = re.compile(r"#([A-Za-z0-9_.-]+)")
_OUTER: Final = re.compile(r"url\(\s*['\"]?(?!#)|@import|expression\(|javascript:", re.IGNORECASE)
_EMBEDDED: Final = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]*")
_LONG: Final = re.compile(r"-?\d*\.\d{3,}(?:[eE][-+]?\d+)?")
_NUMBERS: Final = frozenset("d x y x1 y1 x2 y2 cx cy r rx ry width height points transform".split())
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")


def inline(document: str, prefix: str, alt: str, colours: dict[str, str]) -> str:
    """Return an SVG document as an element of an HTML page.

    Parameters
    ----------
    document : str
        SVG with a ``viewBox``.
    prefix : str
        Put before every name in it: no two pictures of a page share one.
    alt : str
        What it shows.
    colours : dict
        Colours (``#rrggbb``, lower case) that stand for what the style sheet says.

    Raises
    ------
    InvalidInput
        It is no SVG document, or has no ``viewBox``.
    """
    if "<!ENTITY" in document:
        raise InvalidInput("a picture with entities of its own is not taken", where=alt)
    try:
        root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", document, count=1))
    except ElementTree.ParseError as error:
        raise InvalidInput(f"a picture is no SVG document: {error}", where=alt) from None
    if _local(root.tag) != "svg" or "viewBox" not in root.attrib:
        raise InvalidInput("a picture is no SVG document with a viewBox", where=alt)
    _clean(root, prefix, colours)
    used = {name for one in root.iter() for value in one.attrib.values() for name in _USED.findall(value)}
    for one in root.iter():
        if one.attrib.get("id") not in used:
            one.attrib.pop("id", None)
    _flatten(root)
    for name in ("width", "height", "style", "id"):
        root.attrib.pop(name, None)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib |= {"role": "img", "aria-label": alt, "style": f"max-width:{width * 1.45:.0f}px"}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(element: ElementTree.Element, prefix: str, colours: dict[str, str]) -> None:
    element.tag = _local(element.tag)
    kept: dict[str, str] = {}
    for name, value in element.attrib.items():
        name = _local(name)
        if name not in _ATTRIBUTES or _OUTER.search(value):
            continue
        if name == "href":
            if value.startswith("#"):
                value = f"#{prefix}{_NAME.sub('_', value[1:])}"
            elif element.tag != "image" or not _EMBEDDED.fullmatch(value):
                continue
        elif name == "id":
            value = prefix + _NAME.sub("_", value)
        else:
            value = _INNER.sub(lambda found: f"url(#{prefix}{_NAME.sub('_', found[1])})", value)
            for colour, variable in colours.items():
                value = value.replace(colour, f"var({variable})")
            if name in ("fill", "stroke", "stop-color") and value.startswith("var("):
                kept["style"] = f"{name}:{value};{kept.get('style', '')}"  # an attribute knows no variables
                continue
        if name in _NUMBERS:  # a hundredth of a point is less than any eye or printer resolves
            value = " ".join(_LONG.sub(lambda found: f"{float(found[0]):.2f}", value).split())
        if name == "style":
            value = re.sub(r"\s*([:;])\s*", r"\1", value)
        kept[name] = f"{kept[name]}{value}" if name == "style" and "style" in kept else value
    element.attrib.clear()
    element.attrib.update(kept)
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) not in _ELEMENTS:
            element.remove(child)
            continue
        _clean(child, prefix, colours)
    if element.tag not in ("text", "tspan", "title", "desc"):
        element.text = None
    element.tail = element.tail if element.tag == "tspan" else None


def _flatten(element: ElementTree.Element) -> None:
    """Take groups away that say nothing of what is in them."""
    for child in element:
        _flatten(child)
    kept = [one for child in element for one in (child if child.tag == "g" and not child.attrib else (child,))]
    for child in list(element):
        element.remove(child)
    element.extend(kept)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
