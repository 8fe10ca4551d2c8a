// The images of the compared runs: a row for each prompt and seed, a column for each run.

const rowsAtOnce = 12;

/** Addresses of images, which stand in blocks at the page's end that are read when needed. */
function createAddresses(content) {
  const elements = document.querySelectorAll("script.images");
  const blocks = new Map();
  return (place) => {
    const number = Math.floor(place / content.images.block);
    if (!blocks.has(number)) {
      blocks.set(number, JSON.parse(elements[number].textContent));
      elements[number].textContent = ""; // held once
    }
    return blocks.get(number)[place % content.images.block];
  };
}

/** An image's alternative text. */
function describeImage(row, run) {
  return `${row.prompt}, seed ${row.seed}, ${run.label}`;
}

function createImages(store, viewer, addressOf) {
  const section = document.getElementById("images");
  const { content } = store;
  const { rows, cells } = content.images;
  const place = section.querySelector(".grid-place");
  const parts = [...new Set(rows.map((row) => row.part))];
  const choice = {
    part: parts.includes("multi") ? "multi" : parts[0],
    prompt: "",
    most: rowsAtOnce,
  };

  const loader = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        target.src = addressOf(Number(target.dataset.place));
        loader.unobserve(target);
      }
    },
    { rootMargin: "400px" },
  );

  section
    .querySelector(".notes")
    .replaceChildren(...content.images.notes.map((note) => el("p", {}, note)));

  function drawControls() {
    const part = dropDown([["", [["", "all parts"], ...parts.map((name) => [name, name])]]], {
      value: choice.part,
      onChange: (value) => {
        Object.assign(choice, { part: value, prompt: "", most: rowsAtOnce });
        drawControls();
        draw();
      },
    });
    const prompts = [...new Set(rows.filter(inPart).map((row) => row.prompt))];
    const prompt = dropDown(
      [
        [
          "",
          [["", `all ${plural(prompts.length, "prompt")}`], ...prompts.map((text) => [text, text])],
        ],
      ],
      {
        value: choice.prompt,
        onChange: (value) => {
          choice.prompt = value;
          choice.most = rowsAtOnce;
          draw();
        },
      },
    );
    const size = el("input", { type: "range", min: 80, max: 320, step: 10, value: 150 });
    size.addEventListener("input", () => place.style.setProperty("--tile", `${size.value}px`));
    part.id = "part";
    prompt.id = "prompt";
    section
      .querySelector(".controls")
      .replaceChildren(labelled("Part", part), labelled("Prompt", prompt), labelled("Size", size));
  }

  const inPart = (row) => !choice.part || row.part === choice.part;

  /** Places of the rows that pass the choice and hold an image of a compared run. */
  function chosenRows(runs) {
    return [...rows.keys()].filter(
      (index) =>
        inPart(rows[index]) &&
        (!choice.prompt || rows[index].prompt === choice.prompt) &&
        runs.some((run) => (cells[run.id]?.[index] ?? null) !== null),
    );
  }

  function draw() {
    loader.disconnect();
    const runs = store.compared().filter((run) => cells[run.id]?.some((found) => found !== null));
    const without = store.compared().length - runs.length;
    section.querySelector("#images-of").textContent = comparedText(
      store,
      without ? `; ${without} without images` : "",
    );
    const found = chosenRows(runs);
    place.hidden = !found.length;
    place.style.setProperty("--runs", runs.length);
    const corner = el("div", { className: "heads" }, runs.map(headOf));
    place.replaceChildren(
      corner,
      ...found.slice(0, choice.most).map((index) => rowOf(index, runs, found)),
    );
    drawMore(found.length - choice.most);
  }

  function headOf(run) {
    const mark = store.marks.of(run);
    return el(
      "div",
      { className: "run-head", title: run.name },
      mark ? markSample(mark) : "",
      el("span", {}, breakable(run.label)),
    );
  }

  function rowOf(index, runs, found) {
    const row = rows[index];
    const label = el(
      "p",
      { className: "prompt" },
      el("span", {}, row.prompt),
      el("small", {}, `seed ${row.seed}`),
    );
    return el(
      "div",
      { className: "image-row" },
      label,
      el(
        "div",
        { className: "cells" },
        runs.map((run) => cellOf(row, index, run, found)),
      ),
    );
  }

  function cellOf(row, index, run, found) {
    const file = cells[run.id][index];
    if (file === null || file === undefined) return el("span", { className: "no-image" }, missing);
    const image = el("img", {
      alt: describeImage(row, run),
      decoding: "async",
      data: { place: file },
    });
    loader.observe(image);
    return el(
      "button",
      {
        type: "button",
        className: "cell",
        aria: { label: `Enlarge: ${describeImage(row, run)}` },
        on: { click: () => viewer.open({ row: index, run, rows: found }) },
      },
      image,
    );
  }

  function drawMore(rest) {
    const more = el(
      "button",
      {
        type: "button",
        className: "quiet",
        on: {
          click: () => {
            choice.most += 2 * rowsAtOnce;
            draw();
          },
        },
      },
      `Show ${plural(Math.min(rest, 2 * rowsAtOnce), "more row")} of ${rest}`,
    );
    section.querySelector(".more-place").replaceChildren(...(rest > 0 ? [more] : []));
  }

  store.subscribe(["filter", "sort", "chosen"], draw);
  drawControls();
  draw();
}
