// Where the runs come from: what they share once, what differs in a table, and stages' seconds.

function createProvenance(store) {
  const place = document.querySelector("#provenance .facts-place");
  const { content } = store;

  function draw() {
    const runs = store.visibleRuns();
    if (!runs.length) {
      place.replaceChildren(el("p", { className: "nothing" }, "No run passes the filters."));
      return;
    }
    const facts = content.facts.map((name, index) => ({
      name,
      value: (run) => run.facts[index] ?? missing,
    }));
    facts.push({ name: "folder", value: (run) => run.folder });
    const shared = facts.filter(({ value }) => runs.every((run) => value(run) === value(runs[0])));
    const differing = facts.filter((fact) => !shared.includes(fact));
    const opened = new Set(
      [...place.querySelectorAll("details[open]")].map((found) => found.dataset.name),
    );
    place.replaceChildren(
      shared.length
        ? el(
            "dl",
            { className: "shared" },
            shared.map(({ name, value }) =>
              el("div", {}, el("dt", {}, name), el("dd", {}, el("code", {}, value(runs[0])))),
            ),
          )
        : "",
      differing.length
        ? folded(
            "each",
            `Of each run: ${differing.map(({ name }) => name).join(", ")}`,
            () => factTable(runs, differing),
            opened,
          )
        : "",
      content.stages.length
        ? folded("stages", "Time of each stage", () => stageTable(runs), opened)
        : "",
    );
  }

  /** A part that is drawn when it is opened. */
  function folded(name, title, drawContent, opened) {
    const details = el("details", { data: { name } }, el("summary", {}, title));
    const fill = () => {
      if (details.open && details.children.length === 1) details.append(drawContent());
    };
    details.addEventListener("toggle", fill);
    details.open = opened.has(name);
    fill();
    return details;
  }

  function factTable(runs, facts) {
    return tableOf(
      "Provenance of each run",
      ["Run", ...facts.map(({ name }) => name)],
      runs.map((run) => [
        run.label,
        ...facts.map(({ value }) => el("td", {}, el("code", {}, value(run)))),
      ]),
      "",
    );
  }

  function stageTable(runs) {
    const cell = (run, stage, index) =>
      el(
        "td",
        { className: "num" },
        duration(run.seconds[index]),
        run.reused.includes(stage) ? el("small", {}, " reused") : "",
      );
    return tableOf(
      "Time of each stage",
      ["Run", ...content.stages],
      runs.map((run) => [
        run.label,
        ...content.stages.map((stage, index) => cell(run, stage, index)),
      ]),
      "num",
    );
  }

  function tableOf(name, titles, found, kind) {
    const head = el(
      "tr",
      {},
      titles.map((title, index) =>
        el("th", { scope: "col", className: index ? kind : "name" }, title),
      ),
    );
    const body = found.map(([run, ...cells]) =>
      el("tr", {}, el("th", { scope: "row", className: "name" }, run), cells),
    );
    return el(
      "div",
      { className: "scroll tall", tabIndex: 0, role: "region", aria: { label: name } },
      el("table", { className: "runs facts-table" }, el("thead", {}, head), el("tbody", {}, body)),
    );
  }

  store.subscribe(["filter", "sort"], draw);
  draw();
}
