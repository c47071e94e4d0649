"""The model card: what a person should know of a version, from facts that were recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

from timonel.signature import Signature
from timonel.training.evaluate import Evaluation

__all__ = ["card"]


def card(
    *,
    signature: Signature,
    version: str,
    description: str,
    evaluation: Evaluation,
    origin: str,
    dataset: str,
    rows: Mapping[str, int],
    notes: Sequence[str] = (),
    embedded: bool = False,
    estimator: str = "",
    parameters: Mapping[str, Any] | None = None,
    cross_validation: tuple[float, float] | None = None,
    seed: int = 0,
    gate: str = "",
    made: str = "",
) -> str:
    """A version's card as Markdown.

    `version` is a label such as `penguins/rf@4`; `dataset` the data's hash; `rows` counts by split;
    `embedded` says that the data is the small default; `cross_validation` is mean and spread;
    `gate` its sentence; `made` a date.
    """
    parts = [f"# {version}\n"]
    if description:
        parts.append(f"{description}\n")
    facts = {
        "predicts": f"`{signature.target}`: {', '.join(map(str, signature.classes))}",
        "model": estimator,
        "parameters": ", ".join(f"{k}={v!r}" for k, v in (parameters or {}).items()),
        "seed": str(seed),
        "made": made,
        "gate": gate,
    }
    parts.append("".join(f"- **{name}**: {fact}\n" for name, fact in facts.items() if fact))
    parts.append(_data(origin, dataset, rows, notes, embedded))
    parts.append(_results(evaluation, cross_validation))
    parts.append(
        "## Inputs\n\n| field | takes |\n|---|---|\n"
        + "".join(f"| `{c.name}` | {_cell(c.allows())} |\n" for c in signature.columns)
    )
    parts.append(_use(signature))
    return "\n".join(parts)


def _data(
    origin: str, dataset: str, rows: Mapping[str, int], notes: Sequence[str], embedded: bool
) -> str:
    lines = [
        "## Data\n",
        f"- **origin**: {origin}",
        f"- **hash**: `{dataset}`",
        f"- **rows**: {', '.join(f'{name} {count:,}' for name, count in rows.items())}",
    ]
    if embedded:
        lines.append(
            "- **Note**: this is the small data set that ships with the package, used because "
            "nothing better could be reached; expect less of this version."
        )
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _results(evaluation: Evaluation, cross_validation: tuple[float, float] | None) -> str:
    text = (
        f"## Results on {evaluation.rows:,} held-out rows\n\n"
        f"| metric | value | {evaluation.confidence:.0%} interval |\n|---|--:|--:|\n"
    )
    for name, found in evaluation.metrics.items():
        text += f"| {name} | {found.value:.4f} | {found.low:.4f} – {found.high:.4f} |\n"
    if cross_validation is not None:
        mean, spread = cross_validation
        text += (
            f"\nCross-validated {evaluation.metric} on the training rows: {mean:.4f} "
            f"(standard deviation over folds {spread:.4f}).\n"
        )
    text += "\n| class | precision | recall | F1 | rows |\n|---|--:|--:|--:|--:|\n"
    for report in evaluation.classes:
        text += (
            f"| {_cell(str(report.label))} | {report.precision:.4f} | {report.recall:.4f} | "
            f"{report.f1:.4f} | {report.support:,} |\n"
        )
    return text


def _use(signature: Signature) -> str:
    name = f"{signature.project}/{signature.model}"
    row = {column.name: _example(column) for column in signature.columns}
    arguments = (
        f"{{{signature.columns[0].name!r}: [… {signature.columns[0].image.size} numbers …]}}"
        if signature.columns[0].image
        else repr(row)
    )
    return (
        f'## Use\n\n```python\nimport timonel\n\ntimonel.load("{name}").predict({arguments})\n```\n'
    )


def _example(column: Any) -> Any:
    if column.kind == "category":
        return column.categories[0] if column.categories else "…"
    if column.kind == "boolean":
        return False
    low = column.ge if column.ge is not None else column.gt
    high = column.le if column.le is not None else column.lt
    if low is not None and high is not None:
        value = (low + high) / 2
    else:
        value = low + 1 if low is not None else high - 1 if high is not None else 1
    return round(value) if column.kind == "integer" else round(float(value), 3)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
