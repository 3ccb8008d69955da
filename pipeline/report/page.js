"use strict";
// Draws the figures with the colours of the style sheet; those in a closed <details> when it is opened.
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const byId = new Map(figures.map((figure) => [figure.id, figure]));
  const drawn = new Set();
  const config = { displayModeBar: false, displaylogo: false, responsive: true, showTips: false };

  function coloured(node, styles) {
    if (Array.isArray(node)) return node.map((one) => coloured(one, styles));
    if (node === null || typeof node !== "object") return node;
    const copy = {};
    for (const [key, value] of Object.entries(node)) {
      const named = typeof value === "string" && key.endsWith("color") && value.startsWith("css:");
      copy[key] = named ? styles.getPropertyValue("--" + value.slice(4)).trim() : coloured(value, styles);
    }
    return copy;
  }

  function draw(id) {
    const place = document.getElementById(id);
    const { data, layout } = byId.get(id);
    const styles = getComputedStyle(root);
    const full = coloured(layout, styles);
    full.font.family = styles.getPropertyValue("--font").trim();
    Plotly.react(place, coloured(data, styles), full, config);
    drawn.add(id);
  }

  const hidden = (id) => document.getElementById(id).closest("details:not([open])") !== null;

  function redraw() {
    for (const id of drawn) draw(id);
  }

  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => {
      if (!details.open) return;
      for (const chart of details.querySelectorAll(".chart")) if (!drawn.has(chart.id)) draw(chart.id);
    });
  }

  // A link to a closed <details> opens it.
  function openTarget() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", openTarget);

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    root.classList.add("print");
    for (const figure of figures) if (!hidden(figure.id)) draw(figure.id);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("print");
    redraw();
  });

  // The section in view is marked in the contents.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  for (const id of links.keys()) watcher.observe(document.getElementById(id));

  // One figure a task, so that the page can be read and scrolled meanwhile.
  const waiting = figures.map((figure) => figure.id).filter((id) => !hidden(id));
  function next() {
    const id = waiting.shift();
    if (id === undefined) {
      root.dataset.charts = "drawn";
      return;
    }
    if (!drawn.has(id)) draw(id);
    setTimeout(next, 0);
  }
  openTarget();
  next();
})();
