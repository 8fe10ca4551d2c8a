// Values of curves: which is shown first, how they are smoothed, and their paths.

/** The curve that is shown first: a validation loss, else a loss, else the first. */
function firstCurve(names) {
  const found = [/validation/, /(^|\/)loss$/, /loss/]
    .map((kind) => names.findIndex((name) => kind.test(name)))
    .find((place) => place >= 0);
  return found ?? 0;
}

/** Smooth by an exponential mean that starts without a bias towards 0; gaps stay. */
function smooth(values, strength) {
  if (!strength) return values;
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = strength * sum + (1 - strength) * value;
    weight = strength * weight + (1 - strength);
    return sum / weight;
  });
}

/** Smoothed curves fill the chart; the raw ones behind them may leave it. */
function verticalRange(series, known) {
  const smoothed = series.flatMap((one) => one.values.filter((value) => value !== null));
  const [low, high] = [Math.min(...smoothed), Math.max(...smoothed)];
  return [
    Math.max(Math.min(...known), low - (high - low) * 0.25),
    Math.min(Math.max(...known), high + (high - low) * 0.25),
  ];
}

function pathOf(steps, values, x, y) {
  let path = "";
  let pen = "M";
  values.forEach((value, place) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${x.at(steps[place]).toFixed(1)} ${y.at(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}
