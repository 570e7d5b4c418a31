"""Storing many similar pictures in few bytes.

The pictures of an explorer repeat one another: the same letters, axes and photographs. Everything a
picture defines under a name (glyphs, markers, clipping frames, bitmaps) gets a name derived from
its content, so that pictures that share it can refer to one copy.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

from cnnbook.plots.bitmaps import smaller

HREF = "{http://www.w3.org/1999/xlink}href"
REFERENCE = r"(^#|url\(#)([^)]+)"
USE = re.compile(r"<use((?: (?:style|transform)='[^']*')*) href='#([^']+)'/>")


def compact(svg: str, *, exact: bool = False) -> tuple[str, dict[str, str]]:
    """Split a picture into what it draws and what it refers to.

    Parameters
    ----------
    svg
        An ``<svg>`` element as :meth:`cnnbook.plots.Figure.svg` returns it.
    exact
        Whether every pixel stays as it is, and every group except words where it is: coordinates
        are not rounded, and bitmaps not compressed again.

    Returns
    -------
    tuple of str and dict
        The element without its definitions; and the definitions, ``{id: element}``. The picture is
        complete on any page that holds its definitions, see :func:`definitions`.
    """
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.text and not element.text.strip():
            element.text = None
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            short = _shortened(name, value, _same if exact else _round)
            element.set("href" if name == HREF else name.rpartition("}")[2], short)
    root.attrib.pop("version", None)

    # matplotlib's style sheet would apply to the whole page.
    for parent in list(root.iter("defs")):
        for sheet in parent.findall("style"):
            parent.remove(sheet)
    root.set("style", root.get("style", "") + ";stroke-linejoin:round;stroke-linecap:butt")
    _drop_invisible(root)
    if not exact:
        _move_bitmaps(root)
    found = _take_named(root)
    # Words occur many times, in many pictures; the letters they refer to have been named by now.
    for group in list(root.iter("g")):
        if len(group) > 1 and {child.tag for child in group} == {"use"}:
            content = ElementTree.Element("g")
            content.extend(group)
            for child in list(group):
                group.remove(child)
            group.tag = "use"
            group.set("href", "#" + _add(content, found))
    figure = root.find("g")
    if figure is not None and not exact:
        _share_groups(figure, found, depth=2)
    return _text(root), found


def inlined(picture: str, parts: dict[str, str]) -> str:
    """Return a picture with the definitions that only it needs put back where they are used.

    Parameters
    ----------
    picture, parts
        What :func:`compact` returned, or only some of the parts. Those that have to stay
        definitions come before the picture, in an invisible element.
    """
    mentions = Counter(re.findall(r"#([^')]+)", picture + "".join(parts.values())))
    rest = dict(parts)

    def put_back(use: re.Match) -> str:
        attributes, name = use.groups()
        if mentions[name] > 1 or name not in rest:
            return use[0]
        content = rest.pop(name).replace(f" id='{name}'", "", 1)
        if attributes:
            if content.startswith("<g>"):
                content = content.removeprefix("<g>").removesuffix("</g>")
            content = f"<g{attributes}>{content}</g>"
        return USE.sub(put_back, content)

    picture = USE.sub(put_back, picture)
    return (definitions(rest) if rest else "") + picture


def definitions(parts: dict[str, str]) -> str:
    """Return an invisible ``<svg>`` element that holds definitions."""
    # Not display:none, in which browsers disable some definitions.
    return (
        "<svg width='0' height='0' style='position:absolute' aria-hidden='true'><defs>"
        f"{''.join(parts.values())}</defs></svg>"
    )


def _take_named(root: ElementTree.Element) -> dict[str, str]:
    """Extract from a picture what it refers to by name, and name it after its content."""
    values = [value for element in root.iter() for value in element.attrib.values()]
    referred = {name for value in values for _, name in re.findall(REFERENCE, value)}
    parents = {child: parent for parent in root.iter() for child in parent}
    found, new_names = {}, {}
    for element in list(root.iter()):
        old = element.attrib.pop("id", None)
        if old in referred:
            new_names[old] = _add(element, found)
            parents[element].remove(element)
    for empty in [e for e in root.iter("defs") if len(e) == 0]:
        parents[empty].remove(empty)
    for element in root.iter():
        for attribute, value in element.attrib.items():
            renamed = re.sub(REFERENCE, lambda m: m[1] + new_names.get(m[2], m[2]), value)
            element.set(attribute, renamed)
    return found


def _share_groups(element: ElementTree.Element, found: dict[str, str], depth: int) -> None:
    """Turn axes, and what is in them, into definitions: whole panels may recur elsewhere."""
    for child in element:
        if child.tag == "g":
            if depth > 1:
                _share_groups(child, found, depth - 1)
            content = ElementTree.Element("g", child.attrib)
            content.extend(child)
            child.clear()
            child.tag = "use"
            child.set("href", "#" + _add(content, found))


def _add(element: ElementTree.Element, found: dict[str, str]) -> str:
    """Add a definition to those already found, and return its name."""
    digest = hashlib.sha256(_text(element).encode()).digest()
    # 35 bits: short, because names make up most of a compact picture, and enough for a page's few
    # thousand.
    name = "d" + base64.b32encode(digest)[:7].decode().lower()
    element.set("id", name)
    found[name] = _text(element)
    return name


def _text(element: ElementTree.Element) -> str:
    text = ElementTree.tostring(element, encoding="unicode")
    # Single quotes need no escape in the JSON that carries the picture.
    return text.replace("'", "&#39;").replace('"', "'").replace(" />", "/>")


def _shortened(name: str, value: str, rounded: Callable[[str], str]) -> str:
    """Round coordinates, except scales; remove needless spaces."""
    if name == "d":
        return re.sub(r"\s*([MLHVCSQTAZz])\s*", r"\1", rounded(value)).strip()
    if name in ("x", "y", "width", "height", "points"):
        return rounded(value)
    if name == "transform":
        return re.sub(r"translate\([^)]*\)", lambda match: rounded(match[0]), value)
    if name == "style":
        # The older name of the same rule is for browsers of ten years ago.
        value = value.replace("image-rendering:crisp-edges;", "")
        return re.sub(r"([:;]) ", r"\1", value)
    return value


def _same(text: str) -> str:
    return text


def _round(numbers: str) -> str:
    """Round to a hundredth of a point."""

    def shortest(match: re.Match) -> str:
        return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")

    return re.sub(r"-?\d*\.\d+(?:e[-+]?\d+)?", shortest, numbers).strip()


def _drop_invisible(element: ElementTree.Element) -> None:
    """Remove frames that are neither filled nor stroked, and empty groups."""
    for child in list(element):
        _drop_invisible(child)
        unseen = child.tag == "path" and child.get("style") == "fill:none"
        if unseen or (child.tag == "g" and len(child) == 0):
            element.remove(child)


def _move_bitmaps(root: ElementTree.Element) -> None:
    """Turn each bitmap into a definition and a reference to it."""
    holder = ElementTree.SubElement(root, "defs")
    for image in list(root.iter("image")):
        content = {
            name: image.attrib.pop(name)
            for name in ("width", "height", "style", "preserveAspectRatio")
            if name in image.attrib
        }
        content["href"] = smaller(image.attrib.pop("href"))
        image.attrib.pop("id", None)
        name = "bitmap" + str(len(holder))
        ElementTree.SubElement(holder, "image", {"id": name, **content})
        image.tag = "use"
        image.set("href", f"#{name}")
