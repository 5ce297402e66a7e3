"""An HTML page, which needs nothing beside it and runs no script; its sections come from `page`.

The controller of a parallel test run, which compares nothing, imports this and no framework.
"""

import html
from collections.abc import Sequence


# Colours of Okabe and Ito, which the colour-blind can tell apart.
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


def frame(sections: Sequence[tuple[str, bool, str]]) -> str:
    """A page of sections, each with its title and whether it passed; a list before several."""
    count, bad = len(sections), sum(not passed for _, passed, _ in sections)
    title = f"parity: {count} comparison{'s' * (count != 1)}, {bad} differ{'s' * (bad == 1)}"
    links, body = "", ""
    for i, (name, passed, part) in enumerate(sections):
        state, word = ("", "agrees") if passed else ("differs", "differs")
        link = f'<a href="#r{i}">{html.escape(name)}</a>'
        links += f'<tr class="{state}"><td>{link}</td><td>{word}</td></tr>'
        body += f'<section id="r{i}"><h2>{html.escape(name)}</h2>{part}</section>'
    index = f"<h1>{title}</h1><table>{links}</table>" if count != 1 else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{index}{body}</body></html>"
    )
