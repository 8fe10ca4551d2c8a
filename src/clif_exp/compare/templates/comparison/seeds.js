// Seeds folded: runs that differ in nothing but the seed, as one row of means.

/**
 * Groups of runs with equal settings, in the runs' order: `key`, `members`, `known(column)` (the
 * measured values) and `number(column)` (their mean, or null).
 */
function foldSeeds(runs) {
  const groups = Map.groupBy(runs, (run) => run.settings.join(","));
  return [...groups].map(([key, members]) => summarise(key, members));
}

function summarise(key, members) {
  // What a run left that did not finish may be measured halfway: it does not enter a mean.
  const counted = (column) => members.filter((run) => column.kind !== "metric" || isFinished(run));
  const known = (column) =>
    counted(column)
      .map(column.number)
      .filter((value) => value !== null);
  return {
    key,
    members,
    known,
    number: (column) => (known(column).length ? mean(known(column)) : null),
  };
}

/** Sort groups by the mean of a column; the runs' order is that of the others already. */
function sortGroups(groups, column, descending) {
  if (!column || column.kind === "setting" || column.key === "status") return groups;
  const turn = descending ? -1 : 1;
  return groups.sort((a, b) => {
    const [left, right] = [a.number(column), b.number(column)];
    if (left === null || right === null) return (left === null) - (right === null);
    return turn * (left - right);
  });
}

/** The members' name without its seed, or their settings where names are folders. */
function groupName(members, columns) {
  const { label } = members[0];
  const parts = label.includes("=")
    ? label.split(/,\s+/).filter((part) => !part.startsWith("seed="))
    : columns
        .filter((column) => column.kind === "setting")
        .map((column) => `${column.label}=${column.text(members[0])}`);
  return parts.join(", ") || "all settings equal";
}

/** A group's cell: of a metric its mean ± standard deviation. */
function groupCell(column, { members, known }) {
  const values = known(column);
  if (column.kind !== "metric") return cellOf(column, groupText(column, members, values));
  const spread = deviation(values);
  const cell = cellOf(column, fixed(values.length ? mean(values) : null, column.decimals));
  if (spread !== null) cell.append(el("small", {}, ` ± ${fixed(spread, column.decimals)}`));
  if (values.length < members.length) {
    cell.title = `Mean of ${values.length} of ${members.length} seeds`;
  }
  return cell;
}

/** What a group says of a setting, the status, the seeds or the time. */
function groupText(column, members, values) {
  if (column.kind === "setting") return column.text(members[0]);
  if (column.key === "time") return duration(values.length ? mean(values) : null);
  if (column.key === "seed") return values.sort((a, b) => a - b).join(", ");
  const counts = Map.groupBy(members, (run) => run.status);
  return [...counts].map(([name, runs]) => `${runs.length} ${name}`).join(", ");
}
