"use strict";
/** Rate-distortion: the mean of a metric over the real bitrate, a curve for each codec, with 95 % bands. */
{
  const { make, draw, find, choice } = report.dom;
  const { isNumber, kilobits, number } = report.format;
  const HEIGHT = 400;
  const EDGE = { top: 14, right: 120, bottom: 44, left: 52 };
  const MARKS = ["circle", "square", "diamond", "triangle"];
  const evaluation = report.evaluation;
  const chosen = report.chosen;
  let isLog = true;

  /** The points of each codec that have a value, by bitrate. */
  function series() {
    const means = evaluation.meansOf(chosen.condition);
    return evaluation.codecs
      .map((codec) => ({
        codec,
        points: means
          .filter(
            (mean) => mean.codec === codec && isNumber(mean.bitrate) && isNumber(mean.metrics[chosen.metric]?.mean),
          )
          .map((mean) => ({
            ...mean.metrics[chosen.metric],
            kilobits: mean.bitrate / 1000,
            setting: mean.setting,
            codec,
          }))
          .sort((a, b) => a.kilobits - b.kilobits),
      }))
      .filter(({ points }) => points.length);
  }

  function scales(curves, width) {
    const points = curves.flatMap((curve) => curve.points);
    const rates = points.map((point) => point.kilobits);
    const values = points.flatMap(({ mean, low, high }) => [mean, low, high]).filter(isNumber);
    const [slowest, fastest] = [Math.min(...rates), Math.max(...rates)];
    const [lowest, highest] = [Math.min(...values), Math.max(...values)];
    const margin = (highest - lowest || Math.abs(highest) || 1) * 0.06;
    const range = isLog ? [slowest / 1.15, fastest * 1.1] : [0, fastest * 1.05];
    const right = width < 560 ? 16 : EDGE.right;
    return {
      right: width - right,
      x: report.scale(...range, EDGE.left, width - right, isLog),
      y: report.scale(lowest - margin, highest + margin, HEIGHT - EDGE.bottom, EDGE.top),
    };
  }

  function axes({ x, y, right }) {
    const bottom = HEIGHT - EDGE.bottom;
    const text = (properties, value) => draw("text", properties, value);
    const across = y
      .ticks(6)
      .map((tick) => [
        draw("line", { class: "rule", x1: EDGE.left, x2: right, y1: y(tick), y2: y(tick) }),
        text(
          { class: "tick", x: EDGE.left - 8, y: y(tick), dy: "0.35em", "text-anchor": "end" },
          report.scale.text(tick),
        ),
      ]);
    const up = x
      .ticks(6)
      .map((tick) => [
        draw("line", { class: "notch", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 5 }),
        text({ class: "tick", x: x(tick), y: bottom + 19, "text-anchor": "middle" }, report.scale.text(tick)),
      ]);
    const title = text(
      { class: "tick", x: right, y: HEIGHT - 6, "text-anchor": "end" },
      "Bitrate of the files, kbit/s",
    );
    const base = draw("line", { class: "base", x1: EDGE.left, x2: right, y1: bottom, y2: bottom });
    return draw("g", { "aria-hidden": "true" }, ...across, ...up, base, title);
  }

  function mark(shape, x, y) {
    if (shape === "circle") return draw("circle", { class: "mark", cx: x, cy: y, r: 4.5 });
    const corners = {
      square: [
        [-4, -4],
        [4, -4],
        [4, 4],
        [-4, 4],
      ],
      diamond: [
        [0, -5.5],
        [5.5, 0],
        [0, 5.5],
        [-5.5, 0],
      ],
      triangle: [
        [0, -5.5],
        [5, 4],
        [-5, 4],
      ],
    }[shape];
    return draw("polygon", { class: "mark", points: corners.map(([dx, dy]) => `${x + dx},${y + dy}`).join(" ") });
  }

  function describe(point) {
    const interval = isNumber(point.low) ? `, 95 % interval ${number(point.low)} to ${number(point.high)}` : "";
    const { label, unit } = evaluation.metrics[chosen.metric];
    const value = `${label} ${number(point.mean)}${unit ? ` ${unit}` : ""}`;
    return `${point.codec} ${point.setting}: ${value}${interval}, at ${kilobits(1000 * point.kilobits)} kbit/s`;
  }

  function curve({ codec, points }, { x, y }, showTip) {
    const known = points.filter((point) => isNumber(point.low) && isNumber(point.high));
    const outline = [
      ...known.map((p) => [x(p.kilobits), y(p.high)]),
      ...known.map((p) => [x(p.kilobits), y(p.low)]).reverse(),
    ];
    const shape = MARKS[evaluation.codecs.indexOf(codec) % MARKS.length];
    const dots = points.map((point) => {
      const place = [x(point.kilobits), y(point.mean)];
      const whisker = isNumber(point.low)
        ? draw("line", { class: "whisker", x1: place[0], x2: place[0], y1: y(point.low), y2: y(point.high) })
        : null;
      const tip = () => showTip(describe(point), ...place);
      const hide = () => showTip(null);
      const events = { onpointerenter: tip, onpointerleave: hide, onfocus: tip, onblur: hide };
      const properties = { class: "point", role: "img", tabindex: "-1", "aria-label": describe(point), ...events };
      return draw(
        "g",
        properties,
        whisker,
        draw("circle", { class: "target", cx: place[0], cy: place[1], r: 14 }),
        mark(shape, ...place),
      );
    });
    return draw(
      "g",
      { style: `color: ${evaluation.colour(codec)}` },
      known.length > 1 ? draw("polygon", { class: "confidence", points: outline.join(" ") }) : null,
      draw("polyline", { class: "curve", points: points.map((p) => [x(p.kilobits), y(p.mean)]).join(" ") }),
      ...dots,
    );
  }

  /** Names at the right ends of the curves, moved down where they would overlap. */
  function endLabels(curves, { x, y }) {
    const placed = [];
    const ends = curves.map(({ codec, points }) => ({
      codec,
      x: x(points.at(-1).kilobits) + 11,
      y: y(points.at(-1).mean),
    }));
    for (const label of ends.sort((a, b) => a.y - b.y)) {
      const width = 9 * label.codec.length;
      const overlaps = (other) =>
        Math.abs(other.y - label.y) < 16 && label.x < other.x + 9 * other.codec.length && other.x < label.x + width;
      while (placed.some(overlaps)) label.y += 4;
      placed.push(label);
    }
    const texts = placed.map(({ codec, x: left, y: height }) =>
      draw(
        "text",
        { class: "name", style: `color: ${evaluation.colour(codec)}`, x: left, y: height, dy: "0.35em" },
        codec,
      ),
    );
    return draw("g", { "aria-hidden": "true" }, texts);
  }

  function legend(curves) {
    const items = curves.map(({ codec }) => {
      const shape = MARKS[evaluation.codecs.indexOf(codec) % MARKS.length];
      const style = `color: ${evaluation.colour(codec)}`;
      return make(
        "li",
        {},
        draw("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, style, "aria-hidden": "true" }, mark(shape, 0, 0)),
        codec,
      );
    });
    return make("ul", { class: "legend" }, items);
  }

  /** One stop of the tab key for the chart; the arrows walk through its points. */
  function walk(svg) {
    const points = [...svg.querySelectorAll(".point")];
    points[0]?.setAttribute("tabindex", "0");
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const from = points.indexOf(document.activeElement);
      if (!step || from < 0) return;
      event.preventDefault();
      points[(from + step + points.length) % points.length].focus();
    });
  }

  function plot(place) {
    const curves = series();
    if (!curves.length) {
      place.replaceChildren(make("p", { class: "empty" }, "No codec has a value of this metric under this condition."));
      return;
    }
    const width = Math.max(300, place.clientWidth);
    const tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    const showTip = (text, x, y) => {
      tip.hidden = text === null;
      tip.textContent = text ?? "";
      tip.style.left = `${Math.max(110, Math.min(width - 110, x))}px`;
      tip.style.top = `${y}px`;
    };
    const scale = scales(curves, width);
    const label = `${report.format.metricInWords(evaluation.metrics[chosen.metric])}, over bitrate. The table below holds the same.`;
    const svg = draw("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      role: "group",
      "aria-label": label,
    });
    svg.append(axes(scale), ...curves.map((each) => curve(each, scale, showTip)));
    if (width >= 560) svg.append(endLabels(curves, scale));
    walk(svg);
    place.replaceChildren(
      legend(curves),
      make("p", { class: "axis" }, report.format.metricInWords(evaluation.metrics[chosen.metric])),
      svg,
      tip,
    );
  }

  function textTable() {
    const points = series().flatMap((each) => each.points);
    const { metrics } = evaluation;
    return report.table({
      caption: `${metrics[chosen.metric].label} over bitrate`,
      rows: points,
      columns: [
        { title: "Codec", head: true, value: (p) => `${p.codec} ${p.setting}`, cell: report.table.system },
        { title: "kbit/s", numeric: true, value: (p) => p.kilobits, cell: (p) => kilobits(1000 * p.kilobits) },
        {
          title: report.format.metric(metrics[chosen.metric]),
          numeric: true,
          value: (p) => p.mean,
          cell: (p) => number(p.mean),
        },
        { title: "95 % from", numeric: true, value: (p) => p.low, cell: (p) => number(p.low) },
        { title: "to", numeric: true, value: (p) => p.high, cell: (p) => number(p.high) },
      ],
    }).element;
  }

  report.showCurves = () => {
    const place = make("div", { class: "chart" });
    const table = make("div");
    const scaleChoice = choice(
      "Scale of the bitrate",
      [
        ["log", "logarithmic"],
        ["linear", "linear"],
      ],
      "log",
      (value) => {
        isLog = value === "log";
        plot(place);
      },
    );
    const details = make("details", {}, make("summary", {}, "The same as a table"), table);
    find("curves").append(
      make("div", { class: "controls" }, chosen.metricChoice(), chosen.conditionChoice(), scaleChoice),
      place,
      details,
    );
    chosen.watch(() => {
      plot(place);
      table.replaceChildren(textTable());
    });
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      plot(place);
    }).observe(place);
  };
}
