"use strict";
(() => {
  const { all, sortable } = diffspeed;
  const ready = () => { document.documentElement.dataset.ready = "yes"; };
  const table = document.getElementById("tests-table");
  if (!table) { ready(); return; }
  const body = table.tBodies[0], rows = [...body.rows], jumps = all(".jumps > li");
  const filter = document.getElementById("filter"), stack = document.getElementById("stack");
  const buttons = all("[data-show]");
  const texts = new Map([...rows, ...jumps].map((one) => [one, `${one.textContent} ${one.dataset.stack}`.toLowerCase()]));
  const heads = [...table.tHead.rows[0].cells];

  const sorted = () => {
    const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    return column < 0 ? "" : `${heads[column].getAttribute("aria-sort") === "descending" ? "-" : ""}${column}`;
  };
  function sort(wanted) {
    if (wanted === sorted()) return;
    for (const head of heads) head.removeAttribute("aria-sort");
    body.append(...rows);
    const button = heads[Math.abs(Number(wanted))]?.querySelector("button");
    if (!wanted || !button) return;
    button.click();
    if (wanted.startsWith("-")) button.click();
  }

  function show(now) {
    const terms = state.words(now.get("filter")), hidden = new Set((now.get("hide") ?? "").split(",")), only = now.get("stack") ?? "";
    if (document.activeElement !== filter) filter.value = now.get("filter") ?? "";
    stack.value = only;
    for (const button of buttons) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.show)));
    const fits = (one) => !hidden.has(one.dataset.state) && (!only || one.dataset.stack === only) && terms.every((term) => texts.get(one).includes(term));
    let many = 0;
    for (const row of rows) { row.hidden = !fits(row); many += !row.hidden; }
    for (const jump of jumps) jump.hidden = !fits(jump);
    document.getElementById("no-test").hidden = many > 0;
    document.getElementById("shown").textContent = many === rows.length ? `${rows.length} row${rows.length === 1 ? "" : "s"}` : `${many} of ${rows.length} rows`;
    sort(now.get("sort") ?? "");
  }

  sortable(table);
  let isOurs = false;
  table.tHead.addEventListener("click", (event) => { if (!isOurs && event.target.closest("button")) state.write({ sort: sorted() }); });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const off = new Set((state.read().get("hide") ?? "").split(",").filter(Boolean));
      off.has(button.dataset.show) ? off.delete(button.dataset.show) : off.add(button.dataset.show);
      state.write({ hide: [...off].sort().join(",") });
    });
  }
  stack.addEventListener("change", () => state.write({ stack: stack.value }));
  state.typed(filter, "filter");
  all(".controls").forEach((controls) => { controls.hidden = false; });
  state.begin((now) => { isOurs = true; show(now); isOurs = false; });
  ready();
})();
