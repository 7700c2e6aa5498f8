"""How the page looks: light and dark, on a desk and on a phone, in the fonts that are there."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f6f5f2; --card: #ffffff; --line: #e3e0d9; --text: #24231f; --soft: #6d6a62;
  --bar: #3f7d6d; --rest: #e8e5de; --good: #2f7d5b; --notable: #a86a08; --bad: #b3372f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161716; --card: #1f2120; --line: #30332f; --text: #e6e4de; --soft: #9c9a92;
    --bar: #6fb3a0; --rest: #343734; --good: #74c69d; --notable: #e0a84c; --bad: #f0857c;
  }
}
* { box-sizing: border-box; margin: 0; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  background: var(--ground); color: var(--text); padding: 1.75rem 1.25rem 3rem;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Ubuntu, Cantarell,
    "DejaVu Sans", "Helvetica Neue", Arial, sans-serif;
}
#view, footer { max-width: 72rem; margin: 0 auto; }
header {
  display: flex; align-items: baseline; gap: .75rem; flex-wrap: wrap; margin: 0 .25rem 1.25rem;
}
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; }
.state::before {
  content: ""; display: inline-block; width: .55em; height: .55em; border-radius: 50%;
  margin-right: .5em; vertical-align: .08em; background: currentColor;
}
.good { color: var(--good); } .notable { color: var(--notable); } .bad { color: var(--bad); }
.groups { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(16.5rem, 1fr)); }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.15rem;
}
.tables section { margin-top: 1rem; }
h2 { font-size: .82rem; font-weight: 600; color: var(--soft); margin-bottom: .55rem; }
dl > div {
  display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline;
  column-gap: .9rem; padding: .2rem 0;
}
dd { margin-left: auto; text-align: right; font-variant-numeric: tabular-nums; font-weight: 550; }
dl small { font-size: .82rem; font-weight: 400; color: var(--soft); letter-spacing: 0; }
dl > div.first { flex-direction: column-reverse; padding: 0 0 .6rem; }
.first dd { margin: 0; font-size: 1.55rem; font-weight: 600; line-height: 1.25; }
.first dt small::before { content: "· "; }
.first .bar { order: -1; }
.bar {
  display: block; width: 100%; height: 5px; border-radius: 3px; margin: .3rem 0 .15rem;
  overflow: hidden;
}
.bar .rest { fill: var(--rest); } .bar .part { fill: var(--bar); }
.notable .bar .part { fill: var(--notable); } .bad .bar .part { fill: var(--bad); }
dl .notable, dl .bad { color: inherit; }
.notable dd { color: var(--notable); } .bad dd { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { font-weight: 500; font-size: .82rem; color: var(--soft); text-align: left; }
th, td {
  padding: .34rem 1.1rem .34rem 0; vertical-align: baseline;
  border-bottom: 1px solid var(--line);
}
tbody tr:last-child td { border-bottom: 0; padding-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
th.number + th:not(.number), td.number + td:not(.number) { padding-left: 1rem; }
th.number, td.number { text-align: right; white-space: nowrap; }
td { overflow-wrap: break-word; }
td:first-child { white-space: nowrap; }
.empty, .note, footer { color: var(--soft); }
.note { margin: 1rem .25rem 0; max-width: 44rem; }
footer { padding: 1.25rem .25rem 0; font-size: .87rem; }
@media (max-width: 62rem) { .r5, .r6 { display: none; } }
@media (max-width: 48rem) { .r3, .r4 { display: none; } }
@media (max-width: 34rem) {
  body { padding: 1rem .75rem 2rem; }
  .r1, .r2 { display: none; }
  section { padding: .85rem .95rem; }
  .groups { gap: .75rem; } .tables section { margin-top: .75rem; }
  th, td { padding-right: .7rem; }
}
"""
