"use strict";
// The utterances of a run.
{
  const data = readData("utterance-data");
  const right = data.columns.findIndex((column) => column.key === "right");
  const boxes = right < 0 ? [] : [{label: "only those that every head gets wrong", keep: (row) => row[right] === 0}];
  buildTable(document.getElementById("utterance-table"), data, {name: "Utterances", noun: "utterance", boxes});
}
