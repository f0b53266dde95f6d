"use strict";
// What the report and the pages of a history share: colours, charts of series, tables that sort.
const diffspeed = (() => {
  const root = document.documentElement;
  root.classList.add("js");
  const embedded = document.getElementById("data");
  const data = embedded ? JSON.parse(embedded.textContent) : {};
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const VERDICTS = "FAIL FAILED INCONCLUSIVE NOT_APPLICABLE PASS".split(" ");

  // --- light and dark

  const theme = document.getElementById("theme");
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "light" : "dark"; theme.setAttribute("aria-label", `switch to ${theme.textContent} colours`); };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  preferred.addEventListener("change", nameTheme);
  nameTheme();

  // --- charts

  const base = { className: "chart", marginTop: 14, marginBottom: 34, marginRight: 16 };
  const axis = { labelArrow: "none", tickSize: 0 };

  // `chosen` is the place of a point to mark, or -1.
  function seriesChart(d, width, chosen = -1) {
    const points = d.points.map(([at, commit, value, low, high, verdict], place) => ({ at, commit, value, low, high, verdict: VERDICTS[verdict], place })).filter((point) => point.value !== null);
    const last = d.points.length - 1;
    const edges = [0, ...d.changes.map((change) => change[0]), last + 1];
    const levels = d.changes.length ? edges.slice(0, -1).map((from, index) => ({ from: from - 0.4, to: edges[index + 1] - 0.6, level: index ? d.changes[index - 1][2] : d.changes[0][1] })).filter((level) => level.level !== null) : [];
    const many = Math.max(2, Math.min(6, Math.floor(width / 110)));
    const ticks = [...new Set(d3.range(many).map((step) => Math.round((step * last) / (many - 1))))];
    return Plot.plot({
      ...base, width, height: 216, marginTop: 24, marginLeft: 50, marginRight: 30,
      x: { domain: [-0.6, last + 0.6], ticks, tickFormat: (place) => d.points[place]?.[1] || d.points[place]?.[0].slice(0, 10) || "", label: null, ...axis },
      // 1.17T and not thirteen digits, which the margin has no room for.
      y: { label: d.figure, nice: true, ticks: 5, ...(d3.max(points, (point) => point.value) >= 1e4 ? { tickFormat: ".5~s" } : {}), ...axis },
      marks: [
        chosen < 0 ? null : Plot.ruleX([chosen], { stroke: "var(--link)", strokeWidth: 7, strokeOpacity: 0.22 }),
        Plot.gridY({ strokeOpacity: 0.1, ticks: 5 }),
        Plot.ruleX(d.changes, { x: (change) => change[0] - 0.5, stroke: "var(--INCONCLUSIVE)", strokeDasharray: "4,3" }),
        Plot.link(levels, { x1: "from", x2: "to", y1: "level", y2: "level", stroke: "var(--link)", strokeWidth: 2 }),
        d.anchor === null ? null : Plot.ruleY([d.anchor], { stroke: "var(--link)", strokeDasharray: "2,3" }),
        Plot.ruleX(points.filter((point) => point.low !== null && point.high !== null), { x: "place", y1: "low", y2: "high", strokeOpacity: 0.35 }),
        Plot.dot(points, { x: "place", y: "value", r: points.length > 80 ? 1.8 : 2.8, fill: (point) => (point.verdict === "FAIL" ? "var(--FAIL)" : "currentColor"), title: (point) => `${point.at.slice(0, 16)} ${point.commit}: ${Number.isInteger(point.value) ? point.value.toLocaleString("en") : point.value.toPrecision(4)} ${point.verdict ?? ""}` }),
      ],
    });
  }

  function drawn(place, width, draw) {
    if (place.dataset.width === String(width)) return;
    place.dataset.width = String(width);
    try {
      const chart = draw[place.dataset.chart](place.dataset.id, width);
      const svg = chart.matches("svg") ? chart : chart.querySelector("svg");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", place.nextElementSibling.textContent);
      place.replaceChildren(chart);
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  // Each place is drawn by draw[its kind]; onPrint completes what paper shows besides.
  function drawNear(places, draw, onPrint) {
    // Drawn when they come near, and again when their width changes: hidden ones cost nothing.
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); sized.observe(entry.target); }
    }, { rootMargin: "600px" });
    const sized = new ResizeObserver((entries) => {
      for (const entry of entries) { const width = Math.floor(entry.contentRect.width); if (width > 0 && !printing) drawn(entry.target, width, draw); }
    });
    let printing = false, unfolded = [];
    for (const place of places) near.observe(place);
    addEventListener("beforeprint", () => {
      unfolded = all("details:not([open])");
      for (const details of unfolded) details.open = true;
      printing = true;
      for (const place of places) if (!place.firstChild) drawn(place, 660, draw);
      onPrint();
    });
    addEventListener("afterprint", () => {
      printing = false;
      for (const details of unfolded) details.open = false;
    });
    return () => {  // draws again what is drawn
      for (const place of places) {
        const width = Number(place.dataset.width);
        if (width) { delete place.dataset.width; drawn(place, width, draw); }
      }
    };
  }

  // --- tables

  function cell(row, tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (tag === "th") made.scope = row.parentNode?.nodeName === "THEAD" ? "col" : "row";
    row.append(made);
  }
  const key = (row, column, kind) => {
    const found = row.cells[column];
    if (!found) return kind === "number" ? Infinity : "";
    if (kind !== "number") return found.textContent.trim();
    return found.dataset.key === undefined ? Infinity : Number(found.dataset.key);
  };
  function sortable(table) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const groups = [];  // a row takes along what stands below it
        for (const row of body.rows) row.classList.contains("below") ? groups.at(-1).push(row) : groups.push([row]);
        const keyed = groups.map((group) => [key(group[0], column, head.dataset.sort), group]);
        keyed.sort(([one], [two]) => {
          if (one === two) return 0;
          if (one === Infinity || two === Infinity) return one === Infinity ? 1 : -1;  // what has no figure stays last
          const order = typeof one === "number" ? one - two : one.localeCompare(two, "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...keyed.flatMap(([, group]) => group));
      });
    });
  }

  return { all, axis, base, cell, data, drawNear, seriesChart, sortable };
})();
