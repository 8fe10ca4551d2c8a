// Two runs: settings and metrics in which A and B differ.

function createPair(store, viewer) {
  const section = document.getElementById("pair");
  const { content } = store;
  const place = section.querySelector(".difference");
  const names = [["", content.runs.map((run) => [run.id, run.label])]];
  const selects = [0, 1].map((side) =>
    dropDown(names, { value: 0, onChange: (value) => setSide(side, Number(value)) }),
  );
  selects.forEach((select, side) => {
    select.id = `run-${"ab"[side]}`;
  });
  const swap = el(
    "button",
    {
      type: "button",
      className: "quiet",
      on: { click: () => setPair([...store.pair()].reverse().map((run) => run.id)) },
    },
    "Swap",
  );
  const flip = el(
    "button",
    { type: "button", className: "quiet", on: { click: openImages } },
    "Flip their images",
  );

  section
    .querySelector(".controls")
    .replaceChildren(
      labelled("A", selects[0]),
      labelled("B", selects[1]),
      swap,
      viewer ? flip : "",
    );
  section.hidden = content.runs.length < 2;

  function setPair(ids) {
    store.change("pair", (now) => {
      now.pair = ids;
    });
  }

  function setSide(side, id) {
    const ids = store.pair().map((run) => run.id);
    ids[side] = id;
    setPair(ids);
  }

  /** Rows in which both have an image; those come first in the viewer. */
  function sharedRows() {
    const [a, b] = store.pair().map((run) => content.images.cells[run.id] ?? []);
    return [...content.images.rows.keys()].filter(
      (row) => (a[row] ?? null) !== null && (b[row] ?? null) !== null,
    );
  }

  function openImages() {
    const found = sharedRows();
    if (found.length) viewer.open({ row: found[0], run: null, rows: found });
  }

  function draw() {
    const pair = store.pair();
    pair.forEach((run, side) => {
      selects[side].value = run.id;
    });
    flip.disabled = !sharedRows().length;
    place.replaceChildren(
      ...pair
        .filter((run) => run.error)
        .map((run) => el("p", { className: "why" }, `${run.label}: ${run.error}`)),
      settingsOf(pair),
      metricsOf(pair),
    );
  }

  function settingsOf(pair) {
    const found = store.columns.filter(
      (column) => column.kind === "setting" && column.place(pair[0]) !== column.place(pair[1]),
    );
    if (!found.length) {
      const [a, b] = pair.map((run) => run.seed);
      return el(
        "p",
        { className: "nothing" },
        a === b
          ? "Their settings are the same."
          : `Their settings are the same but for the seed: ${a} and ${b}.`,
      );
    }
    return tableOf(
      "Settings that differ",
      ["Setting", "A", "B"],
      found.map((column) => [
        el("th", { scope: "row" }, column.title),
        ...pair.map((run) => el("td", {}, el("code", {}, column.text(run)))),
      ]),
    );
  }

  function metricsOf(pair) {
    const measured = store.columns.filter(
      (column) => column.kind === "metric" && pair.some((run) => column.number(run) !== null),
    );
    if (!measured.length) return el("p", { className: "nothing" }, "Neither has metrics.");
    const first = measured.filter((column) => store.state.shown.has(column.key));
    const others = measured.filter((column) => !store.state.shown.has(column.key));
    const table = (columns) =>
      tableOf(
        "Metrics",
        ["Metric", "A", "B", "B − A", ""],
        columns.map((column) => metricRow(column, pair)),
      );
    return el(
      "div",
      {},
      first.length ? table(first) : "",
      others.length
        ? el(
            "details",
            {},
            el("summary", {}, plural(others.length, first.length ? "other metric" : "metric")),
            table(others),
          )
        : "",
    );
  }

  function metricRow(column, pair) {
    const [a, b] = pair.map(column.number);
    const difference = a === null || b === null ? null : b - a;
    const sign = difference > 0 ? "+" : "";
    return [
      el(
        "th",
        { scope: "row", title: column.title },
        column.over ? el("small", {}, `${column.over} `) : "",
        `${column.label} ${arrow(column)}`,
      ),
      ...pair.map((run) => el("td", { className: "num" }, column.text(run))),
      el(
        "td",
        { className: "num" },
        difference === null ? missing : `${sign}${fixed(difference, column.decimals)}`,
      ),
      el("td", { className: "verdict" }, verdict(column, difference)),
    ];
  }

  function verdict(column, difference) {
    if (!column.better || !difference) return "";
    const better = difference > 0 === (column.better === "higher");
    return el(
      "span",
      { className: better ? "status finished" : "status failed" },
      better ? "B better" : "A better",
    );
  }

  function tableOf(name, titles, found) {
    const head = el(
      "tr",
      {},
      titles.map((title, index) =>
        el(
          "th",
          { scope: "col", className: name === "Metrics" && index && index < 4 ? "num" : "" },
          title,
        ),
      ),
    );
    return el(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", aria: { label: name } },
      el(
        "table",
        { className: `difference-table${name === "Metrics" ? "" : " texts"}` },
        el("thead", {}, head),
        el(
          "tbody",
          {},
          found.map((cells) => el("tr", {}, cells)),
        ),
      ),
    );
  }

  store.subscribe(["filter", "sort", "chosen", "pair", "columns"], draw);
  draw();
}
