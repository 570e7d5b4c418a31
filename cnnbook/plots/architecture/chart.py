"""Where the boxes of a flowchart are, and how they are drawn.

A chart is laid out from top to bottom. Ranks are its levels; parallel paths are in lanes side by
side. All lengths are inches, and y is 0 at the top of a panel and negative below.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from cnnbook.plots.architecture.boxes import KIND_COLORS, Box
from cnnbook.plots.architecture.drawing import rounded
from cnnbook.plots.architecture.layout import LINE, Point, assign_lanes
from cnnbook.plots.architecture.nodes import TEXT, text_width
from cnnbook.plots.style import INK

PAD = 0.03  # between a box and its text
MARGIN = 0.04  # around a panel
BLOCK_MARGIN = 0.08  # beside a residual block, in addition
LANE_GAP = 0.035
JOIN = 0.09  # radius
GAP = 0.13  # between ranks, for an arrow …
GAP_WITH_TEXT = 0.28  # … with a line of text beside it
GROUP_PAD = 0.04
ARC = 0.14  # from a box to the arrow that passes it
BESIDE = 0.07  # between an arrow and the text beside it
LEGEND_WIDTH = 3.6
RESHAPED = "shortcut that changes the shape"


@dataclass
class Panel:
    """One column of a chart: boxes that are connected, the first of them at the top."""

    boxes: list[Box]
    title: str = ""
    footer: list[str] = field(default_factory=list)
    detailed: bool = False  # with activations and shapes beside the arrows
    block: bool = False  # with the names that the paper gives to a residual block
    width: float = 0.0
    height: float = 0.0
    arcs: dict[tuple[int, int], int] = field(default_factory=dict)  # levels of arrows that skip
    residual_x: float = 0.0  # where F(x) is written
    heads: list[list[Box]] = field(default_factory=list)  # beside the main path
    groups: list[list[Box]] = field(default_factory=list)  # with a background of their own
    headings: set[int] = field(default_factory=set)  # ranks above which a group has its name

    @property
    def main(self) -> list[Box]:
        """The boxes of the main path, with its branches."""
        beside = {id(box) for head in self.heads for box in head}
        return [box for box in self.boxes if id(box) not in beside]

    def lines(self, box: Box) -> list[str]:
        """Return the text in a box."""
        if box.kind in ("join", "connector"):
            return []
        if box.kind == "input":
            return [("$x$" if self.block else box.label) + f"   {box.size}"]
        if box.kind == "concat":
            return [f"{box.group or box.label}   {box.size}"]
        return [box.label, *box.notes]


def set_ranks(boxes: Sequence[Box]) -> None:
    """Set the level of each box: the longest way to it."""
    for box in boxes:
        box.rank = 1 + max((boxes[i].rank for i in box.inputs), default=-1)


def main_path(boxes: Sequence[Box]) -> list[int]:
    """Return the numbers of the boxes that lead to the end that is farthest from the input."""
    end = max(range(len(boxes)), key=lambda i: (boxes[i].rank, i))
    if boxes[-1].kind == "connector":
        end = len(boxes) - 1
    found, new = {end}, [end]
    while new:
        new = [i for i in boxes[new.pop()].inputs if i not in found] + new
        found.update(new)
    return sorted(found)


def cuts(boxes: Sequence[Box]) -> list[int]:
    """Return the numbers of boxes that every way along the main path goes through."""
    main = main_path(boxes)
    out = []
    for i in main:
        rank = boxes[i].rank
        alone = sum(boxes[k].rank == rank for k in main) == 1
        passed = any(boxes[k].rank < rank < boxes[n].rank for n in main for k in boxes[n].inputs)
        if alone and not passed:
            out.append(i)
    return out


def lay_out(panel: Panel) -> None:
    """Set the sizes and positions of a panel's boxes, and its own size."""
    boxes = panel.boxes
    set_ranks(boxes)
    main = main_path(boxes)
    panel.heads = _heads(boxes, set(main))
    stretch: list[Box] = []
    ends = cuts(boxes)
    for i in main:
        if i in ends:
            _set_lanes(boxes, stretch, boxes[i])
            stretch = []
        else:
            stretch.append(boxes[i])
    _find_groups(panel, [boxes[i] for i in main])
    _set_sizes(panel)
    _set_shown(panel)
    _set_y(panel)
    _set_x(panel)


def _set_lanes(boxes: list[Box], stretch: list[Box], end: Box) -> None:
    assign_lanes(boxes, stretch)
    if end.kind == "join":  # the path with the layers stays in the middle, others pass beside it
        for box in stretch:
            box.lane += (box.lanes - 1) / 2


