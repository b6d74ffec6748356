"use strict";
/** Use of the codebooks: the share of codewords that occur, a bar for each level. */
{
  const { make, find } = report.dom;
  const { fixed } = report.format;

  function chart([codec, shares]) {
    const bars = shares.map((share, level) => {
      const bar = make("i", { class: "column", style: `height: ${Math.max(1, 100 * share)}%`, "aria-hidden": "true" });
      const digits = share >= 0.1 ? 0 : 1;
      return make(
        "li",
        {},
        make("span", { class: "value" }, `${fixed(100 * share, digits)} %`),
        make("span", { class: "well" }, bar),
        make("span", { class: "level" }, `${level + 1}`),
      );
    });
    const style = `color: ${report.evaluation.colour(codec)}`;
    return make(
      "figure",
      { class: "usage" },
      make("figcaption", {}, codec, make("small", {}, " by level")),
      make("ol", { style, "aria-label": `Codewords of ${codec} in use, by level` }, bars),
    );
  }

  report.showUsage = () => {
    const charts = Object.entries(report.evaluation.usage ?? {}).filter(([, shares]) => shares?.length);
    find("usage").hidden = !charts.length;
    find("usage").append(make("div", { class: "usages" }, charts.map(chart)));
  };
}
