"""``cnnbook evaluate`` and ``cnnbook predict``: using a trained network."""

import argparse
import json

from cnnbook import analysis, models, training
from cnnbook.cli.output import show
from cnnbook.tables import Table, printable


def evaluate(chosen: argparse.Namespace) -> int:
    """Print the loss and accuracy of a trained network, and its accuracy on each class."""
    trained = training.load(chosen.model)
    if chosen.data is None and trained.info["data"] is None:
        raise ValueError(
            f"it is not known which data set {chosen.model} was trained on: name one with --data"
        )
    _, test = trained.load_data(chosen.data)
    loss = models.model_spec(trained.info["model"]).loss
    result = training.evaluate(trained.network, test, loss=loss, device=chosen.device)
    summary = {
        "model": trained.info["model"],
        "data": chosen.data or trained.info["data"],
        "images": len(result.labels),
        "loss": result.loss,
        "accuracy": result.accuracy,
    }
    table = by_class(result, trained.classes)
    if chosen.json:
        print(json.dumps(summary | {"classes": table.to_dicts()}, ensure_ascii=False))
    else:
        named = printable(f"{summary['model']} on {summary['data']}")
        print(
            f"{named}: {len(result.labels):,} images, loss "
            f"{result.loss:.4f}, accuracy {result.accuracy:.2%}\n{table}"
        )
    return 0


def by_class(result: training.Evaluation, classes: tuple[str, ...]) -> Table:
    """Return one row per class: its images, their accuracy, and the most frequent mistake.

    Images whose label the loss leaves out do not count.
    """
    labels, predictions = result.labels[result.counted], result.predictions[result.counted]
    matrix = analysis.confusion_matrix(labels, predictions, len(classes)).counts
    rows: list[dict[str, object]] = []
    for number, (name, row) in enumerate(zip(classes, matrix, strict=True)):
        images, right = int(row.sum()), int(row[number])
        mistakes = row.clone()
        mistakes[number] = 0
        rows.append(
            {
                "class": name,
                "images": images,
                "accuracy": right / images if images else None,
                "confused_with": classes[int(mistakes.argmax())] if mistakes.any() else "",
            }
        )
    return Table(
        rows, formats={"accuracy": ".1%"}, labels={"confused_with": "most often confused with"}
    )


def predict(chosen: argparse.Namespace) -> int:
    """Print a trained network's predictions for pictures."""
    rows = training.predict(chosen.model, chosen.image, top=chosen.top, device=chosen.device)
    show(rows, as_json=chosen.json)
    return 0