def _heads(boxes: Sequence[Box], main: set[int]) -> list[list[Box]]:
    """Return what leads away from the main path and ends, as auxiliary classifiers do."""
    head_of: dict[int, list[Box]] = {}
    heads = []
    for i, box in enumerate(boxes):
        if i in main:
            continue
        head = next((head_of[k] for k in box.inputs if k in head_of), None)
        if head is None:
            head = []
            heads.append(head)
        head.append(box)
        head_of[i] = head
    return heads


def _find_groups(panel: Panel, main: list[Box]) -> None:
    for box in main if not panel.block else ():
        if panel.groups and box.group and panel.groups[-1][0].group == box.group:
            panel.groups[-1].append(box)
        else:
            panel.groups.append([box])
    panel.groups = [group for group in panel.groups if len(group) > 2]
    panel.headings = {g[0].rank for g in panel.groups if g[-1].kind != "concat"}


def _set_sizes(panel: Panel) -> None:
    beside = {id(box) for head in panel.heads for box in head}
    for box in panel.boxes:
        if box.short and (box.lanes > 2 or id(box) in beside):
            box.label = box.short
    pad = 0.07 if panel.detailed else PAD
    for box in panel.boxes:
        lines = panel.lines(box)
        bold = box.kind == "concat"
        box.width = 2 * pad + max((text_width(t, bold=bold) for t in lines), default=0.0)
        box.height = LINE * len(lines) + (0.1 if panel.detailed else 0.05)
        if box.kind in ("join", "connector"):
            box.width = box.height = 2 * JOIN
    main = panel.main
    side_by_side = [box for box in main if box.lanes > 2]
    alone = [box for box in main if box.lanes <= 2]
    for members in (side_by_side, alone, *panel.heads):
        narrow = [b for b in members if b.kind not in ("join", "connector", "concat", "input")]
        for box in narrow:
            box.width = max(b.width for b in narrow)


def _set_shown(panel: Panel) -> None:
    """Decide whose shape is written beside an arrow: where it is new, between layers."""
    main = panel.main
    inside = {id(box) for group in panel.groups for box in group[:-1]}
    last = panel.boxes[0].shape
    for box in main:
        alone = sum(b.rank == box.rank for b in main) == 1
        new = panel.detailed or (alone and box.shape != last and id(box) not in inside)
        end = box is main[-1] and not panel.block
        box.shown = new and not end and box.kind not in ("input", "concat", "connector")
        if box.shown or box.kind in ("concat", "connector"):
            last = box.shape


def _set_y(panel: Panel) -> None:
    main = panel.main
    y = -MARGIN - (LINE + 0.04 if panel.title else 0)
    for rank in range(max(box.rank for box in main) + 1):
        level = [box for box in main if box.rank == rank]
        if rank in panel.headings:
            y -= LINE + GROUP_PAD
        height = max(box.height for box in level)
        for box in level:
            box.y = y - height / 2
        y -= height
        y -= GAP_WITH_TEXT if panel.detailed or any(b.shown for b in level) else GAP
    for box in main:  # a box on a shortcut is beside the middle of what it passes
        readers = [b for b in main if _reads(panel, b, box)]
        if box.lane > 0 and box.lanes == 2 and [b.kind for b in readers] == ["join"]:
            source = panel.boxes[box.inputs[0]]
            box.y = (source.y - source.height / 2 + readers[0].y) / 2
    low = min(box.y - box.height / 2 for box in main)
    for head in panel.heads:
        y = panel.boxes[head[0].inputs[0]].y - GAP
        for box in head:
            box.y = y - box.height / 2
            y -= box.height + GAP
        low = min(low, y + GAP)
    panel.height = MARGIN - low
    if panel.block:
        panel.height += GAP_WITH_TEXT + 0.04
    if panel.footer:
        panel.height += LINE * len(panel.footer) + 0.06


def _reads(panel: Panel, reader: Box, box: Box) -> bool:
    return any(panel.boxes[i] is box for i in reader.inputs)


