"use strict";
/** Tables that sort by a click on the head of a column. */
{
  const { make } = report.dom;
  const PAGE = 25;

  /**
   * A table that scrolls sideways where it is too wide.
   *
   * `columns`: [{title, numeric, value(row), cell(row), compare(a, b), head}]. `value` is what is sorted by; without it
   * the column does not sort. `cell` returns text or an element. `compare` orders values, the natural first click first.
   * `head` marks the column that names the row. `sorted` is the index of the column that orders the rows at first.
   */
  report.table = ({ caption, columns, rows, sorted = null, rowClass = () => null }) => {
    let order = { column: sorted, reversed: false };
    let shown = PAGE;
    let current = rows;
    const body = make("tbody");
    const headers = columns.map((column, index) => header(column, () => sortBy(index)));
    const table = make(
      "table",
      {},
      make("caption", { class: "unseen" }, caption),
      make("thead", {}, make("tr", {}, headers)),
      body,
    );
    const scroller = make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, table);
    const more = make("button", { type: "button", class: "more", onclick: showMore });
    const element = make(
      "div",
      { class: "table" },
      make("p", { class: "caption", "aria-hidden": "true" }, caption),
      scroller,
      more,
    );

    function sortBy(index) {
      order = { column: index, reversed: order.column === index && !order.reversed };
      shown = PAGE;
      fill();
    }

    function showMore() {
      shown += PAGE;
      fill();
    }

    function ordered() {
      if (order.column === null) return current;
      const { value, compare = report.table.natural } = columns[order.column];
      const sign = order.reversed ? -1 : 1;
      const isMissing = (row) => value(row) === null || value(row) === undefined;
      const known = current.filter((row) => !isMissing(row)).sort((a, b) => sign * compare(value(a), value(b)));
      return [...known, ...current.filter(isMissing)];
    }

    function fill() {
      headers.forEach((cell, index) => {
        const direction = order.reversed ? "descending" : "ascending";
        if (index === order.column) cell.setAttribute("aria-sort", direction);
        else cell.removeAttribute("aria-sort");
      });
      const visible = ordered().slice(0, shown);
      body.replaceChildren(
        ...visible.map((row) =>
          make(
            "tr",
            { class: rowClass(row) },
            columns.map((column) => cell(column, row)),
          ),
        ),
      );
      more.hidden = current.length <= shown;
      more.textContent = `Show ${Math.min(PAGE, current.length - shown)} more of ${current.length}`;
    }

    fill();
    return {
      element,
      /** Show other rows, by another column if `column` is given. */
      update(newRows, column = order.column) {
        current = newRows;
        shown = PAGE;
        if (column !== order.column) order = { column, reversed: false };
        fill();
      },
    };
  };

  /** Order of numbers, and of words with the numbers in them: "6 kbit/s" comes before "12 kbit/s". */
  report.table.natural = (a, b) =>
    typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });

  function header({ title, numeric, value }, sort) {
    const content = value ? make("button", { type: "button", onclick: sort }, title) : title;
    return make("th", { scope: "col", class: numeric ? "number" : null }, content);
  }

  function cell(column, row) {
    const properties = { class: column.numeric ? "number" : null, scope: column.head ? "row" : null };
    return make(column.head ? "th" : "td", properties, column.cell(row));
  }

  /** A value as text, and below it, if there is one, a note. */
  report.table.figure = (text, note = null, noteClass = null) =>
    make("span", { class: "mean" }, make("b", {}, text), note ? make("small", { class: noteClass }, note) : null);

  /** The column of a metric in a table of files, with the reasons for what is missing. */
  report.table.score = (name) => ({
    title: report.format.metric(report.evaluation.metrics[name]),
    numeric: true,
    value: (row) => row[name] ?? null,
    cell: (row) => report.table.figure(report.format.number(row[name]), row.notes?.[name]),
  });

  /** The name of a codec at a setting with the colour of the codec. */
  report.table.system = (row) =>
    make(
      "span",
      { class: "system" },
      make("i", {
        class: "swatch",
        style: `background: ${report.evaluation.colour(row.codec)}`,
        "aria-hidden": "true",
      }),
      `${row.codec} `,
      make("span", { class: "setting" }, row.setting),
    );
}
