// Shows a figure in a window of its own, at a size where its words are legible, to be moved with a
// finger or the arrow keys. Escape, the button, and a click outside close it, and the focus returns
// to where it was. Phones show the buttons (phone.css); there, a tap on the figure does the same.
(() => {
  const FIGURES = "figure.cnnbook-figure, .bd-article figure:has(> img)";
  let dialog;

  function make() {
    dialog = document.createElement("dialog");
    dialog.className = "cnnbook-large";
    dialog.innerHTML =
      '<button type="button" class="cnnbook-close">Close</button>' +
      '<div class="cnnbook-pan" role="region" tabindex="0"></div>';
    dialog.firstElementChild.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    dialog.addEventListener("close", () => dialog.lastElementChild.replaceChildren());
    document.body.append(dialog);
  }

  function enlarge(figures, name) {
    if (!dialog) make();
    const copies = figures.map((figure) => {
      const copy = figure.cloneNode(true);
      copy.removeAttribute("tabindex"); // what moves is the window's content
      copy.removeAttribute("id"); // an address is that of the figure on the page
      return copy;
    });
    dialog.setAttribute("aria-label", name);
    dialog.lastElementChild.setAttribute("aria-label", name);
    dialog.lastElementChild.append(...copies);
    dialog.showModal();
    dialog.lastElementChild.scrollTo(0, 0);
  }

  // What a button stands below: one figure, or an explorer, which shows one of its many states.
  function figuresAbove(button) {
    let above = button.previousElementSibling;
    while (above.matches("script, a.headerlink")) above = above.previousElementSibling;
    const figures = above.matches("figure") ? [above] : [...above.querySelectorAll(FIGURES)];
    return figures.filter((figure) => figure.getClientRects().length);
  }

  const nameOf = (figure) =>
    figure.querySelector("[aria-label]")?.getAttribute("aria-label") ||
    figure.querySelector("img")?.alt ||
    "Figure";

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.cnnbook-enlarge");
    if (button) {
      const figures = figuresAbove(button);
      enlarge(figures, nameOf(figures[0]));
      return;
    }
    const figure = event.target.closest(FIGURES);
    const isNarrow = matchMedia("(max-width: 61.99rem)").matches;
    if (figure && isNarrow && !figure.closest("dialog") && !event.target.closest("a, button")) {
      enlarge([figure], nameOf(figure));
    }
  });
})();
