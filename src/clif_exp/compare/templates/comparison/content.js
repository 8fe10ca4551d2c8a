// The page's data, and its columns: what table, axes and differences show of a run.

/** Read the JSON of #content; each run gets its `id`. */
function readContent() {
  const content = JSON.parse(document.getElementById("content").textContent);
  content.runs.forEach((run, id) => {
    run.id = id;
    const known = run.seconds.filter((value) => value !== null);
    run.total = known.length ? known.reduce((sum, value) => sum + value, 0) : null;
  });
  return content;
}

/**
 * A column: `key`, `kind` ("fact", "setting" or "metric"), `group`, `over` (what
 * stands above its label), `label`, `title`, `better`
 * ("higher", "lower" or null), `categories` (texts, or null where it is a number),
 * `number(run)` (a value, a category's place, or null) and `text(run)`; `tick(value)` where an axis
 * writes its values in another way.
 */
function createColumns(content) {
  const [status, seed, time] = [
    {
      key: "status",
      label: "Status",
      categories: content.statuses.map((status) => status.name),
      title: "How the run ended",
      number: (run) => content.statuses.findIndex((status) => status.name === run.status),
      text: (run) => run.status,
    },
    {
      key: "seed",
      label: "Seed",
      categories: null,
      title: "Of the training",
      number: (run) => run.seed,
      text: (run) => String(run.seed),
    },
    {
      key: "time",
      label: "Time",
      categories: null,
      title: "Of all stages, what was reused included",
      number: (run) => run.total,
      text: (run) => duration(run.total),
      tick: duration,
    },
  ].map((fact) => ({ ...fact, kind: "fact", group: "Run", over: "", better: null, shown: true }));
  return [
    status,
    ...content.settings.map(settingColumn),
    seed,
    ...content.metrics.map((metric, place) => metricColumn(content, metric, place)),
    time,
  ];
}

function settingColumn(setting, place) {
  const numeric = setting.values.every((value) => value.number !== null);
  const value = (run) =>
    run.settings[place] === null ? null : setting.values[run.settings[place]];
  return {
    key: `setting:${setting.key}`,
    kind: "setting",
    group: "Settings",
    over: setting.over,
    label: setting.label,
    title: setting.key,
    better: null,
    shown: setting.shown,
    categories: numeric ? null : setting.values.map((found) => found.text),
    values: setting.values.map((found) => found.text),
    number: (run) =>
      value(run) === null ? null : numeric ? value(run).number : run.settings[place],
    place: (run) => run.settings[place],
    text: (run) => (value(run) === null ? missing : value(run).text),
  };
}

function metricColumn(content, metric, place) {
  const known = content.runs.map((run) => run.metrics[place]).filter((value) => value !== null);
  const decimals = decimalsFor(known);
  return {
    key: `metric:${metric.key}`,
    kind: "metric",
    group: metric.group,
    over: metric.group,
    label: metric.label,
    title: [metric.key, metric.meaning].filter(Boolean).join(": "),
    better: metric.better,
    shown: metric.shown,
    categories: null,
    decimals,
    number: (run) => run.metrics[place],
    text: (run) => fixed(run.metrics[place], decimals),
  };
}

function isFinished(run) {
  return run.status === "finished";
}

/** ↑, ↓ or nothing. */
function arrow(column) {
  return { higher: "↑", lower: "↓" }[column.better] ?? "";
}

/** A column's whole name in one line: "multi · Identity ↑". */
function fullName(column) {
  const over = column.over ? `${column.over} · ` : "";
  return `${over}${column.label} ${arrow(column)}`.trim();
}
