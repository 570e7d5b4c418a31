// Two comforts: one switch that hides the code of all pages until it is switched back, and a bar
// that shows how much of a page has been read.
(() => {
  const root = document.documentElement;
  const KEY = "cnnbook-code";
  const stored = () => {
    try { return localStorage.getItem(KEY); } catch { return null; } // storage may be forbidden
  };
  const store = (value) => {
    try { localStorage.setItem(KEY, value); } catch { /* then it holds for this page */ }
  };
  if (stored() === "hidden") root.dataset.code = "hidden"; // before the page is drawn

  const addSwitch = () => {
    const buttons = document.querySelector(".article-header-buttons");
    if (!buttons || !document.querySelector("div.cell .cell_input")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm nav-link pst-navbar-icon cnnbook-code-switch";
    button.setAttribute("aria-label", "Hide code");
    const icon = document.createElement("i");
    icon.className = "fa-solid fa-code";
    icon.setAttribute("aria-hidden", "true");
    button.append(icon);
    const show = (isHidden) => {
      if (isHidden) root.dataset.code = "hidden"; // reading.css does the rest
      else delete root.dataset.code;
      button.title = isHidden ? "Show code" : "Hide code";
      button.setAttribute("aria-pressed", String(isHidden));
    };
    button.addEventListener("click", () => {
      const isHidden = root.dataset.code !== "hidden";
      store(isHidden ? "hidden" : "shown");
      // What was in view stays in view, though the page above gets shorter or longer.
      const seen = [...document.querySelectorAll("article :is(h1, h2, h3, p:not(summary *), figure)")].find(
        (part) => part.getBoundingClientRect().top > 60);
      const before = seen?.getBoundingClientRect().top;
      show(isHidden);
      if (seen) scrollBy({ top: seen.getBoundingClientRect().top - before, behavior: "instant" });
    });
    buttons.querySelector(".theme-switch-button")?.before(button);
    show(root.dataset.code === "hidden");
    addEventListener("storage", (event) => {
      if (event.key === KEY) show(event.newValue === "hidden"); // switched in another tab
    });
  };

  const addBar = () => {
    const article = document.querySelector("article.bd-article");
    if (!article || article.offsetHeight < 2 * innerHeight) return;
    const bar = document.createElement("div");
    bar.className = "cnnbook-progress";
    bar.setAttribute("aria-hidden", "true"); // a screen reader has its own
    document.body.append(bar);
    let waiting = false;
    const draw = () => {
      waiting = false;
      const { top, height } = article.getBoundingClientRect();
      const read = (innerHeight - top) / height;
      bar.style.transform = `scaleX(${Math.min(1, Math.max(0, scrollY ? read : 0))})`;
    };
    const later = () => {
      if (!waiting) requestAnimationFrame(draw);
      waiting = true;
    };
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    new ResizeObserver(later).observe(article);
    draw();
  };

  document.addEventListener("DOMContentLoaded", () => {
    addSwitch();
    addBar();
  });
})();
