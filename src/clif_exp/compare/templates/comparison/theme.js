// Light, dark, or what the system says. It stands in the head, so that the page never flashes.

const themes = ["auto", "light", "dark"];
const themeKey = "clif_exp-theme";

/** The reader's last choice; a browser may keep nothing for files. */
function readTheme() {
  try {
    const found = localStorage.getItem(themeKey);
    return themes.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) {
    button.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[theme];
    button.setAttribute("aria-label", `Colours: ${theme}. Press to change.`);
  }
  try {
    localStorage.setItem(themeKey, theme);
  } catch {
    // The choice then lasts as long as the page.
  }
}

let theme = readTheme();
applyTheme(theme);
document.addEventListener("DOMContentLoaded", () => {
  applyTheme(theme);
  document.getElementById("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    applyTheme(theme);
  });
});
