// Shows a term's definition below a link to the glossary, while the pointer is on the link or on
// the definition, or the link has the focus. Escape hides it (WCAG 2.1, 1.4.13). Without this
// script, and by touch, the link leads to the glossary.
(() => {
  const MARGIN = 8; // pixels between a definition and the edge of the window
  const PATIENCE = 150; // milliseconds: a pointer that only passes by opens nothing
  let link, definition, timer;

  const hide = () => {
    clearTimeout(timer);
    if (definition) definition.hidden = true;
    link = definition = undefined;
  };

  const show = (target, x) => {
    if (target === link) return;
    hide();
    const text = document.getElementById(target.getAttribute("aria-describedby"));
    if (!text) return;
    link = target;
    definition = text;
    document.body.append(text); // no box around it can cut it off there
    text.hidden = false;
    // A link may continue on the next line: stay with the part that the pointer is on.
    const parts = [...link.getClientRects()];
    const part = parts.find((r) => x >= r.left && x <= r.right) ?? parts[0];
    const width = document.documentElement.clientWidth;
    const left = Math.min(part.left, width - text.offsetWidth - MARGIN);
    const fits = part.bottom + text.offsetHeight + MARGIN <= innerHeight;
    const top = fits || part.top < text.offsetHeight ? part.bottom : part.top - text.offsetHeight;
    text.style.left = `${Math.max(left, MARGIN) + scrollX}px`;
    text.style.top = `${top + scrollY}px`;
  };

  const termOf = (event) => event.target.closest?.("a.cnnbook-term");

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const term = termOf(event);
    clearTimeout(timer);
    if (term) timer = setTimeout(show, PATIENCE, term, event.clientX);
    else if (definition && !definition.contains(event.target) && link !== document.activeElement)
      hide();
  });
  document.addEventListener("focusin", (event) => {
    const term = termOf(event);
    if (term?.matches(":focus-visible")) show(term);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
})();
