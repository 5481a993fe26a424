"use strict";
// The findings on a corpus.
{
  const data = readData("finding-data");
  buildTable(document.getElementById("finding-table"), data, {name: "Findings", noun: "finding"});
}