def _set_x(panel: Panel) -> None:
    main = panel.main
    wide = max((b.width for b in main if b.lanes > 1), default=0.0)
    step = wide + LANE_GAP + (0.2 if panel.detailed else 0)
    for box in main:
        box.x = box.lane * step
    for box in main:  # a concatenation reaches over what it joins
        if box.kind == "concat":
            parts = [panel.boxes[i] for i in box.inputs]
            reach = max(abs(p.x) + p.width / 2 for p in parts)
            box.width = max(box.width, 2 * reach)
    left = min(box.x - box.width / 2 for box in main)
    right = max(box.x + box.width / 2 for box in main)
    if panel.groups:
        left, right = left - GROUP_PAD, right + GROUP_PAD
    panel.arcs = arc_levels(panel)
    if panel.arcs:
        inner = max(b.x + b.width / 2 for b in main if b.lanes == 1)
        right = max(right, inner + ARC * max(panel.arcs.values()) + GROUP_PAD)
        if panel.block:
            right += text_width("identity") + 0.12
    for box in main:
        if box.shown and text_side(panel, box) == "left":
            left = min(left, box.x - BESIDE - text_width(box.size))
        elif box.shown:
            right = max(right, box.x + BESIDE + text_width(box.size))
    if panel.block:
        panel.residual_x = left - 2 * BESIDE
        left -= text_width("F(x)") + 4 * BESIDE
        (join,) = (box for box in main if box.kind == "join")
        left = min(left, join.x - JOIN - BESIDE - text_width("H(x) = F(x) + Wx"))
        left, right = left - BLOCK_MARGIN, right + BLOCK_MARGIN
    for head in panel.heads:
        width = max(box.width for box in head)
        names = [text_width(line, bold=True) for line in head_lines(head)]
        for box in head:
            box.x = right + 0.06 + max(width, *names) / 2
    if panel.heads:
        right = max(
            h[0].x + max(h[0].width, *map(text_width, head_lines(h))) / 2 for h in panel.heads
        )
    texts = [text for text in (panel.title, *panel.footer) if text]
    least = max((text_width(t, bold=True) for t in texts), default=0.0)
    shift = MARGIN - left + max(0.0, least - (right - left)) / 2
    for box in panel.boxes:
        box.x += shift
    panel.residual_x += shift
    panel.width = max(right - left, least) + 2 * MARGIN


def text_side(panel: Panel, box: Box) -> str:
    """Return on which side of the arrow below a box its shape is written."""
    starts_arc = any(panel.boxes[i] is box for b in panel.main for i in skips(panel, b))
    activated = panel.detailed and box.lane == 0
    return "left" if starts_arc or activated else "right"


def head_lines(head: Sequence[Box]) -> list[str]:
    """Return the name of a head, broken before its last part."""
    first, _, last = head[0].group.rpartition("_")
    return [first, last] if first else [last]


def skips(panel: Panel, box: Box) -> list[int]:
    """Return the inputs of a box from which an arrow passes beside other boxes."""
    return [i for i in box.inputs if passed(panel, panel.boxes[i], box)]


def passed(panel: Panel, source: Box, box: Box) -> list[Box]:
    """Return the boxes in the way of a straight arrow."""
    if source.lane != box.lane or box not in panel.main:
        return []
    between = (b for b in panel.main if b.lane == box.lane)
    return [b for b in between if source.rank < b.rank < box.rank]


def arc_levels(panel: Panel) -> dict[tuple[int, int], int]:
    """Return how far out the arrow of each skip passes, from 1 for the shortest."""
    arcs = [(i, k) for k, box in enumerate(panel.boxes) for i in skips(panel, box)]
    levels: dict[tuple[int, int], int] = {}
    ranks = [box.rank for box in panel.boxes]
    for i, k in sorted(arcs, key=lambda arc: ranks[arc[1]] - ranks[arc[0]]):
        overlapping = (
            level
            for (a, b), level in levels.items()
            if ranks[a] < ranks[k]
            and ranks[i] < ranks[b]
            and panel.boxes[b].lane == panel.boxes[k].lane
        )
        levels[i, k] = 1 + max(overlapping, default=0)
    return levels


def draw(axes: Axes, panel: Panel) -> None:
    """Draw a panel into axes of its size."""
    axes.set(xlim=(0, panel.width), ylim=(-panel.height, 0))
    axes.set_axis_off()
    if panel.title:
        axes.text(panel.width / 2, -MARGIN, panel.title, **_text("center", "top", "bold"))
    for i, line in enumerate(reversed(panel.footer)):
        y = -panel.height + MARGIN + i * LINE
        axes.text(panel.width / 2, y, line, **_text("center", "bottom"))
    for group in panel.groups:
        _draw_group(axes, panel, group)
    for box in panel.boxes:
        for i in box.inputs:
            _draw_arrow(axes, panel, panel.boxes[i], box)
    for box in panel.boxes:
        _draw_box(axes, panel, box)
        _draw_texts(axes, panel, box)
    if panel.block:
        _name_parts(axes, panel)
    for head in panel.heads:
        source = panel.boxes[head[0].inputs[0]]
        for i, line in enumerate(reversed(head_lines(head))):
            y = source.y + 0.04 + i * LINE
            axes.text(head[0].x, y, line, **_text("center", "bottom", "bold"))


