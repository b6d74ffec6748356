"use strict";
/** Pictures of the part of a signal that is in view, each drawn on a canvas of its own. */
{
  const RANGE_DB = 80;
  const DIFFERENCE_DB = 20;

  /** Fit the pixels of a canvas to its size on the screen; returns its context. */
  function prepare(canvas) {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    return canvas.getContext("2d");
  }

  /** Paint columns x rows of values by a map of colours; row 0 is at the bottom. */
  function paint(canvas, columns, rows, colourOf, smooth) {
    const image = new ImageData(columns, rows);
    for (let column = 0; column < columns; column += 1) {
      for (let row = 0; row < rows; row += 1) {
        const [red, green, blue] = colourOf(column, row);
        const at = 4 * ((rows - 1 - row) * columns + column);
        image.data[at] = red;
        image.data[at + 1] = green;
        image.data[at + 2] = blue;
        image.data[at + 3] = 255;
      }
    }
    const source = new OffscreenCanvas(columns, rows);
    source.getContext("2d").putImageData(image, 0, 0);
    const context = prepare(canvas);
    context.imageSmoothingEnabled = smooth;
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
  }

  report.pictures = {
    RANGE_DB,
    DIFFERENCE_DB,

    /** Least and greatest sample of each column, over all channels; the height is full scale. */
    wave(canvas, channels, rate, { start, end }) {
      const context = prepare(canvas);
      const { width, height } = canvas;
      const perColumn = ((end - start) * rate) / width;
      context.fillStyle = getComputedStyle(canvas).color;
      for (let column = 0; column < width; column += 1) {
        const first = Math.floor(start * rate + column * perColumn);
        const last = Math.max(first + 1, Math.floor(start * rate + (column + 1) * perColumn));
        let [low, high] = [Infinity, -Infinity];
        for (const samples of channels) {
          for (let index = first; index <= last && index < samples.length; index += 1) {
            low = Math.min(low, samples[index]);
            high = Math.max(high, samples[index]);
          }
        }
        if (low > high) continue;
        const top = ((1 - high) / 2) * height;
        context.fillRect(column, top, 1, Math.max(1, ((high - low) / 2) * height));
      }
    },

    /** A spectrogram; `top` (dB) is the brightest colour, 80 dB less the darkest. */
    spectrogram(canvas, { columns, bins, db }, top) {
      const { magma } = report.colormap;
      paint(canvas, columns, bins, (column, bin) => magma((db[column * bins + bin] - top) / RANGE_DB + 1), true);
    },

    /** Level of the decode less that of the original, where one of both is within the range of the spectrogram. */
    difference(canvas, decoded, original, top) {
      const { columns, bins } = decoded;
      const map = report.colormap.diverging[report.theme()];
      const floor = top - RANGE_DB;
      paint(
        canvas,
        columns,
        bins,
        (column, bin) => {
          const at = column * bins + bin;
          const change = Math.max(floor, decoded.db[at]) - Math.max(floor, original.db[at]);
          return map(0.5 + change / (2 * DIFFERENCE_DB));
        },
        true,
      );
    },

    /** Codes of the first channel: a row for each level, the first at the top; the colour is the number of the codeword. */
    codes(canvas, codes, { shape: [, levels, frames], size }, seconds, { start, end }) {
      const { magma } = report.colormap;
      const columns = Math.max(1, Math.min(canvas.clientWidth, Math.ceil(((end - start) / seconds) * frames) * 4));
      paint(
        canvas,
        columns,
        levels,
        (column, row) => {
          const time = start + ((column + 0.5) / columns) * (end - start);
          const frame = Math.min(frames - 1, Math.floor((time / seconds) * frames));
          return magma(0.12 + (0.85 * codes[(levels - 1 - row) * frames + frame]) / Math.max(1, size - 1));
        },
        false,
      );
    },
  };
}
