// The table of runs: sorted by any column, the best value of each metric marked, seeds folded.

const statusSigns = { finished: "✓", failed: "✕", killed: "⊘", refused: "⊝", pruned: "✂" };

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
    const titles = [{ key: "name", label: "Run", title: "Its name: what it was called with", kind: "name", better: null }, ...columns];
    replaceKeepingFocus(head, [el("tr", {}, el("th", { className: "pick", scope: "col" }, pickAll), titles.map(headCell))]);
  }

  const pickAll = el("input", { type: "checkbox", title: "Tick all runs that are shown", aria: { label: "Tick all runs that are shown" } });
  pickAll.addEventListener("change", () => choose(store.visibleRuns(), pickAll.checked));

  function headCell(column) {
    const sorted = state.sort.key === column.key;
    const sign = sorted ? (state.sort.descending ? "▼" : "▲") : "";
    const button = el("button", { type: "button", title: column.title, on: { click: () => sortBy(column) } },
      column.kind === "metric" && column.group ? el("small", {}, column.group) : null,
      el("span", {}, column.label, arrow(column) ? el("span", { className: "arrow", title: `${column.better} is better` }, ` ${arrow(column)}`) : null,
        el("span", { className: "sign", aria: { hidden: "true" } }, sign)),
    );
    const cell = el("th", { className: headClass(column), scope: "col", data: { key: column.key } }, button);
    cell.setAttribute("aria-sort", sorted ? (state.sort.descending ? "descending" : "ascending") : "none");
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
    if (!runs.length) found.push(el("tr", {}, el("td", { colSpan: columns.length + 2, className: "nothing" }, "No run passes the filters.")));
    replaceKeepingFocus(body, found);
    if (!state.folded) markBest(runs.map((run) => ({ row: rows.get(run.id), number: (column) => column.number(run) })));
    drawChosen();
  }

  function rowOf(run) {
    if (!rows.has(run.id)) rows.set(run.id, createRow(run));
    return rows.get(run.id);
  }

  function createRow(run) {
    const box = el("input", { type: "checkbox", aria: { label: `Compare ${run.label}` } });
    box.addEventListener("change", () => choose([run], box.checked));
    const row = el("tr", { data: { run: run.id }, className: run.status },
      el("td", { className: "pick" }, box),
      el("th", { className: "name", scope: "row" }, el("span", { className: "mark" }), el("span", { title: `${run.name}\n${run.folder}` }, breakable(run.label)), errorOf(run)),
      columns.map((column) => cellOf(column, column.text(run), run)),
    );
    row.addEventListener("pointerenter", () => onHover(run));
    row.addEventListener("pointerleave", () => onHover(null));
    return row;
  }

  function errorOf(run) {
    if (!run.error) return null;
    const [first, ...rest] = run.error.split("\n");
    if (!rest.length && first.length <= 90) return el("p", { className: "why" }, run.error);
    return el("details", { className: "why" }, el("summary", {}, first.length > 90 ? `${first.slice(0, 88)}…` : first), el("pre", {}, run.error));
  }

  function cellOf(column, text, run) {
    const cell = el("td", { className: cellClass(column), data: { key: column.key } });
    if (column.key === "status" && run) {
      cell.append(el("span", { className: `status ${text}` }, el("i", { aria: { hidden: "true" } }, statusSigns[text] ?? "·"), el("span", {}, text)));
      return cell;
    }
    cell.append(el("span", { className: "value", title: text.length > 24 ? text : "" }, text));
    return cell;
  }

  // Seeds folded: a row for runs with equal settings, which opens to show them.

  function foldedRows(runs) {
    const groups = [...Map.groupBy(runs, (run) => run.settings.join(","))].map(([key, members]) => summarise(key, members));
    const { key, descending } = state.sort;
    const column = store.byKey.get(key);
    if (column && column.kind !== "setting" && key !== "status") {
      const turn = descending ? -1 : 1;
      groups.sort((a, b) => {
        const [left, right] = [a.number(column), b.number(column)];
        if (left === null || right === null) return (left === null) - (right === null);
        return turn * (left - right);
      });
    }
    const found = groups.map((group) => ({ ...group, row: groupRow(group) }));
    markBest(found);
    return found.flatMap((group) => [group.row, ...(open.has(group.key) ? group.members.map(rowOf) : [])]);
  }

  function summarise(key, members) {
    const known = (column) => members.map(column.number).filter((value) => value !== null);
    return { key, members, known, number: (column) => (known(column).length ? mean(known(column)) : null) };
  }

  function groupRow(group) {
    const { key, members } = group;
    if (members.length === 1) return rowOf(members[0]);
    const ids = members.map((run) => run.id);
    const box = el("input", { type: "checkbox", aria: { label: `Compare ${members.length} seeds` }, data: { group: ids.join(" ") } });
    box.addEventListener("change", () => choose(members, box.checked));
    const opener = el("button", {
      type: "button", className: "opener", aria: { expanded: String(open.has(key)) },
      on: { click: () => { open[open.has(key) ? "delete" : "add"](key); drawBody(); body.querySelector(`[data-opens="${CSS.escape(key)}"]`)?.focus(); } },
      data: { opens: key },
    }, `${groupName(members)}`, el("small", {}, plural(members.length, "seed")));
    return el("tr", { className: "group" }, el("td", { className: "pick" }, box), el("th", { className: "name", scope: "row" }, opener),
      columns.map((column) => groupCell(column, group)));
  }

  /** The runs' name without its seed. */
  function groupName(members) {
    const name = members[0].label.split(/,\s+/).filter((part) => !part.startsWith("seed=")).join(", ");
    return name || "all settings equal";
  }

  function groupCell(column, { members, known }) {
    const values = known(column);
    if (column.key === "status") {
      const counts = Map.groupBy(members, (run) => run.status);
      return cellOf(column, [...counts].map(([name, runs]) => `${runs.length} ${name}`).join(", "), null);
    }
    if (column.key === "seed") return cellOf(column, members.map((run) => run.seed).sort((a, b) => a - b).join(", "), null);
    if (column.kind === "setting") return cellOf(column, column.text(members[0]), null);
    if (column.key === "time") return cellOf(column, duration(values.length ? mean(values) : null), null);
    const spread = deviation(values);
    const cell = cellOf(column, fixed(values.length ? mean(values) : null, column.decimals), null);
    if (spread !== null) cell.append(el("small", {}, ` ± ${fixed(spread, column.decimals)}`));
    if (values.length < members.length) cell.title = `Mean of ${values.length} of ${members.length} seeds`;
    return cell;
  }

  function markBest(entries) {
    columns.forEach((column, place) => {
      const best = store.best(column, entries.map(({ number }) => number(column)));
      for (const { row, number } of entries) {
        const cell = row.children[place + 2];
        const is = best !== null && number(column) === best;
        cell.classList.toggle("best", is);
        cell.querySelector(".star")?.remove();
        if (is) cell.prepend(el("span", { className: "star", role: "img", title: "best of those shown", aria: { label: "best" } }, "★"));
      }
    });
  }

  function choose(runs, on) {
    store.change("chosen", (now) => { for (const run of runs) now.chosen[on ? "add" : "delete"](run.id); });
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
  store.subscribe(["sort"], () => { drawHead(); drawBody(); });
  store.subscribe(["columns"], draw);
  store.subscribe(["chosen"], drawChosen);
  draw();

  /** Show which run the pointer is on elsewhere. */
  function highlight(run) {
    for (const [id, row] of rows) row.classList.toggle("hover", run !== null && id === run.id);
  }

  return { highlight };
}

function headClass(column) {
  return column.kind === "name" ? "name" : cellClass(column);
}

/** Numbers stand to the right. */
function cellClass(column) {
  return column.categories === null ? "num" : "text";
}
