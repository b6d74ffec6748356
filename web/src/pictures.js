/** Pictures that scroll with the sound: two spectrograms and the codes, frame by frame. */
import { Columns } from "./columns.js";
import { colormap } from "./look.js";

const SECONDS = 5; // in view
const AHEAD = 0.4; // share of the view that lies after the position

/** Colours as numbers for an ImageData of 32 bits a pixel (little-endian: ABGR). */
const SHADES = Uint32Array.from({ length: 256 }, (_, shade) => {
  const [red, green, blue] = colormap.magma(shade / 255);
  return 0xff000000 + ((blue & 255) << 16) + ((green & 255) << 8) + (red & 255);
});

export class Pictures {
  /** Canvases of the original, of what is compared with it, and of the codes. */
  constructor({ original, decoded, codes }, facts) {
    Object.assign(this, { canvases: { original, decoded, codes }, facts });
    this.frameSeconds = facts.hop_length / facts.sample_rate;
    this.numFrames = Math.round(SECONDS / this.frameSeconds);
  }

  show(clip) {
    this.clip = clip;
    const { sample_rate: sampleRate } = this.facts;
    this.columns = clip.tracks.map((track) => new Columns(clip, track, sampleRate, this.frameSeconds));
  }

  /** The time at the left edge (s), when the position is at `seconds` of a clip that lasts `duration`. */
  startAt(seconds, duration) {
    return Math.max(0, Math.min(seconds - SECONDS * (1 - AHEAD), duration - SECONDS));
  }

  /** The time at a place in a picture (s), from 0, its left edge, to 1. */
  timeAt(place) {
    return this.start + place * SECONDS;
  }

  draw({ seconds, duration, rate }) {
    const { clip, frameSeconds } = this;
    this.start = this.startAt(seconds, duration);
    const view = { first: this.start / frameSeconds, cursor: (seconds - this.start) / SECONDS };
    this.#draw(this.canvases.decoded, view, this.#spectrogram(this.columns[clip.trackOf(rate)]), true);
    if (clip.hasOriginal) this.#draw(this.canvases.original, view, this.#spectrogram(this.columns[0]), true);
    this.#draw(this.canvases.codes, view, this.#codes(rate), false);
  }

  #spectrogram(columns) {
    const rows = columns.at(0)?.length ?? 1;
    return { rows, paint: (frame, pixel) => columns.at(frame)?.forEach((shade, bin) => pixel(bin, SHADES[shade])) };
  }

  /** Codes of the first channel, the first level at the top; levels that a frame does without are left blank. */
  #codes(rate) {
    const { clip, facts } = this;
    const rows = clip.rates[rate].levels;
    const scale = 218 / Math.max(1, facts.codebook_size - 1);
    const paint = (frame, pixel) => {
      if (frame < 0 || frame >= clip.numFrames) return;
      const active = clip.levelsOf(frame, 0, rate);
      for (let level = 0; level < active; level += 1) {
        pixel(rows - 1 - level, SHADES[Math.round(30 + scale * clip.code(frame, 0, level))]);
      }
    };
    return { rows, paint };
  }

  /** Draw the frames in view, and the position over them. */
  #draw(canvas, { first, cursor }, { rows, paint }, smooth) {
    const columns = this.numFrames + 1;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const firstFrame = Math.floor(first);
    for (let column = 0; column < columns; column += 1) {
      paint(firstFrame + column, (row, colour) => {
        pixels[(rows - 1 - row) * columns + column] = colour;
      });
    }
    const source = new OffscreenCanvas(columns, rows);
    source.getContext("2d").putImageData(image, 0, 0);
    const context = prepare(canvas);
    const { width, height } = canvas;
    const frame = width / this.numFrames;
    context.imageSmoothingEnabled = smooth;
    context.drawImage(source, (firstFrame - first) * frame, 0, columns * frame, height);
    context.fillStyle = getComputedStyle(canvas).color;
    context.fillRect(Math.round(cursor * width) - 1, 0, 2, height);
  }
}

/** Fit the pixels of a canvas to its size on the screen; returns its context. */
function prepare(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) =>
    Math.max(1, Math.round(size * ratio)),
  );
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return context;
}
