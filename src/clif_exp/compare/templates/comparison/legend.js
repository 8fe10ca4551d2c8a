// The legend of the curves: a table with each run's line and its values.

function createLegend(place, marks) {
  /** Draw a row for each series; with a cursor, also the values there. */
  function draw(series, cursor) {
    if (!series.length) {
      place.replaceChildren();
      return;
    }
    const titles = [
      "Run",
      "last",
      "least",
      "most",
      cursor === null ? "at cursor" : `at step ${cursor.toLocaleString("en")}`,
    ];
    const head = el(
      "tr",
      {},
      titles.map((title, index) =>
        el("th", { scope: "col", className: index ? "num" : "" }, title),
      ),
    );
    const values = series.flatMap((one) => one.values.filter((value) => value !== null));
    const decimals = fourDigits(values);
    const write = (value) => (decimals === null ? short(value) : fixed(value, decimals));
    place.replaceChildren(
      el(
        "table",
        { className: "legend-table" },
        el("thead", {}, head),
        el(
          "tbody",
          {},
          series.map((one) => rowOf(one, cursor, write)),
        ),
      ),
    );
  }

  function rowOf(one, cursor, write) {
    const known = one.values.filter((value) => value !== null);
    const ends = known.length
      ? [known.at(-1), Math.min(...known), Math.max(...known)]
      : [null, null, null];
    const there = cursor === null ? null : valueAt(one, cursor);
    return el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el(
          "div",
          {},
          markSample(marks.of(one.run)),
          el("span", { title: one.run.name }, breakable(one.run.label)),
        ),
      ),
      [...ends, there].map((value) => el("td", { className: "num" }, write(value))),
    );
  }

  /** The value at the nearest step that has one; null beyond the curve's ends. */
  function valueAt({ steps, values }, step) {
    const spacing = steps.length > 1 ? (steps.at(-1) - steps[0]) / (steps.length - 1) : Infinity;
    if (step < steps[0] - spacing || step > steps.at(-1) + spacing) return null;
    let nearest = null;
    steps.forEach((found, index) => {
      if (values[index] === null) return;
      if (nearest === null || Math.abs(found - step) < Math.abs(steps[nearest] - step))
        nearest = index;
    });
    return nearest === null ? null : values[nearest];
  }

  return { draw };
}
