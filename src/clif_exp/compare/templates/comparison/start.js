// Puts the page together. Images stand behind this script, so their part waits for the page's end.

const content = readContent();
const store = createStore(content, createColumns(content));
const views = [];
const onHover = (run) => {
  for (const view of views) view.highlight(run);
};

createFilters(store);
views.push(createTable(store, { onHover }), createParallel(store, { onHover }));
createRanges(store);
createCurves(store);
createProvenance(store);
document.documentElement.dataset.usable = String(Math.round(performance.now())); // for benchmarks/

document.addEventListener("DOMContentLoaded", () => {
  const addressOf = createAddresses(content);
  const hasImages = document.getElementById("images") !== null;
  const viewer = hasImages ? createViewer(store, addressOf) : null;
  if (hasImages) createImages(store, viewer, addressOf);
  createPair(store, viewer);
});
