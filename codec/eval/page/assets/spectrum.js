"use strict";
/** Power spectra of the part of a signal that is in view, one for each column of the picture. */
{
  const FRAME_SECONDS = 0.03;
  const FLOOR_DB = -120;
  const plans = new Map();

  /** Everything that depends on the sample rate alone: transform, window, scale. */
  function plan(rate) {
    if (!plans.has(rate)) {
      const size = 2 ** Math.ceil(Math.log2(FRAME_SECONDS * rate));
      const window = Float64Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));
      plans.set(rate, { size, window, fft: new report.Fft(size), scale: (4 / size) ** 2 });
    }
    return plans.get(rate);
  }

  /** Add the power of one frame to `power`; the window is centred at sample `centre`. */
  function addPower(samples, centre, { size, window, fft }, work, power) {
    const first = Math.round(centre) - size / 2;
    for (let n = 0; n < size; n += 1) work.real[n] = (samples[first + n] ?? 0) * window[n];
    work.imaginary.fill(0);
    fft.transform(work.real, work.imaginary);
    for (let bin = 0; bin < power.length; bin += 1) power[bin] += work.real[bin] ** 2 + work.imaginary[bin] ** 2;
  }

  /**
   * Spectra between two times (s), in dB: a sine of full scale is 0, the power is the mean of the channels. Frames of
   * 30 ms or a little more under a Hann window. The cost depends on the number of columns, not on the length.
   */
  report.spectrum = (channels, rate, start, end, columns) => {
    const settings = plan(rate);
    const bins = settings.size / 2 + 1;
    const work = { real: new Float64Array(settings.size), imaginary: new Float64Array(settings.size) };
    const power = new Float64Array(bins);
    const db = new Float32Array(columns * bins);
    for (let column = 0; column < columns; column += 1) {
      const centre = rate * (start + ((column + 0.5) / columns) * (end - start));
      power.fill(0);
      for (const samples of channels) addPower(samples, centre, settings, work, power);
      for (let bin = 0; bin < bins; bin += 1) {
        const level = 10 * Math.log10((power[bin] * settings.scale) / channels.length + 1e-12);
        db[column * bins + bin] = Math.max(FLOOR_DB, level);
      }
    }
    return { bins, columns, db };
  };
}
