// Elements. Text from runs goes through textContent or attributes, never through innerHTML.

/**
 * Create an HTML element.
 *
 * `options` are properties, but for `on` (event -> listener), `data`, `aria` and `style` (custom
 * properties by name). Children are elements or texts; null and false are left out.
 */
function el(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, data = {}, aria = {}, style = {}, ...properties } = options;
  Object.assign(element, properties);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

/** Create an SVG element with attributes. */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

/** A label with its control inside. */
function labelled(text, control, options = {}) {
  return el("label", { className: "field", ...options }, el("span", {}, text), control);
}

/** A tick box with its label. */
function tickBox(text, { checked, onChange, title = "" }) {
  const box = el("input", { type: "checkbox", checked });
  box.addEventListener("change", () => onChange(box.checked));
  return el("label", { className: "tick", title }, box, el("span", {}, text));
}

/** A drop-down; `groups` are [title, [[value, text], ...]], a title of "" stands for no group. */
function dropDown(groups, { value, onChange }) {
  const select = el("select");
  for (const [title, options] of groups) {
    const found = options.map(([key, text]) => el("option", { value: key, textContent: text }));
    select.append(...(title ? [el("optgroup", { label: title }, found)] : found));
  }
  select.value = value;
  select.addEventListener("change", () => onChange(select.value));
  return select;
}

/** A button that opens a panel below itself; it closes by Escape, or when something else is used. */
function menu(title, content, options = {}) {
  const summary = el("summary", {}, title);
  const details = el(
    "details",
    { className: "menu", ...options },
    summary,
    el("div", { className: "panel" }, content),
  );
  details.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && details.open) {
      details.open = false;
      summary.focus();
    }
  });
  details.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !details.contains(event.relatedTarget)) details.open = false;
  });
  document.addEventListener("pointerdown", (event) => {
    if (!details.contains(event.target)) details.open = false;
  });
  return details;
}

/** Show a text beside the pointer; null hides it. */
function showTip(text, event) {
  const tip = document.getElementById("tip");
  tip.hidden = text === null;
  if (text === null) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18;
  const fits = below + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${fits ? below : event.clientY - tip.offsetHeight - 10}px`;
}

/** A text that may break after the signs inside names, such as `=` and `_`. */
function breakable(text) {
  return text.split(/(?<=[=_./])/).flatMap((part, place) => (place ? [el("wbr"), part] : [part]));
}

/** Hold the heights of elements, so that what stands below them does not move; returns the release. */
function holdHeights(elements) {
  for (const element of elements) element.style.minHeight = `${element.offsetHeight}px`;
  return () => {
    for (const element of elements) element.style.minHeight = "";
  };
}

/** Do what changes the page's height, and scroll so that an element stays where it was. */
function keepPlace(element, action) {
  const before = element.getBoundingClientRect().top;
  action();
  window.scrollBy({ top: element.getBoundingClientRect().top - before, behavior: "instant" });
}

/** Replace an element's children, and give the focus back to what had it among them. */
function replaceKeepingFocus(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children);
  if (focused && parent.contains(focused)) focused.focus({ preventScroll: true });
}
