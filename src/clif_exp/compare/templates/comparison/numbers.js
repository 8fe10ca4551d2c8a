// How numbers are written.

const missing = "–";

/** Decimals that suit all values of a column, so that its digits stand below one another. */
function decimalsFor(values) {
  const largest = Math.max(0, ...values.map(Math.abs));
  const smallest = Math.min(Infinity, ...values.filter((value) => value !== 0).map(Math.abs));
  if (values.every(Number.isInteger)) return 0;
  if (largest >= 1000) return 1;
  if (largest >= 10) return 2;
  return smallest < 0.001 && largest < 0.1 ? 5 : 3;
}

/** Decimals that leave the largest value four digits; null where that needs too many. */
function fourDigits(values) {
  const largest = Math.max(...values.map(Math.abs));
  const decimals = largest > 0 ? Math.max(0, 3 - Math.floor(Math.log10(largest))) : 0;
  return decimals > 6 ? null : decimals;
}

/** A number with fixed decimals, and a true minus. */
function fixed(value, decimals) {
  return value === null ? missing : value.toFixed(decimals).replace("-", "−");
}

/** A number in as few digits as say it: 0.0001 as 1e-4. */
function short(value) {
  if (value === null) return missing;
  const size = Math.abs(value);
  let text = String(Number(value.toPrecision(4)));
  if (size >= 1e6 || (size > 0 && size < 0.001))
    text = value
      .toExponential(2)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  return value < 0 ? text.replace("-", "−") : text;
}

/** A duration: "48 s", "12 min", "3.4 h". */
function duration(seconds) {
  if (seconds === null) return missing;
  if (seconds < 600) return `${Math.round(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The standard deviation of a sample; null for fewer than two values. */
function deviation(values) {
  if (values.length < 2) return null;
  const centre = mean(values);
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1),
  );
}

/** "1 run", "3 runs". */
function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}
