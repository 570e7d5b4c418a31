// Loads the interactive figures of a page when they come near the window, and completes them. The
// widgets' own script, which draws them, loads all at once, neither removes the picture that stands
// in for them nor names their controls for screen readers.
// Cause: @jupyter-widgets/html-manager 1.0.15, which knows of no fallback, draws everything when the
//   page is complete, and draws sliders and buttons without names and states.
// Delete when: explorers need no widget script on a page, or it does all three.
(() => {
  const NEAR = "1200px"; // to be drawn before it is seen, on a quick connection
  const VIEWS = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const STATE = "application/vnd.jupyter.widget-state+json";

  // That script remarks on its own schema; a reader can do nothing about it.
  const warn = console.warn;
  console.warn = (...words) => {
    if (!String(words[0]).startsWith("strict mode: use allowUnionTypes")) {
      warn.apply(console, words);
    }
  };

  const { src: here, dataset } = document.currentScript;
  const page = DOCUMENTATION_OPTIONS.pagename.replaceAll("/", "-");
  const states = (window.cnnbookExplorers = {}); // filled by the files that are loaded
  let ownPicture; // a promise of the script for readers' own pictures
  let manager; // of widgets: a promise of the function that draws

  function load(address, integrity) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      if (integrity) {
        Object.assign(script, { integrity, crossOrigin: "anonymous" });
      }
      Object.assign(script, { src: new URL(address, here).href, onload: resolve, onerror: reject });
      document.head.append(script);
    });
  }

  // The widgets' script draws once, when the page is complete. What it registers for that moment is
  // kept instead, and called for one explorer after the other.
  async function loadManager() {
    if (document.readyState !== "complete") {
      await new Promise((resolve) => addEventListener("load", resolve, { once: true }));
    }
    const listen = window.addEventListener;
    let draw;
    window.addEventListener = function (type, listener, ...options) {
      if (type === "load") {
        draw = listener;
      } else {
        listen.call(this, type, listener, ...options);
      }
    };
    try {
      await load(dataset.manager, dataset.integrity);
    } finally {
      window.addEventListener = listen;
    }
    return draw;
  }

  async function start(view) {
    const id = JSON.parse(view.textContent).model_id;
    manager ??= loadManager();
    const [draw] = await Promise.all([manager, load(`explorers/${page}-${id}.js`)]);
    // It reads the data of all explorers that are on the page at this moment: only this one's.
    const state = document.createElement("script");
    state.type = STATE;
    state.textContent = JSON.stringify(states[id]);
    delete states[id];
    document.body.append(state);
    draw();
    state.remove();
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          near.unobserve(target);
          start(target.parentElement.querySelector(`:scope > ${VIEWS}`));
        }
      }
    },
    { rootMargin: NEAR },
  );
  for (const view of document.querySelectorAll(VIEWS)) {
    near.observe(view.previousElementSibling); // the picture of its first state
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
      }
    }
    // The new picture is described when it changes.
    explorer.lastElementChild?.setAttribute("aria-live", "polite");
  }

  function complete(explorer) {
    const shown = explorer.lastElementChild?.querySelector(".widget-html-content > *");
    const before = explorer.closest(".widget-subarea")?.previousElementSibling;
    nameControls(explorer);
    if (!shown || explorer.dataset.complete) return;
    explorer.dataset.complete = "true";
    const show = () => {
      if (before?.querySelector(".cnnbook-still")) before.remove();
    };
    if (!explorer.querySelector("[data-own]")) {
      show();
      return;
    }
    // With all its controls: one that is added to what is shown moves the page below it.
    ownPicture ??= load("own-picture.js");
    ownPicture.then(() => window.cnnbookOwnPicture(explorer)).finally(show);
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
