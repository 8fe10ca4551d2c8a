// The axes' ranges as numbers: what the brush does, for the keyboard and for exact values.

function createRanges(store) {
  const details = document.getElementById("ranges");
  const place = details.querySelector(".ranges");
  const { state } = store;

  function draw() {
    place.replaceChildren(...brushable(store).map(fieldOf));
  }

  function fieldOf(column) {
    const known = store.content.runs.map(column.number).filter((value) => value !== null);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const controls = ["low", "high"].map((end, place) =>
      column.categories
        ? categoryControl(column, end, place)
        : numberControl(column, end, place, place ? most : least),
    );
    return el(
      "fieldset",
      { data: { key: column.key }, title: column.title },
      el("legend", {}, fullName(column)),
      controls[0],
      el("span", {}, "to"),
      controls[1],
    );
  }

  function numberControl(column, end, place, bound) {
    const input = el("input", {
      type: "number",
      step: "any",
      placeholder: (column.tick ?? short)(bound),
      aria: { label: `${fullName(column)}: ${end}est` },
    });
    input.addEventListener("change", () =>
      set(column, place, input.value === "" ? null : Number(input.value)),
    );
    input.dataset.end = place;
    return input;
  }

  function categoryControl(column, end, place) {
    const options = column.categories.map((text, value) => [value, text]);
    const select = dropDown([["", [["", place ? "last" : "first"], ...options]]], {
      value: "",
      onChange: (value) => set(column, place, value === "" ? null : Number(value)),
    });
    select.setAttribute("aria-label", `${fullName(column)}: ${end}est`);
    select.dataset.end = place;
    return select;
  }

  /** Set one end of a range; null leaves it open. */
  function set(column, place, value) {
    store.change("filter", (now) => {
      const range = [...(now.ranges.get(column.key) ?? [-Infinity, Infinity])];
      range[place] = value ?? (place ? Infinity : -Infinity);
      if (range.every((end) => !Number.isFinite(end))) now.ranges.delete(column.key);
      else now.ranges.set(column.key, range);
    });
  }

  /** Write what was brushed into the fields. */
  function tell() {
    for (const field of place.children) {
      const range = state.ranges.get(field.dataset.key);
      const { categories } = store.byKey.get(field.dataset.key);
      for (const control of field.querySelectorAll("[data-end]")) {
        const end = range?.[control.dataset.end];
        const known = end !== undefined && Number.isFinite(end);
        if (categories)
          control.value = known
            ? String(control.dataset.end === "0" ? Math.ceil(end) : Math.floor(end))
            : "";
        else if (document.activeElement !== control)
          control.value = known ? Number(end.toPrecision(4)) : "";
      }
    }
    const count = state.ranges.size;
    details.querySelector("summary").textContent = count
      ? `Ranges as numbers (${count} set)`
      : "Ranges as numbers";
  }

  store.subscribe(["filter"], tell);
  store.subscribe(["columns"], () => {
    draw();
    tell();
  });
  draw();
}
