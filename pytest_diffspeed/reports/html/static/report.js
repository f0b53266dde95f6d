"use strict";
(() => {
  const root = document.documentElement;
  const { all, axis, base, cell, data, drawNear, seriesChart, sortable } = diffspeed;
  const CANDIDATE_FIRST = 1, DROPPED = 2;

  // --- charts

  const times = (value) => `${value.toPrecision(value < 0.1 ? 2 : 3)}×`;
  const tick = (value) => `${Number(value.toPrecision(4))}×`;
  const finite = (values) => values.filter((value) => value !== null && Number.isFinite(value) && value > 0);
  const share = (values, room) => {
    const low = Math.log(Math.min(...values)), high = Math.log(Math.max(...values));
    const more = Math.max((high - low) * room, 0.01);
    return [Math.exp(low - more), Math.exp(high + more)];
  };
  const logTicks = (domain, many) => {
    const wide = domain[1] / domain[0] > 8;
    if (!wide) return d3.ticks(domain[0], domain[1], many);
    const from = Math.floor(Math.log10(domain[0])), steps = d3.range(from, Math.ceil(Math.log10(domain[1])) + 1);
    return steps.flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)).filter((at) => at >= domain[0] && at <= domain[1]);
  };

  function pairs(id, width) {
    const d = data.pairs[id];
    const dots = d.pairs.map(([index, first, second, flags, why], place) => ({
      place: place + 1, ratio: first / second, order: flags & CANDIDATE_FIRST ? "this stack first" : "baseline first",
      dropped: Boolean(flags & DROPPED), swapped: Boolean(flags & CANDIDATE_FIRST), index, first, second, why: d.reasons[why],
    }));
    const domain = share(finite([...dots.map((dot) => dot.ratio), d.need, d.low, d.high, d.ratio]), 0.12);
    const title = (dot) => `pair ${dot.index + 1}: ${dot.ratio.toFixed(3)}×, ${dot.order}${dot.dropped ? `; dropped: ${dot.why}` : ""}`;
    const ends = { x1: 0.4, x2: dots.length + 0.6 };
    const open = !d.low && d.high === null;
    return Plot.plot({
      ...base, width, height: Math.min(260, Math.max(190, width * 0.36)), marginLeft: 44, marginRight: 94,
      x: { domain: [0.4, dots.length + 0.6], label: null, ticks: d3.ticks(1, dots.length, Math.min(dots.length, width / 60)).filter(Number.isInteger), tickFormat: "d", ...axis },
      y: { type: "log", domain, label: null, axis: null },
      marks: [
        Plot.axisY(logTicks(domain, 5), { ...axis, text: tick, label: null }),
        open ? null : Plot.rect([0], { ...ends, y1: Math.max(d.low ?? 0, domain[0]), y2: Math.min(d.high ?? Infinity, domain[1]), fill: "var(--link)", fillOpacity: 0.14 }),
        Plot.gridY(logTicks(domain, 5), { strokeOpacity: 0.1 }),
        domain[0] < 1 && domain[1] > 1 ? Plot.ruleY([1], { strokeOpacity: 0.45 }) : null,
        d.ratio === null ? null : Plot.ruleY([d.ratio], { stroke: "var(--link)", strokeWidth: 1.5 }),
        d.need === null ? null : Plot.ruleY([d.need], { stroke: "var(--FAIL)", strokeWidth: 1.5, strokeDasharray: "5,4" }),
        ...labels(d, domain),
        Plot.dot(dots.filter((dot) => !dot.dropped && !dot.swapped), { x: "place", y: "ratio", r: 3.2, fill: "currentColor", title }),
        Plot.dot(dots.filter((dot) => !dot.dropped && dot.swapped), { x: "place", y: "ratio", r: 3, stroke: "currentColor", strokeWidth: 1.5, fill: "var(--paper)", title }),
        Plot.dot(dots.filter((dot) => dot.dropped), { x: "place", y: "ratio", r: 4, symbol: "times", stroke: "var(--muted)", strokeWidth: 1.6, title }),
      ],
    });
  }

  // "median" and "needed" stand at the right, apart from each other.
  function labels(d, domain) {
    const height = Math.log(domain[1] / domain[0]);
    const close = d.need !== null && d.ratio !== null && Math.abs(Math.log(d.need / d.ratio)) / height < 0.08;
    const above = close && d.ratio >= d.need;
    const text = (value, said, fill, shift) => Plot.text([said], { frameAnchor: "right", dx: 6, textAnchor: "start", y: value, dy: shift, fill });
    return [
      d.ratio === null ? null : text(d.ratio, `median ${times(d.ratio)}`, "var(--link)", close ? (above ? -7 : 7) : 0),
      d.need === null ? null : text(d.need, `need ${times(d.need)}`, "var(--FAIL)", close ? (above ? 7 : -7) : 0),
    ];
  }

  function forest(rows, width, link) {
    const wide = width > 620;
    const line = wide ? 23 : 38, left = wide ? Math.min(360, Math.max(...rows.map((row) => row.label.length)) * 6.7 + 16) : 4;
    const domain = share(finite([1, ...rows.flatMap((row) => [row.ratio, row.low, row.high, row.need ?? null, row.before ?? null])]), 0.06);
    const most = Math.floor((wide ? left - 16 : width - 76) / 6.5);
    const placed = rows.map((row, index) => ({
      ...row, y: index + (wide ? 0.5 : 0.72), at: index, name: row.label.length > most ? `${row.label.slice(0, most - 1)}…` : row.label,
      low: Math.max(row.low ?? 0, domain[0]), high: Math.min(row.high ?? Infinity, domain[1]), outside: row.ratio < (row.low ?? 0) || row.ratio > (row.high ?? Infinity) ? "outside " : "", open: !row.low && row.high === null,
    }));
    const colour = (row) => (row.verdict === "FAIL" ? "var(--FAIL)" : row.verdict === "INCONCLUSIVE" ? "var(--INCONCLUSIVE)" : "currentColor");
    const title = (row) => `${row.label}: ${times(row.ratio)}${row.open ? "" : ` ${row.outside}[${row.low.toFixed(3)}, ${row.high.toFixed(3)}]`}${row.need ? `, need ${times(row.need)}` : ""}`;
    const href = link ? { href: (row) => `#${row.id}` } : {};
    const ticks = logTicks(domain, Math.max(3, (width - left) / 90));
    const half = wide ? 0.34 : 0.24;
    return Plot.plot({
      ...base, width, height: rows.length * line + 44, marginLeft: left, marginRight: 66, marginTop: 8,
      x: { type: "log", domain, axis: null },
      y: { domain: [0, rows.length], reverse: true, axis: null },
      marks: [
        // Not by the scale's own format, which leaves out ticks of a logarithmic scale.
        Plot.axisX(ticks, { ...axis, text: tick, label: null }),
        Plot.gridX(ticks, { strokeOpacity: 0.1 }),
        Plot.ruleX([1], { strokeOpacity: 0.55 }),
        Plot.ruleY(placed.filter((row) => !row.open), { y: "y", x1: "low", x2: "high", stroke: colour, strokeWidth: 3, strokeOpacity: 0.4 }),
        Plot.ruleX(placed.filter((row) => row.need), { x: "need", y1: (row) => row.y - half, y2: (row) => row.y + half, stroke: "var(--FAIL)", strokeWidth: 1.5, strokeDasharray: "3,2" }),
        Plot.dot(placed.filter((row) => row.before), { x: "before", y: "y", r: 3.2, stroke: "currentColor", fill: "var(--paper)", title: (row) => `${row.label}: ${times(row.before)} over the step before` }),
        Plot.dot(placed, { x: "ratio", y: "y", r: 3.8, fill: colour, title, ...href }),
        Plot.text(placed, { text: "name", frameAnchor: "left", textAnchor: wide ? "end" : "start", dx: wide ? -12 : -2, y: wide ? "y" : (row) => row.at + 0.3, title, ...href }),
        Plot.text(placed, { text: (row) => `${times(row.ratio)}${row.unclear ? " ≈" : ""}`, frameAnchor: "right", textAnchor: "start", dx: 8, y: "y", fill: colour }),
      ],
    });
  }

  const draw = {
    pairs: (id, width) => pairs(id, width),
    ratios: (id, width) => forest(data.ratios, width, true),
    ladder: (id, width) => forest(data.ladder, width, false),
    history: (id, width) => seriesChart(data.history[id], width),
  };

  const places = all(".plot");
  for (const place of places) {
    if (place.dataset.chart === "ratios" && !data.ratios.length) place.closest("figure").hidden = true;
  }
  for (const place of places) {  // a legend and, of pairs, a table
    const more = document.getElementById(`more-${place.dataset.chart}`);
    if (more) place.closest("figure").append(more.content.cloneNode(true));
  }
  drawNear(places, draw, () => { for (const place of all("[data-table]")) if (!place.querySelector("table")) fill(place); });

  // --- the pairs as a table, when it is unfolded

  function fill(place) {
    const d = data.pairs[place.closest("figure").querySelector(".plot").dataset.id];
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const title of ["pair", "first", "baseline, s", "this stack, s", "ratio", "counts"]) cell(head, "th", title);
    const body = table.createTBody();
    for (const [index, first, second, flags, why] of d.pairs) {
      const row = body.insertRow();
      cell(row, "th", index + 1);
      cell(row, "td", flags & CANDIDATE_FIRST ? "this stack" : "baseline");
      cell(row, "td", first);
      cell(row, "td", second);
      cell(row, "td", `${(first / second).toFixed(3)}×`);
      cell(row, "td", flags & DROPPED ? `no: ${d.reasons[why]}` : "yes");
    }
    place.replaceChildren(table);
  }
  for (const place of all("[data-table]")) {
    place.closest("details").addEventListener("toggle", () => { if (!place.querySelector("table")) fill(place); });
  }

  // --- sorting

  all("table.tests, table.sortable").forEach(sortable);

  // --- filtering

  const table = document.getElementById("tests-table");
  if (table) {
    const words = document.getElementById("filter"), shown = document.getElementById("shown");
    const buttons = all("[data-show]");
    const rows = [...table.tBodies[0].rows];
    const texts = new Map(rows.map((row) => [row, `${row.cells[1].textContent} ${row.cells[2]?.textContent ?? ""}`.toLowerCase()]));
    const total = rows.filter((row) => !row.classList.contains("below")).length;
    const filter = () => {
      const wanted = new Set(buttons.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.dataset.show));
      const terms = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let many = 0, fits = false;
      for (const row of table.tBodies[0].rows) {
        if (!row.classList.contains("below")) {
          fits = wanted.has(row.dataset.verdict) && terms.every((term) => texts.get(row).includes(term));
          many += fits;
        }
        row.hidden = !fits;
      }
      document.getElementById("no-test").hidden = many > 0;
      shown.textContent = many === total ? `${total} test${total === 1 ? "" : "s"}` : `${many} of ${total} tests`;
    };
    for (const button of buttons) {
      button.addEventListener("click", () => { button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true"); filter(); });
    }
    words.addEventListener("input", filter);
    all(".controls").forEach((controls) => { controls.hidden = false; });
    filter();
  }

  // --- words that are explained: what they mean stands once, among the words of the report

  const tip = document.getElementById("tip");
  let of = null;
  function tell(term) {
    const says = document.getElementById(term.getAttribute("aria-describedby"));
    if (!says) return;
    of = term;
    tip.textContent = says.textContent;
    tip.hidden = false;
    const wide = innerWidth > 700;
    tip.classList.toggle("placed", wide);
    const at = term.getBoundingClientRect();
    tip.style.left = wide ? `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 16))}px` : "";
    const below = at.bottom + 4 + tip.offsetHeight < innerHeight;
    tip.style.top = wide ? `${below ? at.bottom + 4 : at.top - 4 - tip.offsetHeight}px` : "";
  }
  const hush = () => { tip.hidden = true; of = null; };
  for (const term of all(".term")) {
    term.addEventListener("mouseenter", () => tell(term));
    term.addEventListener("focus", () => tell(term));
    term.addEventListener("blur", hush);
    // The tip itself may be pointed at (WCAG 2.2, 1.4.13).
    term.addEventListener("mouseleave", (event) => { if (event.relatedTarget !== tip && document.activeElement !== term) hush(); });
    term.addEventListener("click", (event) => { event.preventDefault(); tell(term); });
  }
  tip.addEventListener("mouseleave", () => { if (document.activeElement !== of) hush(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
  addEventListener("scroll", () => { if (!tip.hidden && document.activeElement !== of) hush(); }, { passive: true });

  // --- digests

  if (navigator.clipboard) {
    for (const button of all("[data-copy]")) {
      button.hidden = false;
      button.setAttribute("aria-live", "polite");
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(button.dataset.copy).then(() => { button.textContent = "copied"; }, () => { button.textContent = "select it by hand"; });
      });
    }
  }

  // --- links into what is folded

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.nodeName === "DETAILS") at.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  root.dataset.ready = "yes";
})();
