// The table of runs: sorted by any column, the best value of each metric marked, seeds folded.

function createTable(store, { onHover }) {
  const place = document.getElementById("table");
  const { state } = store;
  const head = el("thead");
  const body = el("tbody");
  const caption = el("caption", { className: "unseen" }, "Runs with their settings and metrics");
  place.append(el("table", { className: "runs" }, caption, head, body));
  const open = new Set(); // groups of seeds that are unfolded, by their key
  let columns = [];
  let rows = new Map(); // run's id -> its row

  function draw() {
    columns = store.shownColumns();
    rows = new Map();
    drawHead();
    drawBody();
  }

  function drawHead() {
    const titles = [
      {
        key: "name",
        label: "Run",
        title: "Its name: what it was called with",
        kind: "name",
        better: null,
      },
      ...columns,
    ];
    replaceKeepingFocus(head, [
      el("tr", {}, el("th", { className: "pick", scope: "col" }, pickAll), titles.map(headCell)),
    ]);
  }

  const pickAll = el("input", {
    type: "checkbox",
    title: "Tick all runs that are shown",
    aria: { label: "Tick all runs that are shown" },
  });
  pickAll.addEventListener("change", () => choose(store.visibleRuns(), pickAll.checked));

  function headCell(column) {
    const sorted = state.sort.key === column.key;
    const sign = sorted ? (state.sort.descending ? "▼" : "▲") : "";
    const button = el(
      "button",
      { type: "button", title: column.title, on: { click: () => sortBy(column) } },
      column.over ? el("small", {}, column.over) : null,
      el(
        "span",
        {},
        column.label,
        arrow(column)
          ? el(
              "span",
              { className: "arrow", title: `${column.better} is better` },
              ` ${arrow(column)}`,
            )
          : null,
        el("span", { className: "sign", aria: { hidden: "true" } }, sign),
      ),
    );
    const cell = el(
      "th",
      { className: headClass(column), scope: "col", data: { key: column.key } },
      button,
    );
    cell.setAttribute(
      "aria-sort",
      sorted ? (state.sort.descending ? "descending" : "ascending") : "none",
    );
    return cell;
  }

  /** First the better end; again the other one; a third time the order of the runs. */
  function sortBy(column) {
    const first = column.better === "higher";
    const { key, descending } = state.sort;
    store.change("sort", (now) => {
      if (key !== column.key) now.sort = { key: column.key, descending: first };
      else if (descending === first) now.sort = { key, descending: !first };
      else now.sort = { key: null, descending: false };
    });
    head.querySelector(`[data-key="${CSS.escape(column.key)}"] button`).focus();
  }

  function drawBody() {
    const runs = store.visibleRuns();
    const found = state.folded ? foldedRows(runs) : runs.map(rowOf);
    if (!runs.length)
      found.push(
        el(
          "tr",
          {},
          el(
            "td",
            { colSpan: columns.length + 2, className: "nothing" },
            "No run passes the filters.",
          ),
        ),
      );
    replaceKeepingFocus(body, found);
    if (!state.folded)
      markBest(runs.map((run) => ({ row: rows.get(run.id), number: valueOf(run) })));
    drawChosen();
  }

  /** What competes for the best value: the metrics of finished runs. */
  function valueOf(run) {
    return (column) => (isFinished(run) ? column.number(run) : null);
  }

  function rowOf(run) {
    if (!rows.has(run.id)) rows.set(run.id, createRow(run));
    return rows.get(run.id);
  }

  function createRow(run) {
    const box = el("input", { type: "checkbox", aria: { label: `Compare ${run.label}` } });
    box.addEventListener("change", () => choose([run], box.checked));
    const row = el(
      "tr",
      { data: { run: run.id }, className: run.status },
      el("td", { className: "pick" }, box),
      el(
        "th",
        { className: "name", scope: "row" },
        el("span", { className: "mark" }),
        el("span", { title: `${run.name}\n${run.folder}` }, breakable(run.label)),
        errorOf(run),
      ),
      columns.map((column) => cellOf(column, column.text(run), run)),
    );
    row.addEventListener("pointerenter", () => onHover(run));
    row.addEventListener("pointerleave", () => onHover(null));
    return row;
  }

  /** Rows of seeds folded: one for runs with equal settings, which opens to show them. */
  function foldedRows(runs) {
    const { key, descending } = state.sort;
    const groups = sortGroups(foldSeeds(runs), store.byKey.get(key), descending);
    for (const run of runs) unmark(rowOf(run)); // single runs compete with means
    const found = groups.map((group) => ({ ...group, row: groupRow(group) }));
    markBest(found);
    return found.flatMap((group) => [
      group.row,
      ...(group.members.length > 1 && open.has(group.key) ? group.members.map(rowOf) : []),
    ]);
  }

  function groupRow(group) {
    const { key, members } = group;
    if (members.length === 1) return rowOf(members[0]);
    const ids = members.map((run) => run.id);
    const box = el("input", {
      type: "checkbox",
      aria: { label: `Compare ${members.length} seeds` },
      data: { group: ids.join(" ") },
    });
    box.addEventListener("change", () => choose(members, box.checked));
    const opener = el(
      "button",
      {
        type: "button",
        className: "opener",
        aria: { expanded: String(open.has(key)) },
        on: {
          click: () => {
            open[open.has(key) ? "delete" : "add"](key);
            drawBody();
            body.querySelector(`[data-opens="${CSS.escape(key)}"]`)?.focus();
          },
        },
        data: { opens: key },
      },
      groupName(members, columns),
      el("small", {}, plural(members.length, "seed")),
    );
    return el(
      "tr",
      { className: "group" },
      el("td", { className: "pick" }, box),
      el("th", { className: "name", scope: "row" }, opener),
      columns.map((column) => groupCell(column, group)),
    );
  }

  function markBest(entries) {
    columns.forEach((column, place) => {
      const values = entries.map(({ number }) => number(column));
      const best = store.best(column, values);
      entries.forEach(({ row }, index) => {
        const cell = row.children[place + 2];
        unmark(cell);
        if (best !== null && values[index] === best) markCell(cell);
      });
    });
  }

  function choose(runs, on) {
    store.change("chosen", (now) => {
      for (const run of runs) now.chosen[on ? "add" : "delete"](run.id);
    });
  }

  function drawChosen() {
    for (const [id, row] of rows) {
      const chosen = state.chosen.has(id);
      row.classList.toggle("chosen", chosen);
      row.querySelector(".pick input").checked = chosen;
      const mark = store.marks.of(store.content.runs[id]);
      row.querySelector(".mark").replaceChildren(...(mark ? [markSample(mark)] : []));
    }
    for (const box of body.querySelectorAll("[data-group]")) {
      const ids = box.dataset.group.split(" ").map(Number);
      const count = ids.filter((id) => state.chosen.has(id)).length;
      box.checked = count === ids.length;
      box.indeterminate = count > 0 && count < ids.length;
    }
    const runs = store.visibleRuns();
    const count = runs.filter((run) => state.chosen.has(run.id)).length;
    pickAll.checked = runs.length > 0 && count === runs.length;
    pickAll.indeterminate = count > 0 && count < runs.length;
  }

  store.subscribe(["filter", "fold"], drawBody);
  store.subscribe(["sort"], () => {
    drawHead();
    drawBody();
  });
  store.subscribe(["columns"], draw);
  store.subscribe(["chosen"], drawChosen);
  draw();

  /** Show which run the pointer is on elsewhere. */
  function highlight(run) {
    for (const [id, row] of rows) row.classList.toggle("hover", run !== null && id === run.id);
  }

  return { highlight };
}
