// Cells of the table of runs.

const statusSigns = { finished: "✓", failed: "✕", killed: "⊘", refused: "⊝", pruned: "✂" };

/** A run's error under its name: a long one is folded, a traceback under what it ends with. */
function errorOf(run) {
  if (!run.error) return null;
  const lines = run.error.trim().split("\n");
  const told = lines[0].startsWith("Traceback") ? lines.at(-1) : lines[0];
  if (lines.length === 1 && told.length <= 90) return el("p", { className: "why" }, told);
  return el(
    "details",
    { className: "why" },
    el("summary", {}, told.length > 90 ? `${told.slice(0, 88)}…` : told),
    el("pre", {}, run.error),
  );
}

/** A cell; of a run, its status has a sign. */
function cellOf(column, text, run = null) {
  const cell = el("td", { className: cellClass(column), data: { key: column.key } });
  if (column.key === "status" && run) {
    cell.append(
      el(
        "span",
        { className: `status ${text}` },
        el("i", { aria: { hidden: "true" } }, statusSigns[text] ?? "·"),
        el("span", {}, text),
      ),
    );
    return cell;
  }
  cell.append(el("span", { className: "value", title: text.length > 24 ? text : "" }, text));
  return cell;
}

/** Mark a cell's value as the best. */
function markCell(cell) {
  const options = { className: "star", role: "img", title: "best of those shown" };
  cell.classList.add("best");
  cell.prepend(el("span", { ...options, aria: { label: "best" } }, "★"));
}

/** Remove the marks from a cell or from a row. */
function unmark(element) {
  element.classList.remove("best");
  for (const cell of element.querySelectorAll(".best")) cell.classList.remove("best");
  for (const star of element.querySelectorAll(".star")) star.remove();
}

function headClass(column) {
  return column.kind === "name" ? "name" : cellClass(column);
}

/** Numbers stand to the right. */
function cellClass(column) {
  return column.categories === null ? "num" : "text";
}