def _text(ha: str, va: str, weight: str = "normal") -> dict[str, object]:
    return {"ha": ha, "va": va, "size": TEXT, "weight": weight}


def _draw_group(axes: Axes, panel: Panel, group: list[Box]) -> None:
    head = LINE + GROUP_PAD if group[0].rank in panel.headings else 0.0
    left = min(b.x - b.width / 2 for b in group) - GROUP_PAD
    right = max(b.x + b.width / 2 for b in group) + GROUP_PAD
    numbers = [k for k, box in enumerate(panel.boxes) if any(box is b for b in group)]
    levels = [level for (_, k), level in panel.arcs.items() if k in numbers]
    if levels:
        right += ARC * max(levels) + GROUP_PAD / 2
    top = max(b.y + b.height / 2 for b in group) + GROUP_PAD + head
    bottom = min(b.y - b.height / 2 for b in group) - GROUP_PAD
    fill = {"fc": INK, "ec": "none", "alpha": 0.07}
    axes.add_patch(_box_patch(left, bottom, right - left, top - bottom, **fill))
    if head:
        axes.text(left + PAD, top - 0.03, group[0].group, **_text("left", "top", "bold"))


def _box_patch(x: float, y: float, w: float, h: float, **style: object) -> FancyBboxPatch:
    return FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.04", **style)


def _draw_box(axes: Axes, panel: Panel, box: Box) -> None:
    if box.kind in ("join", "connector"):
        axes.add_patch(Circle((box.x, box.y), JOIN, fc="none", ec=INK, lw=1.2))
        size = 12 if box.kind == "join" else TEXT
        axes.text(box.x, box.y, box.label, ha="center", va="center_baseline", size=size)
        return
    x, y = box.x - box.width / 2, box.y - box.height / 2
    if box.kind != "input":
        alpha = 0.1 if box.kind == "concat" else 0.28
        fill = {"fc": box.color, "ec": "none", "alpha": alpha}
        axes.add_patch(_box_patch(x, y, box.width, box.height, **fill))
        axes.add_patch(_box_patch(x, y, box.width, box.height, fc="none", ec=box.color, lw=1.1))
    lines = panel.lines(box)
    for i, line in enumerate(lines):
        weight = "bold" if box.kind == "concat" or line == "weight layer" else "normal"
        middle = box.y + ((len(lines) - 1) / 2 - i) * LINE
        axes.text(box.x, middle, line, **_text("center", "center_baseline", weight))


def _draw_arrow(axes: Axes, panel: Panel, source: Box, box: Box) -> None:
    if passed(panel, source, box):
        _draw_arc(axes, panel, source, box)
    else:
        axes.add_patch(_arrow(_route(panel, source, box)))


def _draw_texts(axes: Axes, panel: Panel, box: Box) -> None:
    """Write what belongs to the arrow below a box."""
    y = box.y - box.height / 2 - (GAP_WITH_TEXT / 2 if panel.detailed else 0.11)
    if box.shown and text_side(panel, box) == "left":
        axes.text(box.x - BESIDE, y, box.size, **_text("right", "center_baseline"))
    elif box.shown:
        axes.text(box.x + BESIDE, y, box.size, **_text("left", "center_baseline"))
    if panel.detailed and box.activation:
        axes.text(box.x + BESIDE, y, box.activation, **_text("left", "center_baseline"))


def _arrow(points: Sequence[Point], radius: float = 0.07, **style: object) -> FancyArrowPatch:
    return FancyArrowPatch(
        path=rounded(points, radius),
        arrowstyle="-|>,head_length=3.5,head_width=2",
        **{"color": INK, "lw": 1.0, "joinstyle": "round", "capstyle": "butt"} | style,
    )


