"""Write the page of the reference on which networks are followed, from what was compared.

`tools/compare_networks.py` makes the results and calls this.
"""

import re
from collections import Counter, defaultdict
from datetime import date

# Why a receptive field is refused: what a message begins with, and what stands behind it.
REASONS = {
    "tensors are joined along a dimension of positions": "A class token joins the tokens of "
    "the image. From then on, positions are no longer those of a grid.",
    "its rows and columns are not those of the image": "Rows and columns are exchanged on the way, "
    "as where attention is computed along one side.",
    "positions are chosen by": "Which positions are picked depends on values.",
    "its positions are split into windows": "Inside a window of attention, units are numbered by "
    "window, not by row and column.",
    "a window slides over positions that a reshape has split up": "A convolution runs over tokens "
    "that were regrouped.",
    "paths with and without positions meet": "One operand has positions, the other sees "
    "everything, in an order that is not the same.",
    "neighboring units share one field, others do not": "All units of a window see the same "
    "pixels, so that the boxes do not move from unit to unit by a fixed number of pixels.",
    "some of its units see nothing of the image": "A class token, or a mean over tokens, starts "
    "from a weight, not from the image.",
    "its units are not the rows of a grid": "Tokens are in a different order from the pixels.",
    "its units do not lie on one grid": "Tokens of several scales, or a class token, follow one "
    "another.",
    "nothing is known about the operation 'roll'": "Shifted windows: the feature maps are rolled "
    "around, and a unit at the border sees both sides of the image.",
    "nothing is known about the operation 'index'": "Positions are picked by an index, which is "
    "only known as values.",
    "nothing is known about the operation 'unsafe_split'": "An LSTM runs over rows and columns.",
    "nothing is known about the operation 'im2col'": "Neighborhoods are unfolded and folded back.",
    "nothing is known about the operation 'unfold'": "Neighborhoods overlap.",
}

# Networks with boxes that are larger than needed, by what is documented, and why.
BOUNDS = {
    "timm/tnt_s_patch16_224": "`tnt_s_patch16_224` cuts the image into patches and convolves each "
    "with padding of its own; there, too, boxes are bounds.",
}

# Operations that fvcore counts though they are no products of weights or of feature maps.
NOT_PRODUCTS = {
    "batch_norm": "batch normalization",
    "layer_norm": "layer normalization",
    "group_norm": "group normalization",
    "instance_norm": "instance normalization",
    "adaptive_avg_pool2d": "adaptive average pooling",
    "upsample_bilinear2d": "bilinear upsampling",
    "upsample_nearest2d": "nearest upsampling",
}

# Products that fvcore does not count, or counts differently.
BY_HAND = {
    "conv": 'has no rule for a convolution with `padding="same"`',
    "attention": "has no rule for `scaled_dot_product_attention`; queries times keys and weights "
    "times values are missing",
    "lstm": "has no rule for LSTM",
    "baddbmm": "has no rule for `baddbmm`",
    "matmul": "counts a `matmul` whose operands broadcast as if they did not",
    "einsum": "takes another order of the contractions in `einsum`",
}

# Why Grad-CAM is not compared for some layers.
NOTES = {
    "cannot tell where the channels are": "for which the comparison cannot tell which dimension "
    "holds the channels",
    "returns several tensors": "that return several tensors",
}


def percent(part, whole):
    """Return a share in whole percent, 100 only for all."""
    return f"{100 * part // whole if whole else 100} %"


def names(rows, most=12):
    """Return names of networks in one line, or how many there are."""
    all_names = [row["name"].split("/")[1] for row in rows]
    if len(all_names) <= most:
        return ", ".join(f"`{name}`" for name in all_names)
    return f"{len(all_names)} networks"


