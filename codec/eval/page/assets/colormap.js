"use strict";
/** Colours of values, as bytes of red, green and blue. */
{
  // Matplotlib's magma (perceptually uniform), fitted by polynomials of degree 6; no channel is off by more than 2.4 %.
  const MAGMA = [
    [-0.002, 0.25, 8.346, -27.667, 52.171, -50.759, 18.664],
    [-0.001, 0.694, -3.596, 14.254, -27.945, 29.054, -11.49],
    [-0.01, 2.495, 0.329, -13.647, 12.881, 4.27, -5.571],
  ];
  const SHADES = 256;
  const QUIET = [38, 103, 196]; // blue
  const LOUD = [205, 66, 20]; // vermilion
  const NEUTRAL = { light: [246, 245, 242], dark: [27, 28, 33] };

  const polynomial = (factors, x) => factors.reduceRight((sum, factor) => sum * x + factor, 0);
  const between = (from, to, share) => from.map((value, index) => value + (to[index] - value) * share);

  /** A table of shades of a map from [0, 1]; `look(x)` is the colour of the nearest shade. */
  function tabulate(map) {
    const shades = Array.from({ length: SHADES }, (_, index) => map(index / (SHADES - 1)));
    return (x) => shades[Math.max(0, Math.min(SHADES - 1, Math.round(x * (SHADES - 1))))];
  }

  const diverge = (theme) => (x) => between(NEUTRAL[theme], x < 0.5 ? QUIET : LOUD, Math.abs(2 * x - 1));

  report.colormap = {
    magma: tabulate((x) => MAGMA.map((factors) => 255 * Math.max(0, Math.min(1, polynomial(factors, x))))),
    diverging: { light: tabulate(diverge("light")), dark: tabulate(diverge("dark")) },
  };
}
