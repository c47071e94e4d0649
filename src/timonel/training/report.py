"""The per-class report as a picture, for those who look at runs rather than read files."""

from timonel.training.evaluate import Evaluation

__all__ = ["report_figure"]


def report_figure(evaluation: Evaluation) -> bytes:
    """Precision, recall, F1 and rows of each class, and the metrics of all, as a PNG."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    rows = [
        [str(c.label), f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", f"{c.support:,}"]
        for c in evaluation.classes
    ]
    rows += [
        [name.replace("_", " "), "", "", f"{found.value:.4f}", f"{evaluation.rows:,}"]
        for name, found in evaluation.metrics.items()
    ]
    figure = Figure(figsize=(6.5, 0.6 + 0.25 * (len(rows) + 1)), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axis("off")
    table = axes.table(
        cellText=rows,
        colLabels=["class", "precision", "recall", "F1", "rows"],
        cellLoc="right",
        loc="center",
        bbox=Bbox.unit(),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
