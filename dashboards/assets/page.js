// What only the browser can do: images of figures, colours, the table's cache.
window.dash_clientside = window.dash_clientside || {};

function saved(format) {
  return (clicks, id, title) => {
    const graph = document.querySelector(`#${CSS.escape(id.card)} .js-plotly-plot`);
    if (clicks && graph) {
      const box = graph.getBoundingClientRect();
      window.Plotly.downloadImage(graph, {
        format,
        filename: `distilnas-${id.card}`,
        width: Math.max(640, Math.round(box.width)),
        height: Math.max(320, Math.round(box.height)),
        scale: 2,
      });
    }
    return title;
  };
}

window.dash_clientside.distilnas = {
  png: saved("png"),
  svg: saved("svg"),

  theme(clicks) {
    const root = document.documentElement;
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const kept = window.localStorage.getItem("theme");
    const now = kept || (dark ? "dark" : "light");
    const wanted = clicks ? (now === "dark" ? "light" : "dark") : kept;
    if (wanted) {
      root.dataset.theme = wanted;
      window.localStorage.setItem("theme", wanted);
    }
    return wanted;
  },

  // Not by its answer: cards that come by that would be a part of what drew the first one, and
  // Dash draws nothing that waits for itself.
  drawn(figure) {
    if (figure && figure.layout) {
      window.setTimeout(() => window.dash_clientside.set_props("drawn", { data: Date.now() }), 0);
    }
    return window.dash_clientside.no_update;
  },

  refresh() {
    const grid = window.dash_ag_grid && window.dash_ag_grid.getApi("trials");
    if (grid) grid.refreshInfiniteCache();
    return window.dash_clientside.no_update;
  },
};
