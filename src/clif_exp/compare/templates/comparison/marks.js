// How runs are told apart: by colour (Okabe and Ito's, which the colour-blind can tell), by the
// line's style and by its marker, so that colour is never the only sign.

const colourCount = 7; // --run-0 to --run-6 in page.css
const dashes = ["", "7 4", "2 3", "10 3 2 3"];
const markers = ["●", "■", "▲", "◆", "▼"];

/** Gives each run that is compared a slot, which it keeps as long as it is compared. */
function createMarks() {
  const slots = new Map();

  /** Free the slots of runs that are no longer compared, and give the new ones the lowest. */
  function assign(runs) {
    const ids = new Set(runs.map((run) => run.id));
    for (const id of [...slots.keys()]) if (!ids.has(id)) slots.delete(id);
    const taken = new Set(slots.values());
    let next = 0;
    for (const run of runs) {
      if (slots.has(run.id)) continue;
      while (taken.has(next)) next += 1;
      slots.set(run.id, next);
      taken.add(next);
    }
  }

  /** The mark of a run, or null if it has none. */
  function of(run) {
    if (!slots.has(run.id)) return null;
    const slot = slots.get(run.id);
    return {
      colour: `var(--run-${slot % colourCount})`,
      dash: dashes[slot % dashes.length],
      marker: markers[slot % markers.length],
    };
  }

  return { assign, of };
}

/** A short piece of a run's line, with its marker. */
function markSample(mark) {
  const line = svg("line", {
    x1: 1,
    x2: 33,
    y1: 7,
    y2: 7,
    "stroke-width": 2.4,
    "stroke-dasharray": mark.dash,
  });
  line.style.stroke = mark.colour;
  const sign = svg("text", { x: 17, y: 11, "text-anchor": "middle", "font-size": 11 }, mark.marker);
  sign.style.fill = mark.colour;
  return svg(
    "svg",
    { viewBox: "0 0 34 14", width: 34, height: 14, class: "sample", "aria-hidden": "true" },
    line,
    sign,
  );
}
