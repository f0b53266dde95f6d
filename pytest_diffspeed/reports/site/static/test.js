"use strict";
(() => {
  const { all, cell, data, drawNear, seriesChart } = diffspeed;
  const VERDICTS = "FAIL FAILED INCONCLUSIVE NOT_APPLICABLE PASS".split(" ");
  const { sessions, series } = data;
  const short = (commit) => commit.slice(0, 10);
  const nameOf = (place) => sessions[place][1] || sessions[place][0];
  const written = (value) => (value === null ? "" : Number.isInteger(value) ? value.toLocaleString("en") : value.toPrecision(4));
  const inOrder = sessions.map((_, place) => place).sort((one, two) => (sessions[one][0] < sessions[two][0] ? -1 : sessions[one][0] > sessions[two][0] ? 1 : one - two));
  let chosen = "";  // the name of a commit, or the time of a session without one

  // The beginning of a commit's name is enough, as for git.
  function found(name) {
    const names = sessions.map((_, place) => nameOf(place));
    return !name || names.includes(name) ? name : (names.find((one) => one.startsWith(name)) ?? name);
  }

  // --- charts

  const expanded = (d) => ({ ...d, points: d.points.map(([place, ...figures]) => [sessions[place][0], short(sessions[place][1]), ...figures]) });
  const placeIn = (d) => (chosen ? d.points.findIndex(([place]) => nameOf(place) === chosen) : -1);
  const draw = {
    history: (id, width) => {
      const d = series[id], chart = seriesChart(expanded(d), width, placeIn(d));
      const svg = chart.matches("svg") ? chart : chart.querySelector("svg"), scale = chart.scale("x");
      svg.addEventListener("click", (event) => {
        const box = svg.getBoundingClientRect();
        const at = Math.round(scale.invert(((event.clientX - box.left) * width) / box.width));
        const point = d.points[Math.min(Math.max(at, 0), d.points.length - 1)];
        if (point) state.write({ commit: nameOf(point[0]) });
      });
      return chart;
    },
  };

  function row(body, cells) {
    const made = body.insertRow();
    cells.forEach((text, place) => cell(made, place ? "td" : "th", text));
  }
  function fill(place) {
    const d = series[place.dataset.of], table = document.createElement("table");
    const head = table.createTHead().insertRow(), body = table.createTBody();
    for (const title of ["at", "commit", "subject", d.figure, "from", "to", "verdict"]) cell(head, "th", title);
    for (const [session, value, low, high, verdict, dirty] of d.points) {
      const [at, commit, subject] = sessions[session];
      row(body, [at.slice(0, 16).replace("T", " "), `${short(commit)}${dirty ? " *" : ""}`, subject, written(value), written(low), written(high), VERDICTS[verdict] ?? ""]);
    }
    place.replaceChildren(table);
  }
  const tables = all("[data-of]");
  const fillAll = () => { for (const place of tables) if (!place.firstChild) fill(place); };
  for (const place of tables) place.closest("details").addEventListener("toggle", () => { if (!place.firstChild) fill(place); });

  // --- a chosen commit

  const blocks = all(".block");
  const about = new Map(blocks.map((block) => {
    const details = block.querySelector("details.series");
    return [details.id, { title: details.querySelector(".claim").textContent, stack: block.dataset.stack }];
  }));
  function showChosen() {
    const section = document.getElementById("chosen"), place = sessions.findIndex((_, place) => nameOf(place) === chosen);
    section.hidden = place < 0;
    if (place < 0) return;
    const [at, commit, subject] = sessions[place];
    document.getElementById("chosen-commit").textContent = commit ? short(commit) : "a session without a commit";
    document.getElementById("chosen-subject").textContent = `${subject}${subject ? ", " : ""}${at.slice(0, 16).replace("T", " ")}`;
    const body = document.getElementById("chosen-rows");
    body.replaceChildren();
    for (const [id, { title, stack }] of about) {
      const points = series[id].points;
      points.forEach(([session, value, low, high, verdict], index) => {
        if (nameOf(session) === chosen) row(body, [title, stack, index ? written(points[index - 1][1]) : "", written(value), VERDICTS[verdict] ?? ""]);
      });
    }
    const here = inOrder.findIndex((one) => nameOf(one) === chosen);
    document.getElementById("earlier").disabled = here <= 0;
    document.getElementById("later").disabled = here >= inOrder.length - 1;
  }
  function step(by) {
    let here = inOrder.findIndex((one) => nameOf(one) === chosen) + by;
    while (inOrder[here] !== undefined && nameOf(inOrder[here]) === chosen) here += by;
    if (inOrder[here] !== undefined) state.write({ commit: nameOf(inOrder[here]) });
  }

  // --- what is shown

  const filter = document.getElementById("filter"), stack = document.getElementById("stack"), changed = document.getElementById("changed");
  const pictures = all("#pictures .gallery"), rowsOfStacks = all("#stacks tr");
  const redraw = drawNear(all(".plot"), draw, fillAll);
  function show(now) {
    const terms = state.words(now.get("filter")), only = now.get("stack") ?? "", isChanged = now.get("changed") === "yes";
    if (document.activeElement !== filter) filter.value = now.get("filter") ?? "";
    stack.value = only;
    changed.setAttribute("aria-pressed", String(isChanged));
    let many = 0;
    for (const block of blocks) {
      block.hidden = !((!only || block.dataset.stack === only) && (!isChanged || block.dataset.changed === "yes") && terms.every((term) => block.dataset.words.includes(term)));
      many += !block.hidden;
    }
    for (const one of pictures) one.hidden = Boolean(only) && one.dataset.stack !== only;
    for (const one of rowsOfStacks) one.classList.toggle("chosen", Boolean(only) && one.dataset.stack === only);
    document.getElementById("no-figure").hidden = many > 0;
    document.getElementById("shown").textContent = many === blocks.length ? `${many} figure${many === 1 ? "" : "s"}` : `${many} of ${blocks.length} figures`;
    const before = chosen;
    chosen = found(now.get("commit") ?? "");
    if (chosen !== before) { showChosen(); redraw(); }
  }
  state.typed(filter, "filter");
  stack.addEventListener("change", () => state.write({ stack: stack.value }));
  changed.addEventListener("click", () => state.write({ changed: changed.getAttribute("aria-pressed") === "true" ? "" : "yes" }));
  document.getElementById("earlier").addEventListener("click", () => step(-1));
  document.getElementById("later").addEventListener("click", () => step(1));
  document.getElementById("nothing").addEventListener("click", () => state.write({ commit: "" }));
  all(".controls").forEach((controls) => { controls.hidden = false; });
  state.begin(show);
  document.documentElement.dataset.ready = "yes";
})();
