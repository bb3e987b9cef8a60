"use strict";
// Three jobs: the theme, the plots, the table of trials. Texts of the data are set as text, never as HTML.

const root = document.documentElement;

function watchTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = { get() { try { return localStorage.getItem("ferray-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("ferray-theme", value); } catch { /* private windows have no storage */ } } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored.set(root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

function toRows(columns) {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
}

async function drawPlot(place, spec, config, datasets) {
  try {
    await vegaEmbed(place, { ...spec, datasets }, {
      config, actions: false, renderer: "svg", ast: true, tooltip: { disableDefaultStyle: true },
    });
    place.style.minHeight = "";
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // its place has the label, a table the values
  } catch (error) {
    place.textContent = `This plot could not be drawn: ${error.message}`;
  }
}

async function drawPlots() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const given = JSON.parse(document.querySelector(`[data-spec="${place.dataset.chart}"]`).textContent);
    const datasets = Object.fromEntries(Object.entries(given.datasets).map(([name, columns]) => [name, toRows(columns)]));
    const isNarrow = () => place.clientWidth < (given.narrow_below_px ?? 0);
    await drawPlot(place, isNarrow() ? given.narrow : given.spec, given.config, datasets);
    if (!given.narrow) continue;
    let wasNarrow = isNarrow();
    addEventListener("resize", () => {
      if (isNarrow() === wasNarrow) return;
      wasNarrow = isNarrow();
      drawPlot(place, wasNarrow ? given.narrow : given.spec, given.config, datasets);
    });
  }
  root.dataset.drawn = "yes";
}

function showTrials() {
  const pageSize = 50;
  const data = JSON.parse(document.getElementById("trials-data").textContent);
  const table = document.getElementById("table");
  const input = document.getElementById("filter");
  const numRows = data.folders.length;
  const byKey = new Map(data.columns.map((column) => [column.key, column]));
  const shown = (column, row) => {
    const value = column.values[row];
    if (value === null) return column.setting ? "none" : "";
    if (column.digits !== null) return value.toFixed(column.digits);
    if (!column.number || Number.isInteger(value)) return String(value);
    const size = Math.abs(value); // as setting_text of ferray/report/wording.py
    if (column.exponential ? size < 0.1 : size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
    return size < 1000 ? String(Number(value.toPrecision(3))) : value.toFixed(0);
  };
  const texts = Array.from({ length: numRows }, (_, row) => data.columns.map((one) => shown(one, row)).join(" ").toLowerCase());
  let rows = [], first = 0, sorted = { key: "score", down: data.maximize };

  const holds = { "=": (a, b) => a === b, "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };
  function condition(word) {
    const found = /^([\w-]+)(<=|>=|=|<|>)(.+)$/.exec(word);
    const column = found && byKey.get(found[1]);
    if (!column) return (row) => texts[row].includes(word.toLowerCase());
    const [, , sign, wanted] = found;
    const number = Number(wanted);
    return (row) => {
      const value = column.values[row];
      if (value === null) return sign === "=" && wanted === "none";
      if (column.number) return holds[sign](value, number);
      return holds[sign](String(value).toLowerCase(), wanted.toLowerCase());
    };
  }

  function compare(one, other) {
    const { values, order: words } = byKey.get(sorted.key);
    const rank = (value) => (words?.includes(value) ? words.indexOf(value) : value);
    const a = rank(values[one]), b = rank(values[other]);
    if (a === null || b === null) return (a === null) - (b === null) || one - other; // what is missing comes last
    const order = a < b ? -1 : a > b ? 1 : 0;
    return (sorted.down ? -order : order) || one - other;
  }

  function select() {
    const conditions = input.value.split(/\s+/).filter(Boolean).map(condition);
    rows = [];
    for (let row = 0; row < numRows; row++) if (conditions.every((one) => one(row))) rows.push(row);
    rows.sort(compare);
    first = 0;
    fill();
  }

  function fill() {
    const body = document.createElement("tbody");
    for (const row of rows.slice(first, first + pageSize)) {
      const line = body.insertRow();
      if (data.folders[row] === data.winner) line.className = "won";
      for (const column of data.columns) {
        const cell = line.insertCell();
        if (!column.number) cell.className = column.key === "reason" ? "text long" : "text";
        if (column.key === "trial") {
          const link = document.createElement("a");
          link.href = data.base + data.folders[row] + "/";
          link.textContent = shown(column, row);
          cell.append(link);
        } else cell.textContent = shown(column, row);
      }
    }
    table.tBodies[0].replaceWith(body);
    const last = Math.min(first + pageSize, rows.length);
    const of = rows.length === numRows ? `${numRows} trials` : `${rows.length} of ${numRows} trials`;
    document.getElementById("count").textContent = rows.length > pageSize ? `${of}, rows ${first + 1} to ${last}` : of;
    document.getElementById("earlier").disabled = first === 0;
    document.getElementById("later").disabled = last >= rows.length;
  }

  const head = table.tHead.insertRow();
  for (const column of data.columns) {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    cell.scope = "col";
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      const again = sorted.key === column.key;
      sorted = { key: column.key, down: again ? !sorted.down : column.key === "score" && data.maximize };
      for (const one of head.cells) one.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      select();
    });
    if (column.key === sorted.key) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    if (!column.number) cell.className = "text";
    cell.append(button);
    head.append(cell);
  }
  input.addEventListener("input", select);
  document.getElementById("earlier").addEventListener("click", () => { first -= pageSize; fill(); });
  document.getElementById("later").addEventListener("click", () => { first += pageSize; fill(); });
  select();
}

function enableCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const label = button.firstChild;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        label.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        label.textContent = "Selected";
      }
      setTimeout(() => { label.textContent = "Copy"; }, 2000);
    });
  }
}

watchTheme();
if (document.getElementById("trials-data")) showTrials(); // a comparison has no table of trials
enableCopying();
drawPlots();
