// Curves of the compared runs over one another, with a cursor that the legend tells the values at.

const chartHeight = 330;
const curveMargins = { top: 12, right: 16, bottom: 40, left: 62 };

function createCurves(store) {
  const section = document.getElementById("curves");
  if (!section) return;
  const { content } = store;
  const choice = { curve: firstCurve(content.curves), smoothing: 0, log: false, cursor: null };
  const place = section.querySelector(".chart-place");
  const legend = createLegend(section.querySelector(".legend-place"), store.marks);
  let drawn = null; // what the cursor needs of the last drawing

  section.querySelector(".controls").replaceChildren(...controls());

  function controls() {
    const groups = Map.groupBy(
      content.curves.keys(),
      (index) => content.curves[index].split("/")[0],
    );
    const options = [...groups].map(([stage, indices]) => [
      stage,
      indices.map((index) => [index, content.curves[index].split("/").slice(1).join("/") || stage]),
    ]);
    const curve = dropDown(options, {
      value: choice.curve,
      onChange: (value) => {
        choice.curve = Number(value);
        choice.cursor = null;
        draw();
      },
    });
    curve.id = "curve";
    const strength = el("output", {}, "0");
    const smoothing = el("input", {
      type: "range",
      min: 0,
      max: 0.98,
      step: 0.02,
      value: 0,
      id: "smoothing",
    });
    smoothing.addEventListener("input", () => {
      choice.smoothing = Number(smoothing.value);
      strength.textContent = smoothing.value;
      draw();
    });
    const log = tickBox("Log scale", {
      checked: false,
      onChange: (on) => {
        choice.log = on;
        draw();
      },
    });
    log.querySelector("input").id = "log";
    return [
      labelled("Curve", curve),
      labelled("Smoothing", el("span", { className: "slider" }, smoothing, strength)),
      log,
    ];
  }

  /** The compared runs that have this curve, with raw and smoothed values. */
  function seriesOf() {
    return store
      .compared()
      .filter((run) => run.curves[choice.curve])
      .map((run) => {
        const [steps, raw] = run.curves[choice.curve];
        const values = raw.map((value) =>
          value !== null && (!choice.log || value > 0) ? value : null,
        );
        return {
          run,
          mark: store.marks.of(run),
          steps,
          raw: values,
          values: smooth(values, choice.smoothing),
        };
      });
  }

  function draw() {
    const series = seriesOf();
    const without = store.compared().length - series.length;
    section.querySelector("#curves-of").textContent = comparedText(
      store,
      without ? `; ${without} without this curve` : "",
    );
    const known = series.flatMap((one) => one.raw.filter((value) => value !== null));
    if (!known.length) {
      drawn = null;
      place.replaceChildren(
        el(
          "p",
          { className: "nothing" },
          choice.log && series.length
            ? "No value above 0 to show on a log scale."
            : "None of these runs has this curve.",
        ),
      );
      legend.draw([], null);
      return;
    }
    const width = Math.max(280, placeWidth);
    const x = createScale(
      Math.min(...series.map((one) => one.steps[0])),
      Math.max(...series.map((one) => one.steps.at(-1))),
      curveMargins.left,
      width - curveMargins.right,
    );
    const y = createScale(
      ...verticalRange(series, known),
      chartHeight - curveMargins.bottom,
      curveMargins.top,
      { log: choice.log },
    );
    const cursor = svg("line", {
      class: "cursor",
      y1: curveMargins.top,
      y2: chartHeight - curveMargins.bottom,
      visibility: "hidden",
    });
    const paths = series
      .flatMap((one) => [
        choice.smoothing > 0
          ? svg("path", {
              class: "raw",
              d: pathOf(one.steps, one.raw, x, y),
              style: `stroke:${one.mark.colour}`,
            })
          : null,
        svg("path", {
          class: "curve",
          d: pathOf(one.steps, one.values, x, y),
          style: `stroke:${one.mark.colour}`,
          "stroke-dasharray": one.mark.dash,
          "data-run": one.run.id,
        }),
      ])
      .filter(Boolean);
    const clip = svg(
      "clipPath",
      { id: "curve-area" },
      svg("rect", {
        x: curveMargins.left,
        y: curveMargins.top - 2,
        width: width - curveMargins.left - curveMargins.right,
        height: chartHeight - curveMargins.bottom - curveMargins.top + 4,
      }),
    );
    const chart = svg(
      "svg",
      {
        class: "curves",
        viewBox: `0 0 ${width} ${chartHeight}`,
        width,
        height: chartHeight,
        tabindex: 0,
        role: "img",
        "aria-label": `${content.curves[choice.curve]} of ${plural(series.length, "run")}. Arrow keys move the cursor; the values stand in the table below.`,
      },
      svg("defs", {}, clip),
      grid(x, y, width),
      svg("g", { fill: "none", "clip-path": "url(#curve-area)" }, paths),
      cursor,
    );
    chart.addEventListener("pointermove", (event) =>
      moveTo(
        x.value(
          (event.clientX - chart.getBoundingClientRect().left) *
            (width / chart.getBoundingClientRect().width),
        ),
      ),
    );
    chart.addEventListener("keydown", stepCursor);
    replaceKeepingFocus(place, [chart]);
    drawn = { series, x, cursor, chart };
    moveTo(choice.cursor);
  }

  function grid(x, y, width) {
    const bottom = chartHeight - curveMargins.bottom;
    const right = width - curveMargins.right;
    return svg(
      "g",
      { class: "grid" },
      ticksOf(y, 6)
        .map((tick) => [
          svg("line", { x1: curveMargins.left, x2: right, y1: y.at(tick), y2: y.at(tick) }),
          svg(
            "text",
            { x: curveMargins.left - 8, y: y.at(tick) + 4, "text-anchor": "end" },
            short(tick),
          ),
        ])
        .flat(),
      ticksOf(x, Math.max(3, Math.floor(width / 130)))
        .filter(Number.isInteger)
        .map((tick) =>
          svg(
            "text",
            { x: x.at(tick), y: bottom + 18, "text-anchor": "middle" },
            tick.toLocaleString("en"),
          ),
        ),
      svg(
        "text",
        {
          class: "axis-title",
          x: (curveMargins.left + right) / 2,
          y: chartHeight - 4,
          "text-anchor": "middle",
        },
        "step",
      ),
    );
  }

  /** Put the cursor at a step, or remove it. */
  function moveTo(step) {
    if (!drawn) return;
    const { series, x, cursor } = drawn;
    choice.cursor = step === null ? null : Math.round(Math.max(x.low, Math.min(x.high, step)));
    cursor.setAttribute("visibility", choice.cursor === null ? "hidden" : "visible");
    if (choice.cursor !== null) {
      cursor.setAttribute("x1", x.at(choice.cursor));
      cursor.setAttribute("x2", x.at(choice.cursor));
    }
    legend.draw(series, choice.cursor);
  }

  function stepCursor(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const { x } = drawn;
    const start = choice.cursor ?? (direction > 0 ? x.low : x.high);
    moveTo(start + (direction * (x.high - x.low)) / 50);
  }

  store.subscribe(["filter", "sort", "chosen"], draw);
  // Read once for each change: reading it while other parts change would lay the page out again.
  let placeWidth = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== placeWidth) {
      placeWidth = place.clientWidth;
      draw();
    }
  }).observe(place);
  draw();
}

/** Which runs curves and images are of, in words. */
function comparedText(store, addition = "") {
  const runs = store.compared();
  if (!runs.length)
    return store.state.chosen.size
      ? "The ticked runs do not pass the filters."
      : "No run passes the filters.";
  const which = store.state.chosen.size
    ? `The ${plural(runs.length, "ticked run")}`
    : `The first ${plural(runs.length, "run")} of the table; tick others there`;
  return `${which}${addition}.`;
}
