// Sets how far what scrolls sideways fades at its edges (phone.css).
// Cause: Firefox 145 has no scroll-driven animations.
// Delete when: it has.
(() => {
  if (CSS.supports("animation-timeline: scroll()")) return;
  const FADE = 40; // pixels
  const WHERE =
    "figure.cnnbook-figure, .cnnbook-table, .pst-scrollable-table-container, .highlight > pre, " +
    ".output > pre, .cell_output .text_html, div.math";

  function fade(box) {
    const beyond = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.style.setProperty("--cnnbook-before", `${Math.min(box.scrollLeft, FADE)}px`);
    box.style.setProperty("--cnnbook-after", `${Math.max(0, Math.min(beyond, FADE))}px`);
  }

  const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => fade(target)));
  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll(WHERE)) {
      box.addEventListener("scroll", () => fade(box), { passive: true });
      resized.observe(box);
    }
  });
})();
