// An image enlarged, and A/B flipped: both runs' images lie over one another, one is shown.

const zooms = [1, 1.5, 2, 3, 4];

function createViewer(store, addressOf) {
  const dialog = document.getElementById("viewer");
  const { content } = store;
  const { rows, cells } = content.images;
  const view = { row: 0, rows: [], side: 0, zoom: 0 };
  const sides = [0, 1].map(() => el("img", { className: "side" }));
  const stage = el(
    "div",
    { className: "stage", tabIndex: 0, role: "region", aria: { label: "Enlarged image" } },
    sides,
  );
  const title = el("p", { className: "prompt" });
  const caption = el("p", { className: "caption", role: "status", aria: { live: "polite" } });
  const button = (text, label, action, id = "") =>
    el("button", {
      type: "button",
      id,
      className: "quiet",
      textContent: text,
      title: label,
      aria: { label },
      on: { click: action },
    });

  dialog.append(
    el(
      "div",
      { className: "viewer-head" },
      title,
      button("✕", "Close (Escape)", () => dialog.close()),
    ),
    stage,
    caption,
    el(
      "div",
      { className: "viewer-foot" },
      button("Flip A/B", "Flip between A and B (F)", flip, "flip"),
      button("◀", "Previous run (←)", () => moveRun(-1)),
      button("▶", "Next run (→)", () => moveRun(1)),
      button("▲", "Previous prompt (↑)", () => moveRow(-1)),
      button("▼", "Next prompt (↓)", () => moveRow(1)),
      button("−", "Smaller (−)", () => zoom(-1)),
      button("+", "Larger (+)", () => zoom(1)),
    ),
    el(
      "p",
      { className: "hint" },
      "F flips, ← → change the run, ↑ ↓ the prompt (enlarged: they move the image), + − the size, Escape closes.",
    ),
  );

  const keys = {
    f: flip,
    F: flip,
    ArrowLeft: () => moveRun(-1),
    ArrowRight: () => moveRun(1),
    ArrowUp: () => moveRow(-1),
    ArrowDown: () => moveRow(1),
    "+": () => zoom(1),
    "=": () => zoom(1),
    "-": () => zoom(-1),
  };
  dialog.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    if (view.zoom > 0 && event.key.startsWith("Arrow")) return; // the browser moves the enlarged image
    event.preventDefault();
    keys[event.key]();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  }); // beside it

  /** Open at a row; `run` becomes A unless it is A or B already. */
  function open({ row, run, rows: found }) {
    Object.assign(view, { row, rows: found, zoom: 0 });
    const [a, b] = store.pair();
    if (run === null || run.id === a.id) view.side = 0;
    else if (run.id === b.id) view.side = 1;
    else {
      view.side = 0;
      setSide(run);
    }
    draw();
    dialog.showModal();
    stage.focus();
  }

  function setSide(run) {
    const pair = store.pair().map((found) => found.id);
    pair[view.side] = run.id;
    store.change("pair", (now) => {
      now.pair = pair;
    });
  }

  function flip() {
    view.side = 1 - view.side;
    draw();
  }

  /** The next run that has an image here, among those that are compared and the pair. */
  function moveRun(step) {
    const runs = [...new Set([...store.compared(), ...store.pair()])].filter(
      (run) => placeOf(run) !== null,
    );
    if (!runs.length) return;
    const here = runs.indexOf(store.pair()[view.side]);
    setSide(runs[(here + step + runs.length) % runs.length]);
    draw();
  }

  function moveRow(step) {
    const here = view.rows.indexOf(view.row);
    view.row = view.rows[Math.max(0, Math.min(view.rows.length - 1, here + step))];
    draw();
  }

  function zoom(step) {
    view.zoom = Math.max(0, Math.min(zooms.length - 1, view.zoom + step));
    draw();
  }

  function placeOf(run) {
    return cells[run.id]?.[view.row] ?? null;
  }

  function draw() {
    const row = rows[view.row];
    title.replaceChildren(
      el("span", {}, row.prompt),
      el("small", {}, `${row.part}, seed ${row.seed}`),
    );
    const pair = store.pair();
    pair.forEach((run, side) => drawSide(run, row, side));
    stage.style.setProperty("--zoom", zooms[view.zoom]);
    const run = pair[view.side];
    caption.replaceChildren(
      el("b", { className: `badge side-${view.side}` }, "AB"[view.side]),
      el("span", {}, run.label),
      placeOf(run) === null ? el("em", {}, "no image of this prompt and seed") : "",
    );
  }

  function drawSide(run, row, side) {
    const image = sides[side];
    const place = placeOf(run);
    image.classList.toggle("front", side === view.side);
    image.setAttribute("aria-hidden", String(side !== view.side));
    image.alt = describeImage(row, run);
    if (place === null) image.removeAttribute("src");
    else image.src = addressOf(place);
  }

  return { open };
}
