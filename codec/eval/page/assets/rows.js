"use strict";
/** Every file under every condition, filtered, the worst first; it leads to the clips whose audio is in the page. */
{
  const { make, find, choice } = report.dom;
  const { kilobits, decibel } = report.format;
  const { metrics, metricNames, rows, clipOf, shortNames, worseFirst, codecs, conditions, system } = report.evaluation;
  const unique = (values) => [...new Set(values)];
  const filters = { codec: "", setting: "", condition: "", name: "" };
  const FIRST_METRIC = 2; // its column

  const matches = (row) =>
    (!filters.codec || row.codec === filters.codec) &&
    (!filters.setting || row.setting === filters.setting) &&
    (!filters.condition || row.condition === filters.condition) &&
    shortNames.get(row.path).toLowerCase().includes(filters.name.toLowerCase());

  /** The name of the clip: a button to its audio, or a note that the page has none. */
  function nameCell(row) {
    const clip = clipOf.get(row.path);
    const name = shortNames.get(row.path);
    if (!clip) return make("span", { class: "path" }, name, " ", make("small", {}, "audio not in the page"));
    const open = () => report.openClip(clip.number, row);
    return make(
      "button",
      { type: "button", class: "path link", onclick: open },
      name,
      " ",
      make("small", {}, `clip ${clip.number}`),
    );
  }

  function columns() {
    const scores = metricNames.map((name) => ({ ...report.table.score(name), compare: worseFirst(name) }));
    const codecCell = (row) =>
      make("span", {}, report.table.system(row), row.error ? make("small", { class: "failed" }, row.error) : null);
    return [
      { title: "File", head: true, value: (row) => shortNames.get(row.path), cell: nameCell },
      { title: "Codec", value: system, cell: codecCell },
      ...scores,
      { title: "Condition", value: (row) => row.condition, cell: (row) => row.condition },
      { title: "kbit/s", numeric: true, value: (row) => row.bitrate ?? null, cell: (row) => kilobits(row.bitrate) },
      { title: "Gain, dB", numeric: true, value: (row) => row.gain_db ?? null, cell: (row) => decibel(row.gain_db) },
    ];
  }

  report.showRows = () => {
    const count = make("p", { class: "count", "aria-live": "polite" });
    const table = report.table({
      caption: "All files, the worst by the metric first",
      columns: columns(),
      rows: [],
      sorted: FIRST_METRIC,
    });
    const update = (column) => {
      const kept = rows.filter(matches);
      count.textContent = `${kept.length} of ${rows.length} rows`;
      table.update(kept, column);
    };
    const filter = (label, name, values) => {
      const options = [["", "all"], ...unique(values).map((value) => [value, value])];
      return choice(label, options, filters[name], (value) => {
        filters[name] = value;
        update();
      });
    };
    const byName = make("input", {
      type: "search",
      oninput: () => {
        filters.name = byName.value;
        update();
      },
    });
    const sort = choice(
      "Worst by",
      metricNames.map((name) => [name, metrics[name].label]),
      metricNames[0],
      (name) => update(FIRST_METRIC + metricNames.indexOf(name)),
    );
    const search = make("label", { class: "field" }, make("span", {}, "Name contains"), byName);
    find("rows").append(
      make(
        "div",
        { class: "controls" },
        sort,
        filter("Codec", "codec", codecs),
        filter(
          "Setting",
          "setting",
          rows.map((row) => row.setting),
        ),
        filter("Condition", "condition", conditions),
        search,
        count,
      ),
      table.element,
    );
    update(FIRST_METRIC);
  };
}
