// SPDX-License-Identifier: BSD-2-Clause
#include "page_assets.hpp"

namespace plot {

const std::string_view kPageStyle = R"css(
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5d6268; --line: #dcdfe3; --ground: #fbfbfa; --card: #fff;
  --good: #00664b; --good-ground: #dff2ea; --bad: #9c3300; --bad-ground: #ffdcc9; --note: #f4f1e4; --focus: #0060a8; }
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e6e7e9; --quiet: #a0a6ad; --line: #34383d; --ground: #16181a; --card: #1e2124;
    --good: #6fd6b4; --good-ground: #0f3a2d; --bad: #ffb089; --bad-ground: #5a2710; --note: #2b2a20; --focus: #7cc4ff; }
  figure svg [fill="#ffffff"] { fill: var(--card); }
  figure svg :is([color="black"], [color="rgb(  0,   0,   0)"]) { color: #fff; }
  figure svg :is([stroke="black"], [stroke="rgb(  0,   0,   0)"]) { stroke: #fff; }
  figure svg :is([fill="black"], [fill="rgb(0,0,0)"], [fill="rgb( 28,  30,  33)"]) { fill: #fff; }
  figure svg :is([fill="rgb(32,32,32)"], [fill="rgb(95,95,95)"]) { fill: #c9cdd2; }
  figure svg [stroke="rgb( 95,  95,  95)"] { stroke: #9aa0a6; }
  figure svg [stroke="rgb(230, 230, 230)"] { stroke: #3a3f45; }
  figure svg [stroke="rgb(  0, 114, 178)"] { stroke: #58b0ea; }
  figure svg [color="rgb(  0, 114, 178)"] { color: #58b0ea; }
  figure svg [fill="rgb(  0, 114, 178)"] { fill: #58b0ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 76rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; max-width: 52rem; }
.quiet { color: var(--quiet); } .small { font-size: .85rem; }
.badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-size: .9rem; font-weight: 600;
  white-space: nowrap; vertical-align: middle; }
.good { color: var(--good); background: var(--good-ground); } .bad { color: var(--bad); background: var(--bad-ground); }
.none { color: var(--quiet); background: var(--note); }
.note { background: var(--note); border-left: 3px solid var(--quiet); padding: .4rem .8rem; margin: .5rem 0;
  max-width: none; overflow-wrap: anywhere; }
.failure { border-color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0; font-size: .9rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
.table.wide { width: calc(100vw - 4rem); margin-left: calc(50% - 50vw + 2rem); }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--quiet);
  vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); vertical-align: top; } th, td { padding: .25rem .8rem .25rem 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.remark td { color: var(--quiet); font-size: .82rem; padding-top: 0; } tr:has(+ .remark) td { border-bottom: 0; }
.grid { border-collapse: separate; border-spacing: 2px; }
.grid th, .grid td { border: 0; padding: 0; }
.grid thead th { height: 8.5rem; }
.grid thead th span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400;
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: .78rem; padding: .2rem 0; }
.grid tbody th { position: sticky; left: 0; background: var(--ground); padding-right: .6rem; white-space: nowrap;
  font-weight: 400; vertical-align: middle; }
.grid tbody th a { color: var(--text); text-decoration: none; } .grid tbody th a:hover { text-decoration: underline; }
.grid td a, .grid td .skip { display: block; width: 1.75rem; line-height: 1.6rem; text-align: center; border-radius: 3px;
  text-decoration: none; font-weight: 600; }
.grid .pass { color: var(--good); background: var(--good-ground); }
.grid .fail { color: #fff; background: #b03a00; }
td.outcome { padding-right: .6rem !important; }
.grid .skip { color: var(--quiet); background: transparent; }
.grid a[aria-current] { outline: 3px solid var(--focus); }
a:focus-visible, select:focus-visible, summary:focus-visible, button:focus-visible { outline: 3px solid var(--focus);
  outline-offset: 1px; }
.key { display: flex; gap: 1.2rem; flex-wrap: wrap; align-items: center; margin: .5rem 0; font-size: .85rem; }
.key b { display: inline-block; width: 1.6rem; text-align: center; border-radius: 3px; margin-right: .3rem; }
.key .pass { color: var(--good); background: var(--good-ground); } .key .fail { color: #fff; background: #b03a00; }
select { font: inherit; }
section.run { border-top: 2px solid var(--line); margin-top: 2rem; }
nav.fields { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .9rem; margin: .6rem 0; }
nav.fields a[aria-current] { font-weight: 700; text-decoration: none; }
figure { margin: 1rem 0; padding: .4rem; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; max-width: 62rem; margin: 0 auto; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--quiet); }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: .15em; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
[hidden] { display: none; }
@media print { :root { --ground: #fff; --card: #fff; --text: #000; --quiet: #444; --line: #ccc; --good: #00664b;
    --bad: #9c3300; --good-ground: #fff; --bad-ground: #fff; --note: #fff; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; } .table { overflow: visible; }
  figure { break-inside: avoid; border: 0; padding: 0; }
  .grid { font-size: 7pt; } .grid td a, .grid td .skip { width: auto; min-width: 4mm; line-height: 1.3; }
  .grid thead th { height: auto; } .grid .fail { color: #000; background: #fff; border: 1px solid #000; }
  section.run { break-before: page; border: 0; } tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  nav.fields, select, .screen { display: none; } }
)css";

const std::string_view kPageScript = R"js(
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const runs = all("section.run");
  const cells = all(".grid td a");
  const single = runs.length === 1;

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const draw = async (figure) => {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "1";
    const packed = document.getElementById(figure.dataset.picture).textContent;
    try {
      figure.innerHTML = await unpack(packed);
    } catch (error) {
      figure.textContent = "This browser cannot unpack the picture (" + error + "): it is in plots/ beside this page.";
    }
  };

  // "#bulk-ipv4/rtt": a run and one of its fields; "#bulk-ipv4": a run.
  const place = () => {
    const [run, field] = location.hash.slice(1).split("/").map((part) => {
      try { return decodeURIComponent(part); } catch { return part; }
    });
    return { run: single && !run ? runs[0].dataset.name : run, field };
  };
  const show = (scroll) => {
    const { run, field } = place();
    let shown = null;
    for (const section of runs) {
      section.hidden = section.dataset.name !== run;
      if (section.hidden) continue;
      shown = section;
      const known = all(".field", section).some((part) => part.dataset.field === field);
      for (const part of all(".field", section)) {
        part.hidden = known && part.dataset.field !== field;
        if (!part.hidden) all("figure[data-picture]", part).forEach(draw);
      }
      for (const link of all("nav.fields a", section))
        if (known && link.dataset.field === field) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
    }
    for (const cell of cells)
      if (cell.hash === location.hash && location.hash) cell.setAttribute("aria-current", "true");
      else cell.removeAttribute("aria-current");
    if (shown && scroll && location.hash) shown.scrollIntoView({ block: "start" });
  };
  addEventListener("hashchange", () => show(true));

  // Arrow keys go from cell to cell.
  const grid = document.querySelector(".grid");
  if (grid) grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const from = event.target.closest("td, th");
    if (!step || !from) return;
    event.preventDefault();
    let row = from.parentElement, column = from.cellIndex;
    for (;;) {
      column += step[1];
      for (let i = 0; i < Math.abs(step[0]) && row; ++i)
        row = step[0] > 0 ? row.nextElementSibling : row.previousElementSibling;
      const link = row && row.cells[column] && row.cells[column].querySelector("a");
      if (!row || !row.cells[column]) return;
      if (link) return link.focus();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || single || !location.hash) return;
    const cell = cells.find((one) => one.hash === location.hash);
    history.pushState(null, "", location.pathname + location.search);
    show(false);
    if (cell) cell.focus();
  });

  // The grid by one source alone.
  const select = document.getElementById("source");
  const marks = { pass: "✓", fail: "✗", skip: "·" };
  if (select) select.addEventListener("change", () => {
    for (const cell of cells) {
      const parts = cell.dataset.s ? cell.dataset.s.split(" ").map((part) => part.split(":")) : [];
      const mine = parts.filter(([source]) => !select.value || source === select.value);
      const state = !mine.length ? "skip" : mine.every(([, state]) => state === "pass") ? "pass" : "fail";
      cell.className = state;
      cell.firstChild.data = marks[state];
    }
  });
  show(true);
})();
)js";

}  // namespace plot
