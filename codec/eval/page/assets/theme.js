"use strict";
/** Dark or light: as the system, until the button chooses. */
{
  const KEY = "codec-report-theme";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  /** Values that outlast a reload. Browsers may refuse them to pages from disk: then nothing is kept. */
  report.storage = {
    get(key) {
      try {
        return localStorage.getItem(key);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        if (value === null) localStorage.removeItem(key);
        else localStorage.setItem(key, value);
        return true;
      } catch {
        return false;
      }
    },
  };

  const root = document.documentElement;
  const chosen = report.storage.get(KEY);
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const current = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");

  function show() {
    const button = report.dom.find("theme");
    button.textContent = current() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${current() === "dark" ? "light" : "dark"} colours`);
    document.dispatchEvent(new Event("themechange"));
  }

  report.theme = current;
  dark.addEventListener("change", show);
  report.dom.find("theme").addEventListener("click", () => {
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    report.storage.set(KEY, root.dataset.theme);
    show();
  });
  show();
}
