// Paper is white: a page is printed in its light colors, whatever the screen shows.
// Cause: pydata-sphinx-theme 0.17.1 prints a dark page dark.
// Delete when: its style sheet chooses the light colors in print.
(() => {
  const page = document.documentElement.dataset;
  let theme;
  addEventListener("beforeprint", () => {
    theme = page.theme;
    page.theme = "light";
  });
  addEventListener("afterprint", () => {
    page.theme = theme;
  });
})();