def many(number, thing):
    """Return a number with a noun in the singular or plural."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def table(head, rows):
    """Return a Markdown table; columns of numbers are right-aligned."""
    align = [
        "---:" if rows and all(re.fullmatch(r"[\d,. %–]*", str(row[i])) for row in rows) else "---"
        for i in range(len(head))
    ]
    lines = [head, align, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def dropdown(title, text):
    """Return a folded block."""
    return f"````{{admonition}} {title}\n:class: dropdown\n\n{text}\n````"


def reason_of(text):
    """Return a reason without what differs from layer to layer."""
    return re.sub(r"\(.*?\)", "(…)", text.split(";")[0])


def sentence(reason):
    """Return what a reason means, in words."""
    for beginning, meaning in REASONS.items():
        if reason.startswith(beginning):
            return meaning
    return ""


def page(results, families, wrong):
    """Return the page in MyST Markdown.

    Parameters
    ----------
    results
        What `compare_networks.py` writes.
    families
        The family of each network by name.
    wrong
        Function that returns what is wrong about a network.
    """
    about, rows = results["about"], results["networks"]
    whole = [row for row in rows if "fails" not in row]
    day = date.fromisoformat(about["date"])
    libraries = ", ".join(f"{name} {number}" for name, number in about.items() if name != "date")
    count = Counter(row["name"].split("/")[0] for row in rows)
    parts = [
        "<!-- Written by tools/compare_networks.py --page; do not edit. -->",
        "# Which networks are followed",
        "`analysis` promises numbers about *any* network, and never a wrong one: what it cannot "
        "follow, it refuses, with the reason. This page puts the promise to the test. On "
        f"{day:%B} {day.day}, {day.year}, a program took {len(rows)} networks with random weights "
        "and compared these numbers with other libraries, with gradients and with counts by hand: "
        f"all {count['torchvision']} classification networks of torchvision, and {count['timm']} "
        "of timm, small ones from each of its families. Whenever the book is tested, a sample of "
        "them is compared again.",
        f"Versions: {libraries}. The [results](networks-followed.json) are one line per network.",
        "## In short",
        *short(whole),
        *open_questions(rows, wrong),
        "## Receptive fields",
        *receptive_fields(whole, families),
        "(fvcore)=\n## Multiply–adds",
        *multiply_adds(whole),
        "## Grad-CAM and occlusion",
        *attribution(whole),
        "## Every network",
        everything(rows),
    ]
    return "\n\n".join(parts) + "\n"


def short(rows):
    """Return the results in a few lines."""
    n = len(rows)
    fields = [row["fields"] for row in rows if "fails" not in row["fields"]]
    total = {key: sum(f[key] for f in fields) for key in ("layers", "followed", "constant")}
    total |= {key: sum(f.get(key, 0) for f in fields) for key in ("checked", "inside", "equal")}
    outside = sum(len(f.get("outside", [])) for f in fields)
    wide = sum(len(f.get("wide", [])) for f in fields)
    macs = [row["macs"] for row in rows if "fails" not in row["macs"]]
    same = sum(m["ours"] == m["torch"] for m in macs)
    explained = sum(m.get("unexplained") == 0 == m.get("unexplained_conv") for m in macs)
    parameters = sum(row["parameters"]["ours"] == row["parameters"]["torch"] for row in rows)
    cams = [c for row in rows for c in row.get("attribution", {}).get("grad_cam", [])]
    captum = [c["captum"] for c in cams if "captum" in c]
    definition = [c["definition"] for c in cams if "definition" in c]
    occlusion = [row["attribution"].get("occlusion") for row in rows]
    occlusion = [o for o in occlusion if o is not None]
    unchanged = sum(
        not row["changed"] and not row["attribution"].get("changed", []) for row in rows
    )
    listed = total["layers"] - total["constant"]
    yield "\n".join(
        [
            f"- **Parameters** equal the sum over the network in {parameters} of {n} networks.",
            f"- **Multiply–adds** equal torch's own counter in {same} of {len(macs)}. In "
            f"{explained}, they also equal fvcore's to the last digit, once the operations that "
            "fvcore counts in another way are set aside; they are listed [below](#fvcore).",
            f"- **Receptive fields**: {total['followed']:,} of {listed:,} layers that depend on "
            f"the image are followed ({percent(total['followed'], listed)}); the others are "
            f"refused. Of {total['checked']:,} units looked at, "
            f"{outside or 'none'} depend on a pixel outside their box. "
            f"{total['inside']:,} of these boxes lie inside the image; "
            f"{total['inside'] - wide:,} of them are exactly as large as the gradients require.",
            f"- **Grad-CAM** agrees with Captum's in {sum(d < 1e-6 for d in captum)} of "
            f"{len(captum)} layers, and with its definition in "
            f"{sum(d < 1e-6 for d in definition)} of {len(definition)}.",
            f"- **Occlusion** agrees with Captum's in {sum(o < 1e-6 for o in occlusion)} of "
            f"{len(occlusion)} networks.",
            f"- **Left as they were**: weights, modes, hooks, random numbers, and every tensor "
            f"that the network refers to, in {unchanged} of {n}.",
        ]
    )


def open_questions(rows, wrong):
    """Return what is not right, if anything."""
    found = [(row["name"], text) for row in rows for text in wrong(row)]
    if not found:
        yield "No comparison found a contradiction."
        return
    yield "## What is not right yet"
    lines = [f"- `{name}`: {text}" for name, text in found]
    yield "\n".join(lines)


def receptive_fields(rows, families):
    """Return what is followed, and what is refused and why."""
    yield (
        "A receptive field is a box in the image and a step from unit to unit. It is right if no "
        "pixel outside the box has a gradient. To see every path, the comparison gives the network "
        "random positive weights, and replaces ReLU with the identity and maxima with averages; it "
        "runs in double precision, so that no gradient fades to zero. Of each network, up to ten "
        "layers are examined, spread from first to last, and of each layer a unit in the middle, "
        "one in the corner and one at random. At the border, where windows reach into padding, the "
        "clipped box is a bound; inside the image it has to be exact."
    )
    good = [row for row in rows if "fails" not in row["fields"]]
    for row in good:
        if row["name"] in BOUNDS and row["fields"].get("wide"):
            yield BOUNDS[row["name"]]
    yield (
        "One apparent contradiction was an error in torch. On the CPU, its gradient of batch "
        "normalization for a single image mixes up positions and channels if the next layer works "
        "on tokens, as in `xcit_nano_12_p16_224` (torch 2.12); changing the pixel itself shows "
        "which is right. The analyses and this comparison pass gradients on in a form "
        "that torch reads correctly."
    )
    state = defaultdict(list)
    for row in good:
        f = row["fields"]
        listed = f["layers"] - f["constant"]
        kind = "all" if f["followed"] == listed else "some" if f["followed"] else "none"
        state[kind].append(row)
    yield (
        f"All layers are followed in {len(state['all'])} networks, some in {len(state['some'])}, "
        f"none in {len(state['none'])}. Layers are refused for these reasons (with the numbers "
        "of networks and layers):"
    )
    networks, layers = defaultdict(set), Counter()
    for row in good:
        for text, n in row["fields"]["refused"].items():
            networks[reason_of(text)].add(row["name"])
            layers[reason_of(text)] += n
    lines = []
    for reason, n in layers.most_common():
        meaning = sentence(reason)
        lines.append(
            f"- *{reason}*: {many(len(networks[reason]), 'network')}, "
            f"{many(n, 'layer')}. {meaning}".rstrip()
        )
    yield "\n".join(lines)
    yield (
        "A layer is refused if any operation before it is; a single one near the image therefore "
        "costs all layers behind it. [`analysis.operation`](package/analysis.md) adds what is "
        "missing."
    )
    by_family = defaultdict(list)
    for row in good:
        by_family[families[row["name"]]].append(row)
    lines = []
    for family, members in sorted(by_family.items()):
        listed = sum(r["fields"]["layers"] - r["fields"]["constant"] for r in members)
        followed = sum(r["fields"]["followed"] for r in members)
        lines.append((family, len(members), percent(followed, listed)))
    yield dropdown(
        f"Layers followed, by family ({len(lines)})",
        table(("family", "networks", "followed"), lines),
    )


def multiply_adds(rows):
    """Return the differences between counters, by cause."""
    yield (
        "`summary(...).total_macs` counts multiply–adds of convolutions and matrix products, those "
        "of attention included. [fvcore](https://github.com/facebookresearch/fvcore) counts some "
        "further operations and leaves out others. Convolutions alone agree exactly; so do all "
        "products together, once what fvcore leaves out is counted by hand from the shapes of the "
        "operands."
    )
    good = [row for row in rows if "fails" not in row["macs"]]
    lines = []
    for operator, words in NOT_PRODUCTS.items():
        with_it = [r for r in good if r["macs"].get("not_products", {}).get(operator)]
        if with_it:
            most = max(r["macs"]["not_products"][operator] / r["macs"]["ours"] for r in with_it)
            lines.append((f"counts {words}", len(with_it), f"+{100 * most:.1f} %"))
    others = {k for r in good for k in r["macs"].get("not_products", {}) if k not in NOT_PRODUCTS}
    for operator in sorted(others):
        with_it = [r for r in good if r["macs"].get("not_products", {}).get(operator)]
        most = max(r["macs"]["not_products"][operator] / r["macs"]["ours"] for r in with_it)
        lines.append((f"counts `{operator}`", len(with_it), f"+{100 * most:.1f} %"))
    kinds = defaultdict(list)
    for row in good:
        for by in row["macs"].get("by_hand", []):
            share = 100 * (by["fvcore"] - by["hand"]) / row["macs"]["ours"]
            kinds[by["kind"]].append((share, row))
    for kind, found in kinds.items():
        share = max((s for s, _ in found), key=abs)
        lines.append((BY_HAND[kind], len(found), f"{share:+.1f} %".replace("-", "−")))
    yield table(("fvcore", "networks", "at most, of our total"), lines)
    for kind, found in kinds.items():
        yield f"Where fvcore {BY_HAND[kind]}: {names([r for _, r in found], most=60)}."
    failed = [r for r in good if "fvcore_fails" in r["macs"]]
    if failed:
        yield f"fvcore itself does not get through {names(failed, most=60)}."
        yield "\n".join(
            f"- `{r['name'].split('/')[1]}`: `{r['macs']['fvcore_fails']}`" for r in failed
        )


def attribution(rows):
    """Return how Grad-CAM and occlusion were compared."""
    cams = [(row, c) for row in rows for c in row["attribution"].get("grad_cam", [])]
    last = [row for row, c in cams if c.get("channels_last")]
    yield (
        "Both run in double precision, on a small random image if the network takes one, and for a "
        "class whose map is not zero everywhere if there is one. Up to three layers of each "
        "network are examined; occlusion covers sixteen squares or a few more."
    )
    if last:
        yield (
            "Captum takes the first dimension after the batch for the channels. In networks that "
            f"keep channels last ({names(list({r['name']: r for r in last}.values()), most=40)}), "
            "Grad-CAM is therefore compared with its definition alone."
        )
    refused = Counter()
    for _, c in cams:
        if "refused" in c:
            refused[re.sub(r"'[^']*'", "…", c["refused"])] += 1
    notes = Counter(c["note"] for _, c in cams if "note" in c)
    if refused:
        yield "What Grad-CAM refuses:"
        yield "\n".join(f"- {text} ({many(n, 'layer')})" for text, n in refused.most_common())
    if notes:
        lines = [f"{many(n, 'layer')} {NOTES[text]}" for text, n in notes.most_common()]
        yield f"Not compared are {' and '.join(lines)}."
    occlusion = Counter(row["attribution"].get("note", "") for row in rows)
    skipped = occlusion["occlusion takes too long here"]
    if skipped:
        yield f"In {skipped} networks, occlusion would take too long and was not compared."


def everything(rows):
    """Return one line for each network, folded."""
    blocks = []
    for library in ("torchvision", "timm"):
        lines = []
        for row in rows:
            if not row["name"].startswith(f"{library}/"):
                continue
            name = f"`{row['name'].split('/')[1]}`"
            if "fails" in row or "fails" in row["fields"]:
                lines.append((name, "", "", ""))
                continue
            f = row["fields"]
            lines.append(
                (
                    name,
                    f"{row['macs'].get('ours', 0) / 1e9:.2f}",
                    percent(f["followed"], f["layers"] - f["constant"]),
                    f.get("checked", 0),
                )
            )
        if lines:
            head = ("network", "GMACs", "layers followed", "units")
            blocks.append(dropdown(f"{library} ({len(lines)})", table(head, lines)))
    return "\n\n".join(blocks)
