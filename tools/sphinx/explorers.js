// Completes the interactive figures of a page. The widgets' own script, which draws them, neither
// removes the picture that stands in for them nor names their controls for screen readers.
// Cause: @jupyter-widgets/html-manager 1.0.15, which knows of no fallback and draws sliders and
//   buttons without names and states.
// Delete when: explorers need no widget script on a page, or it does both.
(() => {
  // That script remarks on its own schema; a reader can do nothing about it.
  const warn = console.warn;
  console.warn = (...words) => {
    if (!String(words[0]).startsWith("strict mode: use allowUnionTypes")) {
      warn.apply(console, words);
    }
  };

  // Buttons that do not fit on a phone are scrolled sideways; the chosen one must be in sight.
  function showChosen(control) {
    const chosen = control.querySelector("button.mod-active");
    if (!chosen) return;
    const [button, row] = [chosen, chosen.parentElement].map(e => e.getBoundingClientRect());
    chosen.parentElement.scrollLeft += button.left + button.width / 2 - row.left - row.width / 2;
  }

  function nameControls(explorer) {
    for (const control of explorer.children) {
      const name = control.querySelector(":scope > label")?.textContent;
      const handle = control.querySelector("[role=slider]");
      const readout = control.querySelector(".widget-readout");
      if (handle && readout) {
        handle.setAttribute("aria-label", name);
        handle.setAttribute("aria-valuetext", readout.textContent);
        readout.removeAttribute("contenteditable"); // what is typed there has no effect
      }
      if (control.classList.contains("widget-toggle-buttons")) {
        control.setAttribute("role", "group");
        control.setAttribute("aria-label", name);
        for (const button of control.querySelectorAll("button")) {
          button.setAttribute("aria-pressed", button.classList.contains("mod-active"));
        }
        requestAnimationFrame(() => showChosen(control)); // when the row is laid out
      }
    }
    // The new picture is described when it changes.
    explorer.lastElementChild?.setAttribute("aria-live", "polite");
  }

  function complete(explorer) {
    const shown = explorer.lastElementChild?.querySelector(".widget-html-content > *");
    const before = explorer.closest(".widget-subarea")?.previousElementSibling;
    if (shown && before?.querySelector(".cnnbook-still")) {
      before.remove();
    }
    nameControls(explorer);
  }

  new MutationObserver(() => {
    document.querySelectorAll(".widget-subarea .cnnbook-explorer").forEach(complete);
  }).observe(document.documentElement, {
    attributeFilter: ["class"],
    characterData: true,
    childList: true,
    subtree: true,
  });
})();
