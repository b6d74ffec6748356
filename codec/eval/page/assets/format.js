"use strict";
/** Numbers, units and names as text. */
{
  const NONE = "–";
  const ARROWS = { higher: "↑", lower: "↓", zero: "→0" };
  const BETTER = { higher: "higher is better", lower: "lower is better", zero: "nearest to zero is better" };

  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

  function fixed(value, digits) {
    if (!isNumber(value)) return NONE;
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  }

  report.format = {
    NONE,
    isNumber,
    fixed,

    /** Three or more significant digits, never an exponent. */
    number(value) {
      if (!isNumber(value)) return NONE;
      const size = Math.abs(value);
      return fixed(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
    },

    /** A signed number of decibels. */
    decibel: (value) => (isNumber(value) && value > 0 ? "+" : "") + fixed(value, 1),

    /** Bits per second as a number of kbit/s. */
    kilobits: (bitrate) => (isNumber(bitrate) ? fixed(bitrate / 1000, bitrate < 99500 ? 2 : 0) : NONE),

    /** A length such as "7.4 s" or "2:05". */
    seconds(value) {
      if (value < 60) return `${fixed(value, 1)} s`;
      return `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")}`;
    },

    /** A metric for the head of a column, such as "SI-SDR, dB ↑". */
    metric: ({ label, unit, better }) => `${label}${unit ? `, ${unit}` : ""} ${ARROWS[better] ?? ""}`,

    /** A metric in words, such as "SI-SDR (dB), higher is better". */
    metricInWords: ({ label, unit, better }) => `${label}${unit ? ` (${unit})` : ""}, ${BETTER[better] ?? ""}`,

    /** Paths without the folders that all share, as a Map from path to name. */
    shortNames(paths) {
      const folders = paths.map((path) => path.split("/").slice(0, -1));
      let shared = 0;
      while (
        folders.length &&
        folders.every((parts) => parts.length > shared && parts[shared] === folders[0][shared])
      ) {
        shared += 1;
      }
      return new Map(paths.map((path) => [path, path.split("/").slice(shared).join("/")]));
    },
  };
}
