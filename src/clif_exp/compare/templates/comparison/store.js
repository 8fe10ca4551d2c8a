// What the reader chose, and which runs follow from it. Views subscribe to kinds of changes:
// "filter", "sort", "columns", "fold", "chosen" and "pair".

const comparedByDefault = 4;

function createStore(content, columns) {
  const state = {
    text: "",
    statuses: new Set(content.statuses.map((status) => status.name)),
    settings: new Map(), // a column's key -> places of the values that stay
    ranges: new Map(), // a column's key -> [low, high]
    sort: { key: null, descending: false },
    shown: new Set(columns.filter((column) => column.shown).map((column) => column.key)),
    folded: false,
    chosen: new Set(), // ids, in the order of choosing
    pair: [null, null], // ids; null: follows from what is chosen
  };
  const listeners = [];
  const marks = createMarks();
  const byKey = new Map(columns.map((column) => [column.key, column]));
  let visible = null;

  /** Change the state, and tell those who asked for this kind of change. */
  function change(kind, mutate) {
    mutate(state);
    if (kind === "filter" || kind === "sort") visible = null;
    marks.assign(compared());
    for (const { kinds, listener } of listeners) if (kinds.includes(kind)) listener(kind);
  }

  function subscribe(kinds, listener) {
    listeners.push({ kinds, listener });
  }

  function passes(run) {
    if (!state.statuses.has(run.status)) return false;
    for (const [key, places] of state.settings)
      if (!places.has(byKey.get(key).place(run))) return false;
    for (const [key, [low, high]] of state.ranges) {
      const value = byKey.get(key).number(run);
      if (value === null || value < low || value > high) return false;
    }
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => searchText(run).includes(word));
  }

  function searchText(run) {
    run.search ??= [
      run.name,
      run.folder,
      run.status,
      run.error ?? "",
      `seed=${run.seed}`,
      ...columns
        .filter((column) => column.kind === "setting")
        .map((column) => `${column.title}=${column.text(run)}`),
    ]
      .join("\n")
      .toLowerCase();
    return run.search;
  }

  /** The runs that pass all filters, in the table's order. */
  function visibleRuns() {
    visible ??= sorted(content.runs.filter(passes));
    return visible;
  }

  /** Runs without a value come last, whichever the direction. */
  function sorted(runs) {
    const { key, descending } = state.sort;
    if (key === null) return runs;
    const turn = descending ? -1 : 1;
    if (key === "name")
      return [...runs].sort((a, b) => turn * a.name.localeCompare(b.name, "en", { numeric: true }));
    const { number } = byKey.get(key);
    return [...runs].sort((a, b) => {
      const [left, right] = [number(a), number(b)];
      if (left === null || right === null) return (left === null) - (right === null);
      return turn * (left - right);
    });
  }

  /** The runs whose curves and images are shown: the chosen ones that are visible, or the first. */
  function compared(limit = comparedByDefault) {
    const runs = visibleRuns();
    const chosen = runs.filter((run) => state.chosen.has(run.id));
    if (chosen.length) return chosen;
    if (state.chosen.size) return [];
    const finished = runs.filter(isFinished);
    return (finished.length ? finished : runs).slice(0, limit);
  }

  /** A and B: as set, else the first two that are compared, else the first two there are. */
  function pair() {
    const candidates = [...compared(), ...visibleRuns(), ...content.runs].map((run) => run.id);
    const [a, b] = state.pair;
    const first = a ?? candidates.find((id) => id !== b) ?? candidates[0];
    const second = b ?? candidates.find((id) => id !== first) ?? first;
    return [content.runs[first], content.runs[second]];
  }

  /** Columns that the table shows, in order. */
  function shownColumns() {
    return columns.filter((column) => state.shown.has(column.key));
  }

  /** The best value of a column among runs; null without a direction, or where all are alike. */
  function best(column, values) {
    const known = values.filter((value) => value !== null);
    if (!column.better || new Set(known).size < 2) return null;
    return column.better === "higher" ? Math.max(...known) : Math.min(...known);
  }

  function filtered() {
    return (
      Boolean(state.text || state.settings.size || state.ranges.size) ||
      state.statuses.size < content.statuses.length
    );
  }

  function clearFilters() {
    change("filter", (now) => {
      now.text = "";
      now.settings.clear();
      now.ranges.clear();
      now.statuses = new Set(content.statuses.map((status) => status.name));
    });
  }

  marks.assign(compared());
  return {
    state,
    content,
    columns,
    marks,
    byKey,
    change,
    subscribe,
    visibleRuns,
    compared,
    pair,
    shownColumns,
    best,
    filtered,
    clearFilters,
  };
}
