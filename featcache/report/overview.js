"use strict";
// The page over all runs: the table, and plots of the chosen runs.
{
  const MOST = 6;
  const {table, runs} = readData("run-data");
  const chosen = new Map();  // number of a run → colour, from 1 on
  const container = document.getElementById("chosen");

  function swatch(color) {
    return element("span", {class: `swatch s${color}`, "aria-hidden": "true"});
  }

  function titled(number) {
    return element("li", {}, swatch(chosen.get(number)), element("bdi", {}, runs[number].title));
  }

  function section(title, ...content) {
    return content.length ? [element("h3", {}, title), ...content] : [];
  }

  function panels(numbers, make, kind = "panels") {
    const made = numbers.map((number) => element("div", {class: "panel"},
      element("p", {class: "small"}, swatch(chosen.get(number)), element("bdi", {}, runs[number].title)), ...make(runs[number], number)));
    return made.length ? [element("div", {class: kind}, ...made)] : [];
  }

  function layers(numbers) {
    const lines = numbers.flatMap((number) => runs[number].layers.map(({points}, place) =>
      ({points, color: chosen.get(number), dots: true, dashed: place > 0})));
    if (!lines.length) return [];
    const lengths = new Set(lines.map((line) => line.points.length));
    const level = lengths.size === 1 ? 1 / lines[0].points.length : undefined;
    const plot = linePlot(lines, {name: "Layer weights of the chosen runs", x: "Layer", y: "Weight", level,
      width: Math.min(container.clientWidth, 680), single: true});
    const several = lines.some((line) => line.points.some(([, , std]) => std > 0));
    const note = (several ? "Mean over seeds; bars are the standard deviation over seeds." : "")
      + (level ? " Grey dashes: uniform weights." : "")
      + (lines.some((line) => line.dashed) ? " Dashed lines: the second store of a run." : "");
    return section("Layer weights", plot, element("p", {class: "small"}, note));
  }

  function curves(numbers) {
    const withCurves = numbers.filter((number) => runs[number].curves);
    const made = panels(withCurves, ({curves: {lines, score, number: all, unit}, title}, number) => {
      const points = (values) => values.map((value, epoch) => [epoch + 1, value]);
      const faint = lines.length > 3;
      const size = {width: Math.min(container.clientWidth, 400), height: 190};
      const losses = [0, 1].flatMap((part) => lines.map((line) => ({points: points(line[part]), color: 2 - part, faint, dashed: part === 0})));
      const plots = [linePlot(losses, {name: `Losses of ${title}`, x: unit, y: "Loss", from: 0, ...size})];
      if (score) {
        const scores = lines.map((line) => ({points: points(line[2]), color: 1, faint})).filter((line) => line.points.some(([, y]) => y !== null));
        if (scores.length) plots.push(linePlot(scores, {name: `${score} of ${title}`, x: unit, y: score, ...size}));
      }
      if (lines.length < all) plots.push(element("p", {class: "small"}, `The first ${lines.length} of ${all} trainings.`));
      return plots;
    });
    if (!made.length) return [];
    const legend = element("ul", {class: "legend"}, element("li", {}, swatch(2), "training loss"),
      element("li", {}, swatch(1), "validation loss and score"));
    return section("Training curves", legend, ...made);
  }

  function confusions(numbers) {
    const made = panels(numbers.filter((number) => runs[number].confusion), (run) =>
      [confusionTable(run.confusion, `Confusion matrix of ${run.title}`)], "panels flow");
    const note = element("p", {class: "small"}, "Rows: target. Columns: predicted. Recall in percent; below it the number of utterances, averaged over seeds.");
    return made.length ? section("Confusion matrices", ...made, note) : [];
  }

  // A table with a row per speaker or group, and a column per run.
  function scoreTable(title, label, numbers, groupsOf) {
    const rows = new Map();
    numbers.forEach((number, place) => {
      for (const [name, count, score] of groupsOf(runs[number])) {
        if (!rows.has(name)) rows.set(name, [name, count, ...numbers.map(() => null)]);
        rows.get(name)[2 + place] = score;
      }
    });
    if (!rows.size) return [];
    const columns = [{title: label, kind: "text"}, {title: "Utterances", kind: "number", digits: 0},
      ...numbers.map((number) => ({title: runs[number].title, kind: "number", digits: runs[number].digits}))];
    const place = element("div");
    buildTable(place, {columns, rows: [...rows.values()]}, {name: title, noun: label, sort: [0, "ascending"], plain: rows.size <= 12});
    return section(title, place);
  }

  function groups(numbers) {
    const labels = [...new Set(numbers.flatMap((number) => Object.keys(runs[number].groups)))];
    const headings = [...new Set(numbers.map((number) => runs[number].score))].join(", ");
    return [
      ...scoreTable(`${headings} of each speaker`, "speaker", numbers, (run) => run.speakers),
      ...labels.flatMap((label) => scoreTable(`${headings} by ${label}`, label, numbers, (run) => run.groups[label] || [])),
    ];
  }

  function drawChosen() {
    const numbers = [...chosen.keys()].sort((a, b) => chosen.get(a) - chosen.get(b));
    if (!numbers.length) {
      container.replaceChildren(element("p", {}, "No run is chosen."));
      return;
    }
    container.replaceChildren(element("ul", {class: "legend"}, ...numbers.map(titled)), ...layers(numbers),
      ...confusions(numbers), ...curves(numbers), ...groups(numbers));
  }

  function choose(number, wanted) {
    if (wanted) chosen.set(number, [1, 2, 3, 4, 5, 6].find((color) => ![...chosen.values()].includes(color)));
    else chosen.delete(number);
  }

  function box(number) {
    const full = chosen.size >= MOST && !chosen.has(number);
    return element("input", {type: "checkbox", "aria-label": `Compare ${runs[number].title}`, checked: chosen.has(number),
      disabled: full, onchange: (event) => {
        choose(number, event.target.checked);
        draw();
        drawChosen();
        document.querySelector(`[data-run="${number}"]`).focus();
      }, "data-run": number});
  }

  // The best runs by validation score, of one kind of score.
  const [sorted] = table.sort || [null];
  const scored = runs.map((run, number) => number).filter((number) => sorted !== null && table.rows[number][sorted]);
  scored.sort((a, b) => table.rows[b][sorted][0] - table.rows[a][sorted][0]).slice(0, 3).forEach((number) => choose(number, true));

  const draw = buildTable(document.getElementById("runs"), table, {
    name: "Runs", noun: "run", sort: table.sort, before: box, beforeTitle: "Compare",
    mark: (number) => chosen.has(number) ? "chosen" : null,
  });
  drawChosen();
}
