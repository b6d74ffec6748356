"use strict";
/** Robustness: the mean of a metric under each condition, and its change against the first. */
{
  const { make, find } = report.dom;
  const { isNumber, number } = report.format;
  const { conditions, metrics, means, system, worseFirst } = report.evaluation;

  /** A mean with its change against that of the first condition; marked if it is worse, and outside its interval. */
  function cell(mean, first) {
    if (!isNumber(mean) || !isNumber(first?.mean)) return report.table.figure(number(mean));
    const isOutside = mean < first.low || mean > first.high;
    const isWorse = isOutside && worseFirst(report.chosen.metric)(mean, first.mean) < 0;
    const change = mean - first.mean;
    const text = `${change > 0 ? "+" : ""}${number(change)}`;
    return report.table.figure(number(mean), text, isWorse ? "worse" : null);
  }

  report.showRobustness = () => {
    find("robustness").hidden = conditions.length < 2;
    if (conditions.length < 2) return;
    const systems = [...new Map(means.map((mean) => [system(mean), mean])).values()];
    const meanOf = (row, condition) => {
      const found = means.find((mean) => system(mean) === system(row) && mean.condition === condition);
      return found?.metrics[report.chosen.metric] ?? null;
    };
    const place = make("div");
    find("robustness").append(make("div", { class: "controls" }, report.chosen.metricChoice()), place);
    report.chosen.watch(() => {
      const columns = conditions.map((condition) => ({
        title: condition,
        numeric: true,
        value: (row) => meanOf(row, condition)?.mean ?? null,
        cell: (row) =>
          cell(meanOf(row, condition)?.mean, condition === conditions[0] ? null : meanOf(row, conditions[0])),
      }));
      const names = { title: "Codec", head: true, value: system, cell: report.table.system };
      const caption = `${report.format.metricInWords(metrics[report.chosen.metric])}: mean, and change against “${conditions[0]}”, in red where it is worse and outside the 95 % interval of that`;
      place.replaceChildren(report.table({ caption, columns: [names, ...columns], rows: systems }).element);
    });
  };
}
