"""Verdicts as one page of HTML that needs nothing but itself: sentences first, then pictures."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape

from timonel.monitoring.drift import ColumnVerdict, Finding, Verdict
from timonel.monitoring.pictures import Histogram

__all__ = ["html_of"]

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #17212e; --soft: #4a586a; --line: #d5dbe3;
  --reference: #aab6c5; --window: #1b5fb4; --bad: #b3261e; --good: #23744a; --open: #8a5a00 }
@media (prefers-color-scheme: dark) {
  :root { --page: #10161e; --ink: #e9eef5; --soft: #b3bfcd; --line: #2c3745;
    --reference: #5c6b7d; --window: #7fb2f2; --bad: #ff9a90; --good: #6fcf97; --open: #e0b050 } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.25rem; margin-top: 2.5rem }
h3 { font-size: 1.05rem; margin: 0 } section { border-top: 1px solid var(--line); padding: 1rem 0 }
.drift { color: var(--bad) } .ok { color: var(--good) } .open { color: var(--open) }
p { margin: .4rem 0 } .soft, figcaption { color: var(--soft); font-size: .9rem }
figure { margin: .6rem 0 } svg { width: 100%; height: auto; display: block }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif }
.of-reference { fill: var(--reference) } .of-window { fill: var(--window) }
.line { fill: none; stroke: var(--window); stroke-width: 2 }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .15rem .9rem .15rem 0;
  text-align: left; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
"""
_CLASSES = {"drift": "drift", "ok": "ok", "not enough data": "open"}
_WIDTH, _HEIGHT = 720, 150
_ROW, _LABELS = 24, 220
_LETTERS = 34


def html_of(verdicts: Mapping[str, Verdict], *, made: float) -> str:
    """The page for verdicts by version's label; `made` is when (s since 1970)."""
    body = "".join(_version(label, verdict) for label, verdict in verdicts.items())
    title = f"Drift of {', '.join(verdicts) or 'nothing'}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">Made {_time(made)}. Grey is the reference, '
        f"blue the window.</p>\n{body}</body>\n</html>\n"
    )


def _version(label: str, verdict: Verdict) -> str:
    period = ""
    if verdict.since is not None and verdict.until is not None:
        period = f"Rows from {_time(verdict.since)} to {_time(verdict.until)}. "
    held = (
        f"Thresholds rest on {verdict.blocks:,} blocks of neighbouring rows. "
        if verdict.blocks
        else ""
    )
    columns = "".join(_column(column) for column in verdict.columns)
    return (
        f'<h2>{escape(label)}</h2>\n<p class="{_CLASSES[verdict.state]}"><strong>'
        f"{escape(verdict.sentence())}</strong></p>\n"
        f'<p class="soft">{period}A window without drift alarms with a chance of '
        f"{verdict.alarm:g}, over all columns together: {verdict.false_alarms_a_week:.2g} false "
        f"alarms a week. {held}{escape(verdict.note)}</p>\n{columns}"
    )


def _column(column: ColumnVerdict) -> str:
    said = "drift" if column.drifted else ("not watched" if column.excluded else "no drift")
    style = "drift" if column.drifted else ("soft" if column.excluded else "ok")
    figure = _bars(column.histogram) if column.kind == "number" else _pairs(column.histogram)
    return (
        f'<section>\n<h3>{escape(column.name)}: <span class="{style}">{said}</span></h3>\n'
        + "".join(f"<p>{escape(sentence)}</p>\n" for sentence in _sentences(column))
        + f"<figure>{figure}</figure>\n{_findings(column)}</section>\n"
    )


def _sentences(column: ColumnVerdict) -> Iterator[str]:
    if column.since is not None:
        yield f"Since {_time(column.since)}."
    if column.means is not None:
        yield f"Its mean went from {column.means[0]:.4g} to {column.means[1]:.4g}."
    for name, shares in (("missing", column.missing), ("unseen before", column.unseen)):
        if shares and max(shares) > 0:
            yield f"Values {name}: {shares[0]:.2%} in the reference, {shares[1]:.2%} in the window."
    if column.examples:
        told = (f"{e.value} ({e.reference:.1%} → {e.window:.1%})" for e in column.examples)
        yield f"Grew most: {', '.join(told)}."


def _findings(column: ColumnVerdict) -> str:
    if not column.findings:
        return ""
    rows = "".join(_finding(finding) for finding in column.findings)
    head = "".join(
        f'<th class="n">{name}</th>' for name in ("distance", "threshold", "chance", "detectable")
    )
    return f"<table><tr><th>of</th><th>statistic</th>{head}</tr>{rows}</table>\n"


def _finding(finding: Finding) -> str:
    chance = "&lt; 0.0001" if finding.p_all < 1e-4 else f"{finding.p_all:.2g}"
    numbers = (f"{finding.distance:.3g}", f"{finding.threshold:.3g}", chance)
    cells = "".join(f'<td class="n">{n}</td>' for n in (*numbers, f"{finding.detectable:.3g}"))
    return f"<tr><td>{finding.aspect}</td><td>{finding.statistic}</td>{cells}</tr>"


def _bars(histogram: Histogram) -> str:
    """A number's distributions: bars of the reference under the line of the window."""
    count = max(len(histogram.labels), 1)
    top = max((*histogram.reference, *histogram.window), default=0.0) or 1.0
    width, base = _WIDTH / count, _HEIGHT - 20
    heights = [[share / top * (base - 6) for share in side] for side in _sides(histogram)]
    bars = "".join(
        f'<rect class="of-reference" x="{n * width:.1f}" y="{base - h:.1f}" '
        f'width="{width * 0.94:.1f}" height="{h:.1f}"/>'
        for n, h in enumerate(heights[0])
    )
    steps = "".join(f"V{base - h:.1f}h{width:.1f}" for h in heights[1])
    places = sorted({0, count // 4, count // 2, 3 * count // 4, count - 1})
    anchors = {0: "start", count - 1: "end"}
    labels = "".join(
        f'<text x="{(n + (n + 1) / count) * width:.1f}" y="{_HEIGHT - 4}" '
        f'text-anchor="{anchors.get(n, "middle")}">{escape(histogram.labels[n])}</text>'
        for n in places
        if n < len(histogram.labels)
    )
    line = f'<path class="line" d="M0 {base}{steps}V{base}"/>'
    return _svg(_HEIGHT, f"{bars}{line}{labels}", "Shares of rows by range")


def _pairs(histogram: Histogram) -> str:
    """A category's distributions: two bars for each value."""
    top = max((*histogram.reference, *histogram.window), default=0.0) or 1.0
    room = _WIDTH - _LABELS - 110
    drawn = []
    rows = zip(histogram.labels, histogram.reference, histogram.window, strict=True)
    for n, (label, reference, window) in enumerate(rows):
        y = n * _ROW
        name = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
        drawn.append(
            f'<text x="{_LABELS - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="of-reference" x="{_LABELS}" y="{y + 3}" height="8" '
            f'width="{reference / top * room:.1f}"/>'
            f'<rect class="of-window" x="{_LABELS}" y="{y + 12}" height="8" '
            f'width="{window / top * room:.1f}"/>'
            f'<text x="{_LABELS + max(reference, window) / top * room + 6:.1f}" y="{y + 15}">'
            f"{reference:.1%} → {window:.1%}</text>"
        )
    return _svg(max(len(drawn), 1) * _ROW, "".join(drawn), "Shares of rows by value")


def _sides(histogram: Histogram) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return histogram.reference, histogram.window


def _svg(height: int, drawn: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img"><title>{title}: reference and window'
        f"</title>{drawn}</svg>"
    )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
