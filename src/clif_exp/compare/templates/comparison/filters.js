// The controls above the table: text, status, values of settings, columns, seeds folded.

const mostFilterValues = 40; // a setting with more is filtered by its range

function createFilters(store) {
  const place = document.getElementById("filters");
  const { state, content, columns } = store;

  const search = el("input", {
    type: "search",
    placeholder: "name, setting, error …",
    id: "search",
  });
  search.addEventListener("input", () =>
    store.change("filter", (now) => {
      now.text = search.value;
    }),
  );

  const menus = el("div", { className: "menus" });
  const clear = el("button", {
    type: "button",
    className: "quiet",
    textContent: "Clear filters",
    on: { click: store.clearFilters },
  });
  const forget = el("button", {
    type: "button",
    className: "quiet",
    textContent: "Untick all",
    on: { click: () => store.change("chosen", (now) => now.chosen.clear()) },
  });
  const severalSeeds = new Set(content.runs.map((run) => run.seed)).size > 1;
  const fold = tickBox("Fold seeds (mean ± sd)", {
    checked: state.folded,
    onChange: (on) =>
      store.change("fold", (now) => {
        now.folded = on;
      }),
    title: "One row for runs that differ in nothing but the seed",
  });

  place.replaceChildren(
    labelled("Find", search),
    menus,
    columnMenu(),
    severalSeeds ? fold : "",
    clear,
    forget,
  );

  /** A menu for the status, if there are several, and one for each setting that is shown. */
  function drawMenus() {
    const found = store
      .shownColumns()
      .filter((column) => column.kind === "setting" && column.values.length <= mostFilterValues);
    menus.replaceChildren(
      ...(content.statuses.length > 1 ? [statusMenu()] : []),
      ...found.map(settingMenu),
    );
  }

  function statusMenu() {
    const boxes = content.statuses.map(({ name, count }) =>
      tickBox(`${name} (${count})`, {
        checked: state.statuses.has(name),
        onChange: (on) =>
          store.change("filter", (now) => {
            now.statuses[on ? "add" : "delete"](name);
          }),
      }),
    );
    return menu("Status", boxes, { id: "filter-status" });
  }

  function settingMenu(column) {
    const chosen = () => state.settings.get(column.key);
    const boxes = column.values.map((text, value) =>
      tickBox(text, {
        checked: chosen()?.has(value) ?? true,
        onChange: (on) =>
          store.change("filter", (now) => {
            const places = new Set(chosen() ?? column.values.keys());
            places[on ? "add" : "delete"](value);
            if (places.size === column.values.length) now.settings.delete(column.key);
            else now.settings.set(column.key, places);
          }),
      }),
    );
    const found = menu(column.label, boxes, { title: column.title });
    found.dataset.setting = column.title;
    return found;
  }

  /** Which columns the table and the axes show, by group. */
  function columnMenu() {
    const groups = Map.groupBy(columns, (column) => column.group);
    const boxes = [...groups].map(([group, members]) =>
      el(
        "fieldset",
        {},
        el("legend", {}, group || "Metrics"),
        members.map((column) =>
          tickBox(`${column.label} ${arrow(column)}`.trim(), {
            checked: state.shown.has(column.key),
            title: column.title,
            onChange: (on) =>
              store.change("columns", (now) => {
                now.shown[on ? "add" : "delete"](column.key);
              }),
          }),
        ),
      ),
    );
    return menu("Columns", boxes, { id: "columns" });
  }

  /** Say what is shown; controls that would do nothing are off. */
  function tell() {
    const count = store.visibleRuns().length;
    const chosen = state.chosen.size ? `, ${state.chosen.size} ticked` : "";
    document.getElementById("shown").textContent =
      `${count} of ${plural(content.runs.length, "run")} shown${chosen}`;
    clear.disabled = !store.filtered();
    forget.disabled = state.chosen.size === 0;
    for (const found of menus.querySelectorAll("[data-setting]")) {
      found.classList.toggle("active", state.settings.has(`setting:${found.dataset.setting}`));
    }
    menus
      .querySelector("#filter-status")
      ?.classList.toggle("active", state.statuses.size < content.statuses.length);
  }

  store.subscribe(["filter"], () => {
    if (search.value !== state.text) search.value = state.text;
    if (!store.filtered()) drawMenus(); // all boxes are ticked again
    tell();
  });
  store.subscribe(["columns"], () => {
    drawMenus();
    tell();
  });
  store.subscribe(["chosen"], tell);
  drawMenus();
  tell();
}
