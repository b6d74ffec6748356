"use strict";
/** The data of the report, what is chosen to be looked at, and the look of each codec. */
{
  const NUM_COLOURS = 8;
  const data = JSON.parse(report.dom.find("evaluation").textContent);
  const unique = (values) => [...new Set(values)];
  const codecs = unique(data.means.map((mean) => mean.codec));
  const conditions = unique(data.means.map((mean) => mean.condition));
  const metricNames = Object.keys(data.metrics);
  const watchers = [];

  report.evaluation = {
    ...data,
    codecs,
    conditions,
    metricNames,
    /** Clips in the page, by the path of their rows. */
    clipOf: new Map(data.clips.map((clip) => [clip.name, clip])),
    shortNames: report.format.shortNames(unique(data.rows.map((row) => row.path))),
    system: ({ codec, setting }) => `${codec} ${setting}`,
    colour: (codec) => `var(--codec-${codecs.indexOf(codec) % NUM_COLOURS})`,
    /** Means of one condition, in the order of the codecs and of their bitrates. */
    meansOf: (condition) => data.means.filter((mean) => mean.condition === condition),
    /** Compare two values of a metric, the worse first; missing values come last. */
    worseFirst(name) {
      const { better } = data.metrics[name];
      const badness =
        { higher: (value) => -value, lower: (value) => value, zero: Math.abs }[better] ?? ((value) => -value);
      const { isNumber } = report.format;
      return (a, b) => {
        if (!isNumber(a) || !isNumber(b)) return isNumber(b) - isNumber(a);
        return badness(b) - badness(a);
      };
    },
  };

  /** Metric and condition that the sections show; one choice for all. */
  report.chosen = {
    metric: metricNames[0],
    condition: conditions[0],
    set(name, value) {
      report.chosen[name] = value;
      for (const watcher of watchers) watcher();
    },
    /** Call now and after every change. */
    watch(watcher) {
      watchers.push(watcher);
      watcher();
    },
    metricChoice() {
      const options = metricNames.map((name) => [name, report.format.metricInWords(data.metrics[name])]);
      return linked("Metric", options, "metric");
    },
    /** Null where there is nothing to choose. */
    conditionChoice: () =>
      conditions.length > 1
        ? linked(
            "Condition",
            conditions.map((name) => [name, name]),
            "condition",
          )
        : null,
  };

  /** A choice that follows when the same is chosen elsewhere. */
  function linked(label, options, name) {
    const field = report.dom.choice(label, options, report.chosen[name], (value) => report.chosen.set(name, value));
    watchers.push(() => {
      field.querySelector("select").value = report.chosen[name];
    });
    return field;
  }
}
