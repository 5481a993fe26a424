"use strict";
// Tables that can be sorted and filtered. All texts become text nodes, never HTML.

const ROWS_AT_ONCE = 100;
const LONGEST_MENU = 60;
const LONGEST_HEAD = 24;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function readData(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// The value of a cell to sort by, and its text. A cell is a value, or a pair of both; a choice is a position.
function valueOf(column, cell) {
  const value = Array.isArray(cell) ? cell[0] : cell;
  return column.kind === "choice" ? column.levels[value] : value;
}

function textOf(column, cell) {
  if (Array.isArray(cell)) return cell[1];
  if (cell === null) return "–";
  return column.kind === "number" ? cell.toFixed(column.digits) : String(valueOf(column, cell));
}

const ORDER = new Intl.Collator("en", {numeric: true, sensitivity: "base"});

function compareCells(column, first, second, direction) {
  const one = valueOf(column, first), other = valueOf(column, second);
  if (one === other) return 0;
  if (one === null) return 1;  // unknown values are always last
  if (other === null) return -1;
  const order = column.kind === "number" ? one - other : ORDER.compare(one, other);
  return direction === "ascending" ? order : -order;
}

// A player, or a link for files that browsers do not play.
function audioCell(column, address, label) {
  if (!address) return element("span", {class: "small"}, "no audio");
  const [file] = address.toLowerCase().split("#");
  if (column.unplayable.some((suffix) => file.endsWith(suffix))) {
    return element("a", {href: column.base + address, "aria-label": label}, "open the file");
  }
  const player = element("audio", {controls: true, preload: "none", src: column.base + address, "aria-label": label});
  player.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== player) other.pause();
  });
  player.addEventListener("error", () => {
    const link = element("a", {href: column.base + address}, "open the file");
    player.replaceWith(element("span", {class: "small", role: "alert"}, "cannot be played here: ", link));
  });
  return player;
}

function cellOf(column, cell, row) {
  if (column.kind === "audio") return element("td", {}, audioCell(column, cell, `Audio of ${row[0]}`));
  const made = element("td", {class: column.kind, dir: column.kind === "number" ? "ltr" : "auto"});
  if (column.kind === "run") {
    const [title, name, address, swatch] = cell;
    made.append(element("a", {class: "run", href: address}, element("bdi", {}, title)));
    made.append(element("span", {class: "name"}, element("bdi", {}, name)));
    if (swatch) made.prepend(swatch);
  } else if (column.kind === "links") {
    cell.forEach(([text, address], place) => made.append(place ? " · " : "", element("a", {href: address}, text)));
  } else {
    made.textContent = textOf(column, cell);
  }
  return made;
}

/*
 * Build a table in a container.
 *
 * data: {columns: [{title, kind, digits, levels, base, label, hidden}], rows: [[cell, …]]}; kind is text, choice,
 *   number, audio, run or links.
 * options: name (of the region), noun (of a row), sort ([column, direction]), boxes ([{label, keep(row)}]),
 *   beforeTitle and before(row number) → node of an additional first cell, mark(row number) → class of the row,
 *   plain (without filter).
 * Returns a function that draws the rows again.
 */
function buildTable(container, data, options) {
  const {columns, rows} = data;
  const visible = columns.map((column, place) => place).filter((place) => !columns[place].hidden);
  const state = {sort: options.sort || null, shown: ROWS_AT_ONCE, words: [], menus: new Map(), boxes: new Set()};
  const texts = rows.map((row) => columns.map((column, place) =>
    ["audio", "links"].includes(column.kind) ? "" : column.kind === "run" ? `${row[place][0]} ${row[place][1]}`
      : textOf(column, row[place])).join(" ").toLowerCase());
  const status = element("p", {class: "small", role: "status"});
  const body = element("tbody");
  const more = element("button", {type: "button", class: "more"});
  const heads = new Map();

  function kept() {
    const found = [];
    rows.forEach((row, number) => {
      if (!state.words.every((word) => texts[number].includes(word))) return;
      for (const [place, level] of state.menus) if (row[place] !== level) return;
      for (const box of state.boxes) if (!box.keep(row)) return;
      found.push(number);
    });
    if (state.sort) {
      const [place, direction] = state.sort;
      found.sort((a, b) => compareCells(columns[place], rows[a][place], rows[b][place], direction) || a - b);
    }
    return found;
  }

  function draw() {
    const found = kept();
    body.replaceChildren(...found.slice(0, state.shown).map((number) => {
      const cells = visible.map((place) => cellOf(columns[place], rows[number][place], rows[number]));
      const first = options.before ? [element("td", {}, options.before(number))] : [];
      return element("tr", {class: options.mark ? options.mark(number) : null}, ...first, ...cells);
    }));
    const left = found.length - state.shown;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(left, ROWS_AT_ONCE)} more`;
    const noun = `${options.noun}${rows.length === 1 ? "" : "s"}`;
    status.textContent = found.length === rows.length ? `${rows.length} ${noun}` : `${found.length} of ${rows.length} ${noun}`;
    for (const [place, head] of heads) {
      head.setAttribute("aria-sort", state.sort && state.sort[0] === place ? state.sort[1] : "none");
    }
  }

  function restart() {
    state.shown = ROWS_AT_ONCE;
    draw();
  }

  function sortBy(place) {
    const usual = columns[place].kind === "number" ? "descending" : "ascending";
    const reverse = {ascending: "descending", descending: "ascending"};
    state.sort = [place, state.sort && state.sort[0] === place ? reverse[state.sort[1]] : usual];
    restart();
  }

  more.addEventListener("click", () => {
    state.shown += ROWS_AT_ONCE;
    draw();
  });
  const controls = element("div", {class: "controls"}, filterField(state, restart));
  columns.forEach((column, place) => {
    if (column.kind === "choice" && column.levels.length > 1 && column.levels.length <= LONGEST_MENU) {
      controls.append(menuOf(column, place, state, restart));
    }
  });
  for (const box of options.boxes || []) {
    const field = element("input", {type: "checkbox", onchange: () => {
      field.checked ? state.boxes.add(box) : state.boxes.delete(box);
      restart();
    }});
    controls.append(element("label", {class: "box"}, field, box.label));
  }
  const line = element("tr", {}, ...(options.before ? [element("th", {scope: "col"}, options.beforeTitle)] : []));
  for (const place of visible) {
    const column = columns[place];
    const sortable = !["audio", "links"].includes(column.kind);
    const long = column.title.length > LONGEST_HEAD ? " long" : "";
    const head = element("th", {scope: "col", class: column.kind === "number" ? `number${long}` : null, title: column.label});
    head.append(sortable ? element("button", {type: "button", onclick: () => sortBy(place)}, column.title) : column.title);
    if (sortable) heads.set(place, head);
    line.append(head);
  }
  const table = element("table", {class: "sorted"}, element("thead", {}, line), body);
  const region = element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": options.name}, table);
  container.replaceChildren(...(options.plain ? [region] : [controls, status, region, more]));
  draw();
  return draw;
}

function filterField(state, changed) {
  const field = element("input", {type: "search", autocomplete: "off", spellcheck: "false", oninput: () => {
    state.words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    changed();
  }});
  return element("label", {}, "Filter", field);
}

function menuOf(column, place, state, changed) {
  const choices = column.levels.map((level, number) => element("option", {value: number, dir: "auto"}, level || "(none)"));
  const menu = element("select", {onchange: () => {
    menu.value === "" ? state.menus.delete(place) : state.menus.set(place, Number(menu.value));
    changed();
  }}, element("option", {value: ""}, "all"), ...choices);
  return element("label", {}, column.title, menu);
}
