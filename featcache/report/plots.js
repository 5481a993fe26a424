"use strict";
// Line plots as SVG, and confusion matrices as tables.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// About `number` round values from low to high.
function ticksOf(low, high, number) {
  const rough = (high - low || 1) / number;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/*
 * Draw lines.
 *
 * lines: [{points: [[x, y, bar]], color (1 to 6), faint, dashed, dots}]; y may be null, where the line has a gap.
 * options: name (for screen readers), x, y (labels of the axes), from (lowest shown y), level (a grey dashed line),
 *   width and height in pixels, single (for the only plot of a row).
 */
function linePlot(lines, options) {
  const {width, height = 260} = options;
  const left = 60, right = 12, top = 10, bottom = 40;
  const points = lines.flatMap((line) => line.points).filter(([, y]) => y !== null);
  const reach = points.flatMap(([, y, bar]) => [y - (bar || 0), y + (bar || 0)]);
  if (options.level !== undefined) reach.push(options.level);
  if (options.from !== undefined) reach.push(options.from);
  const [x0, x1] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
  let [y0, y1] = [Math.min(...reach), Math.max(...reach)];
  const margin = (y1 - y0 || Math.abs(y1) || 1) * 0.05;
  if (options.from === undefined) y0 -= margin;
  y1 += margin;
  const placeX = (x) => left + (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0)) * (width - left - right);
  const placeY = (y) => top + (1 - (y - y0) / (y1 - y0)) * (height - top - bottom);
  const plot = shape("svg", {viewBox: `0 0 ${width} ${height}`, class: `plot${options.single ? " single" : ""}`, role: "img", "aria-label": options.name});

  for (const tick of ticksOf(y0, y1, 5)) {
    plot.append(shape("line", {x1: left, x2: width - right, y1: placeY(tick), y2: placeY(tick), class: "grid"}));
    plot.append(shape("text", {x: left - 6, y: placeY(tick) + 4, "text-anchor": "end"}, tick));
  }
  for (const tick of ticksOf(x0, x1, 10).filter(Number.isInteger)) {
    plot.append(shape("line", {x1: placeX(tick), x2: placeX(tick), y1: height - bottom, y2: height - bottom + 4, class: "tick"}));
    plot.append(shape("text", {x: placeX(tick), y: height - bottom + 17, "text-anchor": "middle"}, tick));
  }
  plot.append(shape("path", {d: `M${left} ${top}V${height - bottom}H${width - right}`, class: "axis"}));
  plot.append(shape("text", {x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle"}, options.x));
  const middle = (top + height - bottom) / 2;
  plot.append(shape("text", {x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})`}, options.y));
  if (options.level !== undefined) {
    plot.append(shape("line", {x1: left, x2: width - right, y1: placeY(options.level), y2: placeY(options.level), class: "uniform"}));
  }
  for (const line of lines) {
    let path = "", open = false;
    for (const [x, y, bar] of line.points) {
      if (y === null) {
        open = false;
        continue;
      }
      path += `${open ? "L" : "M"}${placeX(x).toFixed(1)} ${placeY(y).toFixed(1)}`;
      open = true;
      if (bar) {
        plot.append(shape("line", {x1: placeX(x), x2: placeX(x), y1: placeY(y - bar), y2: placeY(y + bar), class: `k${line.color}`}));
      }
      if (line.dots || line.points.length === 1) {
        plot.append(shape("circle", {cx: placeX(x), cy: placeY(y), r: 2.6, class: `f${line.color}`}));
      }
    }
    plot.append(shape("path", {d: path, class: `series k${line.color}${line.faint ? " faint" : ""}${line.dashed ? " dashed" : ""}`}));
  }
  return plot;
}

function confusionTable(confusion, name) {
  const {classes, counts} = confusion;
  const table = element("table", {class: "confusion", "aria-label": name});
  const label = (text, scope) => element("th", {scope}, element("bdi", {}, text));
  table.append(element("thead", {}, element("tr", {}, element("td"), ...classes.map((one) => label(one, "col")))));
  const body = element("tbody");
  counts.forEach((row, target) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count) => {
      const share = total ? count / total : 0;
      const cell = element("td", {}, total ? (100 * share).toFixed(0) : "–");
      if (total) cell.append(element("small", {}, Number(count.toFixed(1))));
      cell.style.backgroundColor = `rgba(var(--cell), ${(0.05 + 0.55 * share).toFixed(3)})`;
      return cell;
    });
    body.append(element("tr", {}, label(classes[target], "row"), ...cells));
  });
  table.append(body);
  return element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": name}, table);
}
