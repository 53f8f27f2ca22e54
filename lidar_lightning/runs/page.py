"""The page of a report: its head, its style, and the few lines of script that sort tables and enlarge pictures."""

import base64
import hashlib
from html import escape

SCRIPT = """
const value = (row, n) => row.children[n].textContent.trim().replace(/,/g, "");
document.querySelectorAll("table").forEach(table => [...table.rows[0].cells].forEach((head, n) => {
  head.classList.add("sorts");
  head.addEventListener("click", () => {
    const order = head.dataset.sorted === "-1" ? 1 : -1;
    [...table.rows[0].cells].forEach(other => delete other.dataset.sorted);
    head.dataset.sorted = order;
    const compare = (a, b) => {
      const [x, y] = [value(a, n), value(b, n)], [p, q] = [parseFloat(x), parseFloat(y)];
      if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;
      return order * (isNaN(p) ? x.localeCompare(y) : p - q);
    };
    [...table.rows].slice(1).sort(compare).forEach(row => row.parentNode.append(row));
  });
}));
document.querySelectorAll(".large").forEach(picture =>
  picture.addEventListener("click", () => picture.classList.toggle("shown")));
"""
"""No text of a run enters it; the page allows this script by its hash, and no other."""


def page(title: str, folder: str, gain: str, body: str) -> str:
    """The text of the whole HTML file.

    Args:
        title: the title of the run.
        folder: the name of its folder.
        gain: the HTML of the run at a glance, which stands under the title.
        body: the HTML of all sections.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main><header><p class="over">LiDAR-Lightning · {escape(folder)}</p><h1>{escape(title)}</h1>{gain}</header>
{body}
</main><script>{SCRIPT}</script></body></html>
"""


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f7f7f5; --ink: #1d1d1f; --soft: #6b6b70; --line: #e3e3e0;
  --N: #2450d8; --O: #cf2222; --F: #0f8a5f; --c0: #8a8f98; --c1: #2563eb; --c2: #e07a1f; --c3: #0f9d76; --c4: #b4389b;
  --c5: #c9a200; --c6: #6d4bd0; --c7: #d0454c; --c8: #0891b2; --c9: #7c5a3a; --c10: #6a8f1f; --c11: #e06aa0; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1c1e21; --ink: #e9e9ea; --soft: #9a9ba1;
  --line: #303338; --N: #86a8ff; --O: #ff8b82; --F: #56d6a6; --c0: #9aa0aa; --c1: #6ea0ff; --c2: #f59b4c; --c3: #3fcf9f;
  --c4: #e27ccd; --c5: #e6c545; --c6: #a78bfa; --c7: #f58086; --c8: #3cc4e0; --c9: #c39b74;
  --c10: #a9cf5a; --c11: #f29bc1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -.02em; margin: 0; }
h2 { font-size: 21px; margin: 56px 0 12px; padding-top: 18px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 28px 0 6px; }
h4 { font-size: 13px; font-weight: 500; color: var(--soft); margin: 14px 0 8px; }
.over, .note { color: var(--soft); font-size: 14px; margin: 0 0 10px; }
code { font: 12px/1.4 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
th, td { padding: 9px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
tr:first-child th { font-size: 13px; font-weight: 500; color: var(--soft); }
.sorts { cursor: pointer; } .sorts:hover { color: var(--ink); } .sorts[data-sorted="1"]::after { content: " ▲"; }
.sorts[data-sorted="-1"]::after { content: " ▼"; }
tr + tr th { font-weight: 500; } td b { font-weight: 700; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); font-size: 14px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 9px; }
.plot { display: block; width: 100%; height: auto; } .plot text { font-size: 12px; fill: var(--ink); }
.plot .tick { fill: var(--soft); font-size: 11px; } .axis, .rule { stroke: var(--line); fill: none; }
.mean { stroke: var(--ink); stroke-width: 1.5; } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 20px; }
figure { margin: 0; } .charts figcaption { font-size: 14px; font-weight: 500; }
.tile { background: var(--card); border-radius: 10px; padding: 8px 10px; min-width: 0; }
.tile figcaption { display: flex; gap: 8px; align-items: baseline; font-size: 13px; }
.tile code { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--soft); font-size: 11px; }
.molecule { display: block; width: 100%; height: auto; }
.row { display: grid; grid-template-columns: 150px 1fr; gap: 10px; align-items: center; margin: 8px 0; }
.row .grid { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
.row b { font-weight: 500; font-size: 14px; }
.picture { display: block; width: 100%; height: auto; border-radius: 6px; image-rendering: auto; }
.invalid { aspect-ratio: 180 / 130; display: grid; place-items: center; color: var(--soft); font-size: 13px; }
.large { cursor: zoom-in; }
.shown { position: fixed; inset: 0; z-index: 9; margin: auto; width: auto; min-width: min(512px, 92vw);
  max-width: 96vw; max-height: 96vh;
  cursor: zoom-out; box-shadow: 0 0 0 100vmax rgb(0 0 0 / .8); }
.gain { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 14px; margin: 26px 0 14px; }
.gain div { background: var(--card); border-radius: 10px; padding: 12px 18px; }
.gain strong { font-size: 25px; font-variant-numeric: tabular-nums; }
.gain span { color: var(--soft); font-size: 14px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; font-size: 14px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
@media (max-width: 560px) { main { padding: 28px 14px 48px; } h1 { font-size: 27px; }
  .row, .charts, dl { grid-template-columns: 1fr; } dl { gap: 0; } dd { margin-bottom: 8px; } }
@media print { :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; }
  main { max-width: none; padding: 0; } figure, .row, tr, svg { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; } .wide { overflow: visible; } .plot { min-width: 0 !important; }
  body { font-size: 12px; } }
"""