def _route(panel: Panel, source: Box, box: Box) -> list[Point]:
    bottom, top = source.y - source.height / 2, box.y + box.height / 2
    if any(box is b for head in panel.heads for b in head) and source in panel.main:
        return [(source.x + source.width / 2, source.y), (box.x, source.y), (box.x, top)]
    if box.kind == "concat" and source.kind != "concat":
        return [(source.x, bottom), (source.x, top)]
    if source.kind == "concat" and abs(box.x - source.x) < source.width / 2:
        return [(box.x, bottom), (box.x, top)]
    if box.kind == "join" and source.lane > box.lane:
        return [(source.x, bottom), (source.x, box.y), (box.x + JOIN, box.y)]
    if source.lane == box.lane or abs(source.x - box.x) < 1e-6:
        return [(source.x, bottom), (box.x, top)]
    between = bottom - (0.12 if panel.detailed else GAP / 2)
    if abs(source.lane) > abs(box.lane) or (source.shown and not panel.detailed):
        between = top + GAP / 2
    return [(source.x, bottom), (source.x, between), (box.x, between), (box.x, top)]


def _draw_arc(axes: Axes, panel: Panel, source: Box, box: Box) -> None:
    number = {id(b): i for i, b in enumerate(panel.boxes)}
    level = panel.arcs[number[id(source)], number[id(box)]]
    dashed = number[id(source)] in box.reshaped
    high = source.y - source.height / 2 - (0.12 if panel.detailed else GAP / 2)
    x = max(b.x + b.width / 2 for b in (box, *passed(panel, source, box))) + ARC * level
    points = [(source.x, high), (x, high), (x, box.y), (box.x + box.width / 2, box.y)]
    axes.add_patch(_arrow(points, 0.3 if panel.detailed else 0.12, ls="--" if dashed else "-"))
    if panel.block:
        middle = (high + box.y) / 2
        for i, line in enumerate(("$x$", "identity")):
            axes.text(x + 0.06, middle + (0.5 - i) * LINE, line, **_text("left", "center_baseline"))


def _name_parts(axes: Axes, panel: Panel) -> None:
    """Write the paper's names beside a residual block, and an arrow that leaves it."""
    join = next(box for box in panel.boxes if box.kind == "join")
    residual = [b for b in panel.main if b.lane == 0 and 0 < b.rank < join.rank]
    x, tick = panel.residual_x, BESIDE
    high, low = residual[0].y + residual[0].height / 2, residual[-1].y - residual[-1].height / 2
    axes.plot([x + tick, x, x, x + tick], [high, high, low, low], color=INK, lw=1)
    axes.text(x - BESIDE, (high + low) / 2, "$F(x)$", **_text("right", "center_baseline"))
    identity = bool(skips(panel, join))
    total = "$H(x) = F(x) + x$" if identity else "$H(x) = F(x) + W_s x$"
    axes.text(join.x - JOIN - BESIDE, join.y, total, **_text("right", "center_baseline"))
    last = panel.main[-1]
    bottom = last.y - last.height / 2
    axes.add_patch(_arrow([(last.x, bottom), (last.x, bottom - GAP_WITH_TEXT)]))


def _legend_rows(kinds: Sequence[str], dashed: bool) -> list[list[tuple[float, str]]]:
    """Return the entries of a legend with their positions, in rows that fit on a phone."""
    rows: list[list[tuple[float, str]]] = [[]]
    x = MARGIN
    for entry in [*kinds, *([RESHAPED] if dashed else [])]:
        width = 0.16 + text_width(entry) + 0.16
        if rows[-1] and x + width > LEGEND_WIDTH:
            rows.append([])
            x = MARGIN
        rows[-1].append((x, entry))
        x += width
    return rows


def legend_size(kinds: Sequence[str], dashed: bool) -> tuple[float, float]:
    """Return the width and height of a legend."""
    rows = _legend_rows(kinds, dashed)
    width = max(x + 0.16 + text_width(entry) for row in rows for x, entry in row) + 2 * MARGIN
    return width, 1.2 * LINE * len(rows) + 2 * MARGIN


def draw_legend(axes: Axes, kinds: Sequence[str], dashed: bool) -> None:
    """Draw the colors of boxes, and what a dashed arrow means."""
    width, height = legend_size(kinds, dashed)
    axes.set(xlim=(0, width), ylim=(-height, 0))
    axes.set_axis_off()
    for i, row in enumerate(_legend_rows(kinds, dashed)):
        y = -MARGIN - (i + 0.5) * 1.2 * LINE
        for x, entry in row:
            if entry == RESHAPED:
                axes.plot([x - 0.02, x + 0.13], [y, y], color=INK, lw=1, ls="--")
            else:
                color = KIND_COLORS[entry]
                style = {"fc": color, "ec": color, "alpha": 0.6}
                axes.add_patch(_box_patch(x, y - 0.055, 0.11, 0.11, **style))
            axes.text(x + 0.16, y, entry, **_text("left", "center_baseline"))
