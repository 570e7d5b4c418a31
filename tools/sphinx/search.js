// The search box: in a dialog on every page (Ctrl+K or ⌘K, by the theme), and on search.html, which
// can be linked. The library, the ranking and the text of the book are loaded on the first search.
(() => {
  const root = document.documentElement.dataset.content_root;
  const NAMES = {
    chapter: "Chapter", solution: "Solutions", glossary: "Glossary", claims: "Claims",
    api: "Package", reference: "Reference", home: "Start",
  };
  // With a hash of each: a browser may hold files of an earlier build.
  const files = document.currentScript.dataset.files.split(" ");
  const PATIENCE = 80; // milliseconds after the last key

  const load = (name) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${root}_static/${name}`;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });
  let engine;
  const start = () => {
    engine ??= (async () => {
      for (const name of files) await load(name);
      await window.cnnbookSearch.ready;
      return window.cnnbookSearch;
    })();
    engine.catch(() => { engine = undefined; });
    return engine;
  };

  const element = (tag, cls, ...children) => {
    const made = document.createElement(tag);
    if (cls) made.className = cls;
    made.append(...children);
    return made;
  };

  const label = ({ kind, url }) => {
    const number = /(\d\d)-[^/]*$/.exec(url)?.[1];
    return number && kind !== "reference" ? `${NAMES[kind]} ${Number(number)}` : NAMES[kind];
  };

  // A phone has no Escape key, and the results leave no room to tap beside them.
  const addClose = (dialog) => {
    const close = element("button", "cnnbook-found-close", "×");
    close.type = "button";
    close.setAttribute("aria-label", "Close the search");
    close.addEventListener("click", () => dialog.close());
    dialog.querySelector("form").append(close);
  };

  const item = (page) => {
    const title = element("a", "cnnbook-found-page", page.title);
    title.href = `${root}${page.url}`;
    const list = element("ul");
    for (const { anchor, heading, parts } of page.sections) {
      const text = element("p", "cnnbook-found-text");
      for (const [words, isMarked] of parts) text.append(isMarked ? element("mark", "", words) : words);
      const row = element("li");
      if (anchor) {
        const link = element("a", "", heading);
        link.href = `${root}${page.url}#${anchor}`;
        row.append(link);
      }
      row.append(text);
      list.append(row);
    }
    const kind = label(page);
    const named = kind === page.title ? [] : [element("span", "cnnbook-found-kind", kind)];
    return element("li", "", title, ...named, list);
  };

  const box = (form, place, isPage) => {
    const input = form.querySelector("input[type=search]");
    const status = element("p", "cnnbook-found-status");
    status.setAttribute("role", "status");
    const results = element("ol", "cnnbook-found");
    results.setAttribute("aria-label", "Pages found");
    place.append(element("div", "cnnbook-found-box", status, results));
    let timer, asked = 0;

    const search = async () => {
      const query = input.value.trim();
      const number = ++asked;
      if (!query) {
        results.replaceChildren();
        status.textContent = "";
        return;
      }
      if (!window.cnnbookSearch) status.textContent = "Loading the text of the book …";
      let pages;
      try {
        ({ pages } = (await start()).find(query));
      } catch (error) {
        status.textContent = "The search could not be loaded. Is there a connection?";
        throw error;
      }
      if (number !== asked) return; // more was typed in the meantime
      results.replaceChildren(...pages.map(item));
      results.dataset.query = query;
      const count = pages.length === 1 ? "The best page" : `The ${pages.length} best pages`;
      status.textContent = pages.length
        ? `${count} for “${query}”` : `Nothing found for “${query}”. Try another word for it.`;
      if (isPage) history.replaceState(null, "", `?q=${encodeURIComponent(query)}`);
    };

    input.addEventListener("focus", start, { once: true });
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(search, PATIENCE);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(timer);
      search().then(() => results.querySelector("a")?.focus());
    });
    // Arrow keys go from the box to the results and back.
    place.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const stops = [input, ...results.querySelectorAll("a")];
      const next = stops[stops.indexOf(document.activeElement) + step];
      if (!next || !stops.includes(document.activeElement)) return;
      event.preventDefault();
      next.focus();
    });
    return { input, search };
  };

  const dialog = document.getElementById("pst-search-dialog");
  if (dialog) {
    box(dialog.querySelector("form"), dialog, false);
    addClose(dialog);
    // A result on the same page would be followed behind the dialog.
    dialog.addEventListener("click", ({ target, ctrlKey, metaKey }) => {
      if (target.closest(".cnnbook-found a") && !ctrlKey && !metaKey) dialog.close();
    });
  }
  const place = document.querySelector(".bd-search-container");
  if (place) {
    const { input, search } = box(place.querySelector("form"), place, true);
    input.value = new URLSearchParams(location.search).get("q") ?? "";
    search();
  }
})();
