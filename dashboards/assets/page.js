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

// An address asks for a value, or no longer.
function toggle(asked, name, value) {
  const values = asked.getAll(name);
  asked.delete(name);
  const left = values.filter((other) => other !== value);
  for (const one of values.includes(value) ? left : [...values, value]) asked.append(name, one);
}

function setOrDelete(asked, name, value) {
  if (value) asked.set(name, value);
  else asked.delete(name);
}

function axisOf(asked) {
  return asked.get("axis") || "bytes";
}

// What is changed goes into the address; no_update where it says so already.
function addressOf(asked, before) {
  const text = asked.toString();
  const same = text === new URLSearchParams(before || "").toString();
  return same ? window.dash_clientside.no_update : text && `?${text}`;
}

function pressedButton() {
  const { triggered, triggered_id: id } = window.dash_clientside.callback_context;
  return triggered.length && triggered[0].value && typeof id === "object" ? id : {};
}

window.dash_clientside.distilnas = {
  filter(clicks, sizes, search) {
    const { no_update, callback_context: context } = window.dash_clientside;
    const [, buttons, fields] = context.outputs_list;
    if (!fields.length) return [no_update, [], []]; // another page: its address means other things
    const asked = new URLSearchParams(search || "");
    const pressed = pressedButton();
    if (pressed.choice === "axis" && pressed.value !== axisOf(asked)) {
      for (const limit of ["low", "high"]) asked.delete(limit); // they mean nothing there
      setOrDelete(asked, "axis", pressed.value === "bytes" ? "" : pressed.value);
    } else if (pressed.choice && pressed.choice !== "axis") {
      toggle(asked, pressed.choice, pressed.value);
    } else if (context.triggered_id?.limit) {
      // As it was written: the page says below the fields what is no size.
      ["low", "high"].forEach((limit, place) => setOrDelete(asked, limit, sizes[place]?.trim()));
    }
    const isOn = ({ choice, value }) =>
      choice === "axis" ? value === axisOf(asked) : asked.getAll(choice).includes(value);
    return [
      addressOf(asked, search),
      buttons.map((button) => String(isOn(button.id))),
      ["low", "high"].map((limit) => asked.get(limit) || ""),
    ];
  },

  compare(clicks, search) {
    const { no_update, callback_context: context } = window.dash_clientside;
    const buttons = context.outputs_list[1];
    if (!buttons.length) return [no_update, []];
    const asked = new URLSearchParams(search || "");
    const pressed = pressedButton();
    if ("compared" in pressed) toggle(asked, "study", String(pressed.compared));
    const chosen = asked.getAll("study");
    return [
      addressOf(asked, search),
      buttons.map((button) => String(chosen.includes(String(button.id.compared)))),
    ];
  },


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
