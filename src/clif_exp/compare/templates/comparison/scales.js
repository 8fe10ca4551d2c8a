// Scales of axes: values to pixels and back, and where their ticks stand.

/** A scale over values; `log` needs values above 0. */
function createScale(low, high, start, end, { log = false } = {}) {
  const bend = log ? Math.log10 : (value) => value;
  const unbend = log ? (value) => 10 ** value : (value) => value;
  let [from, to] = [bend(low), bend(high)];
  if (from === to)
    [from, to] = log
      ? [from - 0.5, to + 0.5]
      : [from - Math.max(0.5, Math.abs(from) / 10), to + Math.max(0.5, Math.abs(to) / 10)];
  return {
    log,
    low: unbend(from),
    high: unbend(to),
    at: (value) => start + ((bend(value) - from) / (to - from)) * (end - start),
    value: (position) => unbend(from + ((position - start) / (end - start)) * (to - from)),
  };
}

/** Round values inside a scale, about `count` of them. */
function ticksOf(scale, count) {
  if (scale.log) {
    const decades = powersOfTen(scale);
    if (decades.length >= 2) {
      const every = Math.ceil(decades.length / count);
      return decades.filter((_, place) => place % every === 0);
    }
  }
  const rough = (scale.high - scale.low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (
    let tick = Math.ceil(scale.low / step) * step;
    tick <= scale.high + step * 1e-6;
    tick += step
  ) {
    ticks.push(Math.abs(tick) < step * 1e-6 ? 0 : Number(tick.toPrecision(12)));
  }
  return ticks.filter((tick) => !scale.log || tick > 0);
}

function powersOfTen(scale) {
  const first = Math.ceil(Math.log10(scale.low) - 1e-9);
  const last = Math.floor(Math.log10(scale.high) + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => 10 ** (first + place));
}

/** Whether values span so much that a linear axis would hide the small ones. */
function spansDecades(values) {
  return (
    values.length > 2 &&
    values.every((value) => value > 0) &&
    Math.max(...values) / Math.min(...values) >= 50
  );
}
