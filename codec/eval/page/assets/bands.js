"use strict";
/** Level by band: energy of the decoded audio over that of the original. A band that is far off is named in words. */
{
  const { make, find } = report.dom;
  const { isNumber, decibel, fixed } = report.format;
  const LIMIT_DB = 3;
  const FULL_DB = 12; // the bar and the colour end here
  const edges = report.evaluation.edges_hz;

  const kilohertz = (edge) => String(Number((edge / 1000).toPrecision(3)));
  const energies = (mean) => mean.bands?.energy ?? [];
  const kindOf = (value) => (!isNumber(value) || Math.abs(value) <= LIMIT_DB ? null : value < 0 ? "quiet" : "loud");

  /** Neighbouring bands that are too quiet, or too loud: [{kind, low, high (Hz), from, to (dB)}]. */
  function faults(mean) {
    const spans = [];
    energies(mean).forEach((value, band) => {
      const kind = kindOf(value);
      const last = spans.at(-1);
      if (kind === null) return;
      if (last?.kind === kind && last.high === edges[band]) {
        Object.assign(last, {
          high: edges[band + 1],
          from: Math.min(last.from, Math.abs(value)),
          to: Math.max(last.to, Math.abs(value)),
        });
      } else {
        spans.push({ kind, low: edges[band], high: edges[band + 1], from: Math.abs(value), to: Math.abs(value) });
      }
    });
    return spans;
  }

  function inWords({ kind, low, high, from, to }) {
    const by = to - from < 0.05 ? fixed(to, 1) : `${fixed(from, 1)} to ${fixed(to, 1)}`;
    return `${kilohertz(low)}–${kilohertz(high)} kHz too ${kind} by ${by} dB`;
  }

  /** A list of the codecs with faults, in words; null without any. */
  function faultList(means) {
    const items = means.flatMap((mean) => {
      const found = faults(mean);
      return found.length
        ? [make("li", {}, make("strong", {}, report.evaluation.system(mean)), ` ${found.map(inWords).join("; ")}`)]
        : [];
    });
    return items.length ? make("ul", { class: "faults" }, items) : null;
  }

  /** A bar from the middle of the cell, up if too loud and down if too quiet, with its number. */
  function bandCell(value) {
    const kind = kindOf(value);
    const size = isNumber(value) ? Math.min(1, Math.abs(value) / FULL_DB) : 0;
    const height = `${(50 * size).toFixed(1)}%`;
    const style = value < 0 ? `top: 50%; height: ${height}` : `bottom: 50%; height: ${height}`;
    const bar = make("i", { class: "bar", style, "aria-hidden": "true" });
    const words = kind ? make("span", { class: "verdict" }, `too ${kind}`) : null;
    return make(
      "td",
      { class: `band ${value < 0 ? "below" : "above"} ${kind ?? ""}` },
      bar,
      make("b", {}, decibel(value)),
      words,
    );
  }

  function chart(means) {
    const heads = edges
      .slice(0, -1)
      .map((low, band) => make("th", { scope: "col" }, `${kilohertz(low)}–${kilohertz(edges[band + 1])}`));
    const rows = means.map((mean) =>
      make(
        "tr",
        { class: faults(mean).length ? "faulty" : null },
        make("th", { scope: "row" }, report.table.system(mean)),
        energies(mean).map(bandCell),
      ),
    );
    const caption = "Energy of the decode over energy of the original, dB, by band in kHz";
    const table = make(
      "table",
      { class: "bands" },
      make("caption", { class: "unseen" }, caption),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Codec"), heads)),
      make("tbody", {}, rows),
    );
    const scroller = make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, table);
    return [make("p", { class: "caption", "aria-hidden": "true" }, caption), scroller];
  }

  /** The alarm at the top of the page: under which conditions which bands are off. */
  function alarm() {
    const [first, ...others] = report.evaluation.conditions;
    const list = faultList(report.evaluation.meansOf(first));
    const elsewhere = others.filter((name) => report.evaluation.meansOf(name).some((mean) => faults(mean).length));
    if (!list && !elsewhere.length) return;
    const place = find("alarm");
    place.hidden = false;
    place.append(make("h2", {}, `Bands are off by more than ${LIMIT_DB} dB`));
    if (list) place.append(list);
    const also = list ? "Also under" : "Under";
    if (elsewhere.length)
      place.append(
        make("p", {}, `${also}: ${elsewhere.join(", ")}. `, make("a", { href: "#bands" }, "See the bands.")),
      );
  }

  report.showBands = () => {
    const place = make("div");
    find("bands").append(make("div", { class: "controls" }, report.chosen.conditionChoice()), place);
    report.chosen.watch(() => {
      const means = report.evaluation.meansOf(report.chosen.condition).filter((mean) => energies(mean).length);
      if (!means.length) {
        place.replaceChildren(make("p", { class: "empty" }, "No bands were measured."));
        return;
      }
      const fine = make("p", { class: "fine" }, `No band of any codec is off by more than ${LIMIT_DB} dB.`);
      place.replaceChildren(faultList(means) ?? fine, ...chart(means));
    });
    alarm();
  };
}
