"""A self-contained HTML page without scripts, and its elements.

The controller of a parallel test run compares nothing: it imports this, and no framework.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any


# Colours of Okabe and Ito, which colour-blind readers can tell apart.
GOOD, BAD = "#0072b2", "#d55e00"
STYLE = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto;
  padding: 0 1.5rem; }}
h1 {{ font-size: 1.3rem; }}
h2 {{ font-size: 1.5rem; margin: 3rem 0 0.3rem; }}
h3 {{ font-size: 1.05rem; margin: 2rem 0 0.5rem; }}
.verdict {{ border-left: 0.5rem solid {GOOD}; padding: 0.4rem 1rem; background: #eef5fa; }}
.differs.verdict {{ border-color: {BAD}; background: #fdf1e8; }}
.verdict b {{ color: {GOOD}; }}
.differs b, tr.differs td:first-child, tr.differs td:last-child {{ color: #b34700; }}
.verdict p {{ margin: 0.2rem 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }}
th, td {{ padding: 0.2rem 0.8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e4e4; }}
th {{ font-weight: 600; color: #555; }}
th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left; }}
tr.differs {{ background: #fdf1e8; font-weight: 600; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
img {{ max-width: 100%; height: auto; }}
footer, .note {{ color: #555; font-size: 0.85rem; }}
code {{ font-size: 0.9em; }}
"""


def page(sections: Sequence[tuple[str, bool, str]]) -> str:
    """Returns a page of sections (title, passed, body), with a list on top if there are several."""
    count, bad = len(sections), sum(not passed for _, passed, _ in sections)
    title = f"parity: {count} comparison{'s' * (count != 1)}, {bad} differ{'s' * (bad == 1)}"
    links, content = "", ""
    for i, (name, passed, body) in enumerate(sections):
        state, word = ("", "agrees") if passed else ("differs", "differs")
        link = f'<a href="#r{i}">{html.escape(name)}</a>'
        links += f'<tr class="{state}"><td>{link}</td><td>{word}</td></tr>'
        content += f'<section id="r{i}"><h2>{html.escape(name)}</h2>{body}</section>'
    index = f"<h1>{title}</h1><table>{links}</table>" if count != 1 else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{index}{content}</body></html>"
    )


def verdict(passed: bool, headline: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="verdict {"" if passed else "differs"}">'
        f"<p><b>{html.escape(headline)}</b></p>{''.join(map(paragraph, lines))}</div>"
    )


def paragraph(text: str, style: str = "") -> str:
    return f'<p class="{style}">{html.escape(text)}</p>'


def table(head: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]]) -> str:
    """Returns a table of rows (cells, whether they differ)."""
    line = lambda cells, tag: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    body = "".join(
        f'<tr class="{"differs" if differs else ""}">{line(cells, "td")}</tr>'
        for cells, differs in rows
    )
    return f'<div class="scroll"><table><tr>{line(head, "th")}</tr>{body}</table></div>'


def image(figure: Any, alt: str) -> str:
    """Returns a matplotlib figure as an `<img>` of SVG.

    SVG is sharp at any size; within an `<img>` its names cannot clash with those of another figure.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
