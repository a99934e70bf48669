"use strict";
// What the page can do beyond being read. Every text is put in as text, never as HTML.
(() => {
  const LABELS = ["model", "task", "compression", "tuning"];
  const ABSENT = "–";
  const tables = [...document.querySelectorAll("table.data")].map(readTable);
  const status = make("p", { role: "status" });

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** The words of a cell without its footnote mark. */
  function textOf(cell) {
    const parts = [...cell.childNodes].filter((node) => node.nodeName !== "SUP");
    return parts.map((node) => node.textContent).join("").trim();
  }

  /** A table with the labels of every row: from its columns, else from the whole table. */
  function readTable(element) {
    const place = element.closest(".table");
    const headers = [...element.tHead.rows[0].cells];
    const names = headers.map((header) => textOf(header.querySelector(".name")));
    const title = element.caption.textContent;
    const rows = [...element.tBodies[0].rows].map((row) => {
      const labels = LABELS.map((label) => {
        const column = names.indexOf(label);
        return column >= 0 ? textOf(row.cells[column]) : place.dataset[label];
      });
      return { row, labels, text: `${title} ${row.textContent}`.toLowerCase() };
    });
    return { element, place, headers, names, rows };
  }

  // Sorting

  function addSorting(table) {
    table.headers.forEach((header, column) => {
      const button = make("button", { type: "button" }, ...header.childNodes);
      button.addEventListener("click", () => sort(table, column));
      header.append(button);
    });
  }

  function sort(table, column) {
    const header = table.headers[column];
    const isNumber = header.matches(".number, .cost");
    const way = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of table.headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const keyed = table.rows.map(({ row }) => ({ row, key: keyOf(row.cells[column], isNumber) }));
    keyed.sort((one, other) => {
      // What is not there stands last, whichever way.
      if (one.key === null || other.key === null) return (one.key === null) - (other.key === null);
      return sign * (isNumber ? one.key - other.key : compareTexts(one.key, other.key));
    });
    table.element.tBodies[0].append(...keyed.map(({ row }) => row));
  }

  function keyOf(cell, isNumber) {
    const text = textOf(cell);
    if (!isNumber) return text === ABSENT ? null : text;
    // "< 0.001" is a number too.
    const value = Number.parseFloat(text.replaceAll(",", "").replace(/^<\s*/, ""));
    return Number.isNaN(value) ? null : value;
  }

  function compareTexts(one, other) {
    return one.localeCompare(other, "en", { numeric: true });
  }

  // Filtering and the choice of the metric

  function addControls() {
    const controls = document.getElementById("controls");
    const main = tables.filter(({ place }) => place.closest("section.settings"));
    const labelled = main.flatMap(({ rows }) => rows.map(({ labels }) => labels));
    const chosen = LABELS.map((label, index) => {
      return addChoice(controls, label, "all", labelled.map((labels) => labels[index]));
    });
    const metrics = tables.map(({ place }) => place.dataset.metric);
    const metric = addChoice(controls, "metric", "main", metrics);
    const words = make("input", { type: "search", autocomplete: "off" });
    addLabelled(controls, "text in row", words);
    controls.append(status);
    const update = () => {
      const wanted = chosen.map((choice) => choice.value);
      show(wanted, words.value.trim().toLowerCase(), metric.value);
    };
    controls.addEventListener("input", update);
    controls.hidden = false;
    show(LABELS.map(() => ""), "", "");
  }

  /** A choice among the values there are; without at least two there is nothing to choose. */
  function addChoice(controls, name, everything, values) {
    const known = [...new Set(values)].filter((value) => value && value !== ABSENT);
    const choice = make("select", {}, make("option", { value: "" }, everything));
    for (const value of known.sort(compareTexts)) choice.append(make("option", { value }, value));
    if (known.length > 1) addLabelled(controls, name, choice);
    return choice;
  }

  function addLabelled(controls, name, control) {
    control.id = `choose-${name.replaceAll(" ", "-")}`;
    controls.append(make("span", {}, make("label", { for: control.id }, name), " ", control));
  }

  function show(wanted, words, metric) {
    let shown = 0;
    let all = 0;
    for (const { place, rows } of tables) {
      const isChosen = place === ofMetric(place, metric);
      let kept = 0;
      for (const { row, labels, text } of rows) {
        const isWanted = wanted.every((value, index) => isAbout(labels[index], value));
        row.hidden = !(isWanted && text.includes(words));
        kept += !row.hidden;
      }
      place.hidden = !isChosen || (rows.length > 0 && kept === 0);
      if (isChosen) {
        shown += kept;
        all += rows.length;
      }
    }
    for (const section of document.querySelectorAll("section.settings")) {
      section.hidden = !section.querySelector(".table:not([hidden])");
      document.querySelector(`nav a[href="#${section.id}"]`).parentElement.hidden = section.hidden;
    }
    status.textContent = `${shown} of ${all} rows shown`;
  }

  /** Whether a row has the label, alone or among several; a row that names none is about all. */
  function isAbout(label, value) {
    return !value || !label || label === value || label.split("; ").includes(value);
  }

  /** The table of a section that shows the metric, else the section's first. */
  function ofMetric(place, metric) {
    const section = place.closest("section.settings");
    if (!section) return place;
    const places = [...section.querySelectorAll(".table")];
    return places.find(({ dataset }) => dataset.metric === metric && metric) ?? places[0];
  }

  // Copying

  function addCopying({ place, element }, index) {
    const bar = make("div", { class: "copy", role: "group" }, "Copy table as ");
    bar.setAttribute("aria-label", `Copy table: ${element.caption.textContent}`);
    for (const format of ["Markdown", "LaTeX", "CSV"]) {
      const button = make("button", { type: "button" }, format);
      const said = make("span", { role: "status" });
      button.addEventListener("click", async () => {
        await copy((await unpacked())[format][index]);
        button.focus();
        bar.querySelectorAll("[role=status]").forEach((other) => other.replaceChildren());
        said.textContent = "copied";
      });
      bar.append(button, said, " ");
    }
    place.append(bar);
  }

  /** The texts of all tables by format, in the tables' order. */
  function unpacked() {
    const packed = document.getElementById("copies").content.textContent;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Not allowed, or not there: the old way needs no permission.
      const area = make("textarea", {});
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  // Where a number comes from

  function addOrigins() {
    const dialog = document.querySelector("dialog");
    dialog.querySelector("button").addEventListener("click", () => dialog.close());
    document.addEventListener("click", (event) => {
      const link = event.target.closest("table.data td a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      showOrigin(dialog, link);
    });
  }

  function showOrigin(dialog, link) {
    const cell = link.closest("td");
    const header = cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
    const places = placesOf(document.getElementById(link.hash.slice(1)));
    dialog.querySelector("h2").textContent = `${textOf(header.querySelector(".name"))}: ${textOf(cell)}`;
    dialog.querySelector("p").textContent = replicates(link.dataset);
    const stages = make("table", { class: "sources" });
    stages.append(document.querySelector("section table.sources").tHead.cloneNode(true));
    for (const place of places) {
      const copied = place.cloneNode(true);
      copied.removeAttribute("id");
      stages.append(copied);
    }
    dialog.querySelector(".scroll").replaceChildren(stages);
    dialog.showModal();
  }

  /** The stages at a target: its own or, of a list of places, those of all of them. */
  function placesOf(target) {
    if (target.matches("tbody")) return [target];
    const links = [...target.querySelectorAll("a")];
    return links.map((link) => document.getElementById(link.hash.slice(1)));
  }

  function replicates({ n: counts }) {
    if (!counts) return "There is no number; the outcomes say why.";
    const [n, items] = counts.split(" ");
    const runs = n === "1" ? "One value, no mean." : `Mean over ${n} seeds or runs.`;
    return items ? `${runs} The interval covers ${items} scored items.` : runs;
  }

  tables.forEach(addSorting);
  if ("DecompressionStream" in window) tables.forEach(addCopying);
  addControls();
  addOrigins();
})();
