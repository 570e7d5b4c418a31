"""``cnnbook models`` and ``cnnbook data``: what is available."""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from cnnbook import analysis, data, models
from cnnbook.cli.output import show
from cnnbook.data import datasets, files, imagenette, sources
from cnnbook.tables import Table


def list_models(chosen: argparse.Namespace) -> int:
    """Print the networks, and the options of those that are named."""
    names = matching(chosen.name)
    table = models_table(names)
    if chosen.json:
        rows = table.to_dicts()
        if names:
            rows = [row | {"options": _plain(str(row["name"]))} for row in rows]
        rows = [row | {"weights": _weights_in_full(str(row["name"]))} for row in rows]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    print(table)
    for name in names:
        options = " ".join(f"{option}={value}" for option, value in _plain(name).items())
        print(f"options of {name}: {options or 'none'}")
        for of, weights in models.model_spec(name).weights.items():
            print(f"weights={of} of {name}: {weights.credit}; from {weights.source}")
    return 0


def matching(names: Sequence[str]) -> list[str]:
    """Return networks by their names or by how these begin.

    Raises
    ------
    ValueError
        If no network has such a name.

    Examples
    --------
    >>> matching(["lenet5", "vgg11"])
    ['lenet5', 'vgg11']
    >>> matching(["lenet"])
    ['lenet5', 'lenet5_1998']
    """
    known = models.list_models()
    found: list[str] = []
    for name in names:
        begin = [name] if name in known else [n for n in known if name and n.startswith(name)]
        if not begin:
            models.model_spec(name)  # raises, and suggests the nearest
        found += [n for n in begin if n not in found]
    return found


def _plain(name: str) -> dict[str, object]:
    """Return a network's options with their defaults, without those that cannot be typed."""
    return {
        option: value
        for option, value in models.model_options(name).items()
        if value is None or isinstance(value, (str, int, float))
    }


def list_data(chosen: argparse.Namespace) -> int:
    """List the data sets, or fetch or verify one."""
    if chosen.action == "list":
        show(data_table(), as_json=chosen.json)
        return 0
    if chosen.name is None:
        raise ValueError(f"which data set? cnnbook data {chosen.action} NAME")
    show(verify_data(chosen.name, download=chosen.action == "fetch"), as_json=chosen.json)
    return 0


def models_table(names: Sequence[str] = ()) -> Table:
    """Return one row per network.

    Parameters
    ----------
    names
        Names as in :func:`cnnbook.models.list_models`; all of them if empty.

    Returns
    -------
    Table
        Columns ``name``, ``paper``, ``input``, ``parameters``, ``macs`` (multiply–adds for one
        image of that input), ``last_layers`` (of a network that fails, why it does) and
        ``weights`` (published ones: name, accuracy as published, license).
    """
    rows = []
    for name in names or models.list_models():
        spec = models.model_spec(name)
        row: dict[str, object] = {
            "name": name,
            "paper": spec.paper,
            "input": "×".join(map(str, spec.input_shape)),
        }
        try:
            row |= _costs(name)
        except Exception as error:  # of a network from outside; the others are listed all the same
            message = (str(error) or type(error).__name__).splitlines()[0]
            row |= {"parameters": None, "macs": None, "last_layers": f"fails: {message}"}
        rows.append(row | {"weights": _weights(spec)})
    return Table(rows)


def _weights_in_full(name: str) -> dict[str, object]:
    """Return a network's published weights, for JSON."""
    return {
        of: {
            "accuracy": dict(weights.accuracy),
            "license": weights.license,
            "credit": weights.credit,
            "source": weights.source,
        }
        for of, weights in models.model_spec(name).weights.items()
    }


def _weights(spec: models.ModelSpec) -> str:
    """Return name, accuracy and license of a network's published weights."""
    return "; ".join(
        ", ".join(
            [
                name,
                *([f"top-1 {weights.accuracy['top1']:.1%}"] if "top1" in weights.accuracy else []),
                weights.license,
            ]
        )
        for name, weights in spec.weights.items()
    )


def _costs(name: str) -> dict[str, object]:
    with torch.device("meta"):  # shapes and counts do not need values
        net = models.create(name)
    layers = analysis.summary(net, models.model_spec(name).input_shape)
    run = [str(row["layer"]) for row in layers.rows if row["output"]]
    return {
        "parameters": layers.total_parameters,
        "macs": layers.total_macs,
        "last_layers": " ".join(run[-3:]),
    }


def data_table() -> Table:
    """Return one row per data set: its name, where its files are, and their size in bytes."""
    rows: list[dict[str, object]] = []
    for name in data.list_datasets():
        made_from = sources.MADE_FROM.get(name)
        where, size = _files_of(made_from or name)
        if made_from is not None:  # its source has a row of its own, with the bytes
            where, size = f"made from {made_from}, {where}", None
        rows.append({"name": name, "where": where, "bytes": size})
    rows.append({"name": "imagefolder:PATH", "where": "a folder of yours", "bytes": None})
    return Table(rows)


def _files_of(name: str) -> tuple[str, int | None]:
    """Return where a data set's files are, in words, and their size in bytes."""
    if (datasets.ASSETS / name).is_dir():
        return "in the package", _size([datasets.ASSETS / name])
    wanted = sources.published_files(name)
    found = [path for file in wanted if (path := _find(name, file.name)) is not None]
    missing = len(wanted) - len(found)
    where = f"{missing} of {len(wanted)} files missing" if missing else str(found[0].parent)
    if name == "imagenette" and (unpacked := imagenette.unpacked()) is not None:
        found, where = [unpacked], str(unpacked)
    return where, _size(found)


def _find(dataset: str, file: str) -> Path | None:
    candidates = (folder / file for folder in files.search_folders(dataset))
    return next((path for path in candidates if os.path.isfile(path)), None)


def _size(paths: Iterable[Path]) -> int:
    return sum(
        file.stat().st_size
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    )


def verify_data(name: str, *, download: bool) -> Table:
    """Read a data set, verify every file's checksum, and count the images.

    Parameters
    ----------
    name
        As in :func:`cnnbook.data.load`.
    download
        Whether missing files may be downloaded.

    Returns
    -------
    Table
        One row per part: ``part``, ``images``, ``classes``, and the images of the smallest and
        the largest class.

    Raises
    ------
    DataError
        If a file is missing or damaged. For an image folder, every image is decoded.
    """
    rows = []
    for part in data.load(name, download=download):
        if isinstance(part, data.ImageFolder):
            for index in range(len(part)):
                part.read(index, lambda image: image)
        counts = torch.bincount(part.labels, minlength=len(part.classes))
        rows.append(
            {
                "part": part.name,
                "images": len(part),
                "classes": len(part.classes),
                "smallest_class": int(counts.min()),
                "largest_class": int(counts.max()),
            }
        )
    return Table(rows)
