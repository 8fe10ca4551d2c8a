// Parallel coordinates: an axis for each setting and metric of the table, a line for each run.
// Dragging along an axis filters the page; ranges.js does the same by numbers.

const axisSpace = 104; // px between axes at least, so that labels fit
const plotHeight = 250;
const brushWidth = 34; // px around an axis that take the pointer

function createParallel(store, { onHover }) {
  const place = document.getElementById("parallel");
  const { state } = store;
  let axes = [];
  let lines = new Map(); // run's id -> its path
  let width = 0;

  function draw() {
    axes = brushable(store);
    place.closest("section").hidden = axes.length < 2;
    if (axes.length < 2) return;
    const labels = axes.map((column) => titleLines(column));
    const top = 16 + 14 * Math.max(...labels.map((found) => found.length));
    width = Math.max(place.clientWidth - 2, axisSpace * axes.length);
    const [left, right] = [24, width - 84];
    axes.forEach((column, index) => {
      column.x = left + (index * (right - left)) / (axes.length - 1);
      column.scale = axisScale(column, store.content.runs, top);
    });
    const height = top + plotHeight + 16;
    const lineGroup = svg("g", { class: "lines", fill: "none" });
    lines = new Map(store.content.runs.map((run) => [run.id, lineOf(run)]));
    lineGroup.append(...lines.values());
    const drawn = axes.map((column, index) => axisOf(column, labels[index], top));
    place.replaceChildren(
      svg(
        "svg",
        {
          class: "parallel",
          viewBox: `0 0 ${width} ${height}`,
          width,
          height,
          role: "img",
          "aria-label": `A line for each run over ${axes.length} axes; the ranges can be set as numbers below`,
        },
        lineGroup,
        drawn,
      ),
    );
    restyle();
  }

  function lineOf(run) {
    let path = "";
    let pen = "M";
    for (const column of axes) {
      const value = column.number(run);
      if (value === null || (column.scale.log && value <= 0)) {
        pen = "M"; // not measured: the line has a gap
        continue;
      }
      path += `${pen}${column.x.toFixed(1)} ${column.scale.at(value).toFixed(1)}`;
      pen = "L";
    }
    const line = svg("path", { d: path || "M0 0", "data-run": run.id });
    line.addEventListener("pointerenter", (event) => {
      onHover(run);
      showTip(run.label, event);
    });
    line.addEventListener("pointerleave", (event) => {
      onHover(null);
      showTip(null, event);
    });
    line.addEventListener("click", () =>
      store.change("chosen", (now) => {
        now.chosen[now.chosen.has(run.id) ? "delete" : "add"](run.id);
      }),
    );
    return line;
  }

  function axisOf(column, label, top) {
    const bottom = top + plotHeight;
    const title = svg(
      "text",
      {
        class: "axis-title",
        x: column.x,
        y: top - 8 - 14 * (label.length - 1),
        "text-anchor": "middle",
      },
      label.map((text, line) => svg("tspan", { x: column.x, dy: line ? 14 : 0 }, text)),
      svg("title", {}, column.title),
    );
    if (column === axes[0]) shiftStart(title);
    const hit = svg("rect", {
      class: "hit",
      x: column.x - brushWidth / 2,
      y: top - 4,
      width: brushWidth,
      height: plotHeight + 8,
    });
    const brush = svg("rect", {
      class: "brush",
      x: column.x - 8,
      width: 16,
      y: top,
      height: 0,
      rx: 4,
    });
    brush.dataset.key = column.key;
    dragging(hit, column, top, bottom);
    return svg(
      "g",
      { class: "axis", "data-key": column.key },
      title,
      svg("line", { x1: column.x, x2: column.x, y1: top, y2: bottom }),
      brush,
      tickLabels(column),
      hit,
    );
  }

  /** The first axis stands at the edge: its title starts there instead of being cut. */
  function shiftStart(title) {
    title.setAttribute("text-anchor", "start");
    for (const part of [title, ...title.querySelectorAll("tspan")]) part.setAttribute("x", 4);
  }

  function tickLabels(column) {
    const ticks = column.categories
      ? column.categories
          .map((text, value) => [value, text])
          .filter((_, index) => index % Math.ceil(column.categories.length / 14) === 0)
      : numericTicks(column);
    const room = column === axes.at(-1) ? 11 : 13;
    return ticks.map(([value, text]) =>
      svg(
        "text",
        { class: "tick", x: column.x + 7, y: column.scale.at(value) + 4 },
        text.length > room ? `${text.slice(0, room - 1)}…` : text,
        svg("title", {}, text),
      ),
    );
  }

  /** The values themselves where there are few, as a grid of settings has. */
  function numericTicks(column) {
    const known = [
      ...new Set(store.content.runs.map(column.number).filter((value) => value !== null)),
    ];
    const ticks = known.length <= 6 && column.kind === "setting" ? known : ticksOf(column.scale, 5);
    return ticks.map((value) => [value, (column.tick ?? short)(value)]);
  }

  /** Drag sets the axis' range; a click without a drag removes it. */
  function dragging(hit, column, top, bottom) {
    let start = null;
    let release = null;
    const clamp = (event) => {
      const box = hit.ownerSVGElement.getBoundingClientRect();
      return Math.max(top, Math.min(bottom, (event.clientY - box.top) * (width / box.width)));
    };
    const isClick = (event) => Math.abs(clamp(event) - start) < 4;
    const end = () => {
      start = null;
      keepPlace(place, release);
    };
    hit.addEventListener("pointerdown", (event) => {
      start = clamp(event);
      // A table that gets shorter would pull the axis away from the pointer.
      release = holdHeights([document.getElementById("table"), document.body]);
      hit.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    hit.addEventListener("pointermove", (event) => {
      if (start === null || isClick(event)) return;
      const ends = [column.scale.value(start), column.scale.value(clamp(event))].sort(
        (a, b) => a - b,
      );
      store.change("filter", (now) => now.ranges.set(column.key, ends));
    });
    hit.addEventListener("pointerup", (event) => {
      if (start === null) return;
      if (isClick(event)) store.change("filter", (now) => now.ranges.delete(column.key));
      end();
    });
    hit.addEventListener("pointercancel", () => {
      if (start !== null) end();
    });
  }

  function restyle() {
    const visible = new Set(store.visibleRuns().map((run) => run.id));
    const compared = store.compared();
    for (const [id, line] of lines) {
      const mark = store.marks.of(store.content.runs[id]);
      line.setAttribute("class", !visible.has(id) ? "out" : mark ? "compared" : "");
      line.style.stroke = mark && visible.has(id) ? mark.colour : "";
      line.setAttribute("stroke-dasharray", mark && visible.has(id) ? mark.dash : "");
    }
    for (const run of compared) lines.get(run.id)?.parentNode.append(lines.get(run.id)); // on top
    for (const brush of place.querySelectorAll(".brush")) drawBrush(brush);
  }

  function drawBrush(brush) {
    const range = state.ranges.get(brush.dataset.key);
    const { scale } = store.byKey.get(brush.dataset.key);
    const inside = (value) => scale.at(Math.max(scale.low, Math.min(scale.high, value)));
    const [lowest, highest] = range ? [inside(range[0]), inside(range[1])] : [0, 0];
    brush.setAttribute("y", highest);
    brush.setAttribute("height", Math.max(0, lowest - highest));
    brush.parentNode.classList.toggle("active", Boolean(range));
  }

  store.subscribe(["filter", "chosen", "sort"], () => {
    if (axes.length > 1) restyle();
  });
  store.subscribe(["columns"], draw);
  new ResizeObserver(() => {
    if (axes.length > 1 && Math.max(place.clientWidth - 2, axisSpace * axes.length) !== width)
      draw();
  }).observe(place);
  draw();

  function highlight(run) {
    for (const [id, line] of lines) line.classList.toggle("hover", run !== null && id === run.id);
  }

  return { highlight };
}

/** Columns of the table that an axis can show: settings, metrics, and the time. */
function brushable(store) {
  return store.shownColumns().filter((column) => {
    if (column.key === "status" || column.key === "seed") return false;
    return store.content.runs.some((run) => column.number(run) !== null);
  });
}

function axisScale(column, runs, top) {
  const known = runs.map(column.number).filter((value) => value !== null);
  if (column.categories) return createScale(0, column.categories.length - 1, top + plotHeight, top);
  return createScale(Math.min(...known), Math.max(...known), top + plotHeight, top, {
    log: spansDecades(known),
  });
}

/** An axis' title: its group stands above its label, and the arrow stays with it. */
function titleLines(column) {
  const label = `${column.label}\u00a0${arrow(column)}`.trim();
  return [...(column.over ? wrapLabel(column.over, 15) : []), ...wrapLabel(label, 15)];
}

/** Break a label into lines between words, and after dots and underscores. */
function wrapLabel(text, most) {
  const lines = [""];
  for (const part of text.split(/(?<=[ ._/])/)) {
    if (lines.at(-1) && (lines.at(-1) + part).trim().length > most) lines.push(part);
    else lines[lines.length - 1] += part;
  }
  return lines.map((line) => line.trim());
}
