"use strict";
/** The table of means with their 95 % intervals, and the table of BD-rates. */
{
  const { make, find } = report.dom;
  const { isNumber, number, fixed, kilobits, NONE } = report.format;
  const { metrics, metricNames } = report.evaluation;

  /** A mean with its interval below it, and the number of files where that is not all. */
  function meanCell({ mean, low, high, num } = {}, numFiles) {
    const interval = isNumber(low) && isNumber(high) ? `${number(low)} to ${number(high)}` : "";
    const fewer = num !== undefined && num < numFiles ? ` (${num})` : "";
    return report.table.figure(number(mean), interval + fewer);
  }

  const speed = (value) => (isNumber(value) ? `${number(value)} ×` : NONE);

  function columns() {
    const plain = (title, name, text) => ({
      title,
      numeric: true,
      value: (mean) => mean[name] ?? null,
      cell: (mean) => text(mean[name]),
    });
    return [
      { title: "Codec", head: true, value: (mean) => report.evaluation.system(mean), cell: report.table.system },
      plain("kbit/s", "bitrate", kilobits),
      plain("Nominal", "nominal_bitrate", kilobits),
      ...metricNames.map((name) => ({
        title: report.format.metric(metrics[name]),
        numeric: true,
        value: (mean) => mean.metrics[name]?.mean ?? null,
        cell: (mean) => meanCell(mean.metrics[name], mean.num_files),
      })),
      plain("Encode", "encode_speed", speed),
      plain("Decode", "decode_speed", speed),
      { title: "Files", numeric: true, value: (mean) => mean.num_files, cell: filesCell },
    ];
  }

  function filesCell({ num_files: numFiles, num_failed: numFailed }) {
    return make(
      "span",
      {},
      String(numFiles),
      numFailed ? make("small", { class: "failed" }, `${numFailed} failed`) : null,
    );
  }

  report.showMeans = () => {
    const caption =
      "Means over the files; below each its 95 % interval, and in brackets the number of files where some have no value. Speed in times real time.";
    const table = report.table({ caption, columns: columns(), rows: [] });
    const controls = make("div", { class: "controls" }, report.chosen.conditionChoice());
    find("means").append(controls, table.element);
    report.chosen.watch(() => table.update(report.evaluation.meansOf(report.chosen.condition)));
  };

  report.showBdRates = () => {
    const rates = report.evaluation.bd_rate ?? [];
    find("bdrate").hidden = !rates.length;
    if (!rates.length) return;
    const percent = (value) => (isNumber(value) ? `${value > 0 ? "+" : ""}${fixed(value, 1)} %` : NONE);
    const { element } = report.table({
      caption: "Bitrate for the same value of the metric, relative to the reference; negative saves bits",
      rows: rates,
      rowClass: (rate) => (isNumber(rate.percent) ? (rate.percent < 0 ? "saves" : "costs") : null),
      columns: [
        {
          title: "Codec",
          head: true,
          value: (rate) => rate.codec,
          cell: (rate) => report.table.system({ codec: rate.codec, setting: "" }),
        },
        { title: "Reference", value: (rate) => rate.reference, cell: (rate) => rate.reference },
        { title: "Metric", value: (rate) => rate.metric, cell: (rate) => metrics[rate.metric]?.label ?? rate.metric },
        {
          title: "BD-rate",
          numeric: true,
          value: (rate) => rate.percent,
          cell: (rate) =>
            report.table.figure(
              percent(rate.percent),
              isNumber(rate.low) ? `${percent(rate.low)} to ${percent(rate.high)}` : null,
            ),
        },
        { title: "Note", cell: (rate) => rate.note ?? "" },
      ],
    });
    find("bdrate").append(element);
  };
}
