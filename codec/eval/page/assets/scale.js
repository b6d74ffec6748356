"use strict";
/** Scales from values to places in a picture, with round ticks. */
{
  const LOG_STEPS = [1, 1.5, 2, 3, 4, 6, 8];
  const FEW_LOG_STEPS = [1, 2, 5];
  const WIDE = 30; // from the lowest to the highest value: then fewer ticks have room

  /** Round values about `count` in number: multiples of 1, 2 or 5 times a power of ten. */
  function linearTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  }

  function logTicks(low, high) {
    const ticks = [];
    const steps = high / low > WIDE ? FEW_LOG_STEPS : LOG_STEPS;
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
      ticks.push(...steps.map((step) => step * power));
    }
    const kept = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    return kept.length >= 2 ? kept : linearTicks(low, high, 4);
  }

  /** `low` to `high` lies at `from` to `to`. */
  report.scale = (low, high, from, to, isLog = false) => {
    const bend = isLog ? Math.log : (value) => value;
    const place = (value) => from + ((bend(value) - bend(low)) / (bend(high) - bend(low))) * (to - from);
    return Object.assign(place, {
      ticks: (count = 5) => (isLog ? logTicks(low, high) : linearTicks(low, high, count)),
    });
  };

  /** Text of a tick with no more digits than it needs. */
  report.scale.text = (tick) => String(Number(tick.toPrecision(6))).replace("-", "−");
}
