"use strict";
/** Robustness: the mean of a metric under each condition, and its change against the first. */
{
  const { make, find } = report.dom;
  const { isNumber, number } = report.format;
  const { conditions, metrics, means, system, worseFirst } = report.evaluation;

  function cell(mean, first) {
    const change = isNumber(mean) && isNumber(first) ? mean - first : null;
    const isWorse = change !== null && worseFirst(report.chosen.metric)(mean, first) < 0;
    const sign = change > 0 ? "+" : "";
    const small = change === null ? null : make("small", { class: isWorse ? "worse" : "" }, sign + number(change));
    return make("span", { class: "mean" }, make("b", {}, number(mean)), small);
  }

  report.showRobustness = () => {
    find("robustness").hidden = conditions.length < 2;
    if (conditions.length < 2) return;
    const systems = [...new Map(means.map((mean) => [system(mean), mean])).values()];
    const valueOf = (row, condition) => {
      const found = means.find((mean) => system(mean) === system(row) && mean.condition === condition);
      return found?.metrics[report.chosen.metric]?.mean ?? null;
    };
    const place = make("div");
    find("robustness").append(make("div", { class: "controls" }, report.chosen.metricChoice()), place);
    report.chosen.watch(() => {
      const columns = conditions.map((condition) => ({
        title: condition,
        numeric: true,
        value: (row) => valueOf(row, condition),
        cell: (row) => cell(valueOf(row, condition), condition === conditions[0] ? null : valueOf(row, conditions[0])),
      }));
      const names = { title: "Codec", head: true, value: system, cell: report.table.system };
      const caption = `${report.format.metricInWords(metrics[report.chosen.metric])}: mean, and change against “${conditions[0]}”`;
      place.replaceChildren(report.table({ caption, columns: [names, ...columns], rows: systems }).element);
    });
  };
}
