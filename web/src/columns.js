/** Columns of a spectrogram, one a frame of the codec, computed when they come into view. */
import { spectrum } from "./look.js";

const TOP_DB = -22; // the brightest colour; a sine of full scale is 0 dB
const RANGE_DB = 72;
const MARGIN_SECONDS = 0.025; // half a window
const MAX_COLUMNS = 4000;

export class Columns {
  #columns = new Map();

  /** `track` is one of a clip's; a frame lasts `frameSeconds`. */
  constructor(clip, track, sampleRate, frameSeconds) {
    Object.assign(this, { clip, track, sampleRate, frameSeconds });
  }

  /** Number of the first frame whose samples are not all there. */
  get end() {
    const { length } = this.track.tapes[0];
    const seconds = length / this.sampleRate - (length === this.clip.numSamples ? 0 : MARGIN_SECONDS);
    return Math.max(0, Math.floor(seconds / this.frameSeconds));
  }

  /** Brightness 0 .. 255 of the bins of a frame, the lowest first; null if its samples are not there yet. */
  at(frame) {
    if (frame < 0 || frame >= this.end) return null;
    if (!this.#columns.has(frame)) {
      if (this.#columns.size > MAX_COLUMNS) this.#columns.clear();
      this.#columns.set(frame, this.#compute(frame));
    }
    return this.#columns.get(frame);
  }

  #compute(frame) {
    const [start, end] = [frame * this.frameSeconds, (frame + 1) * this.frameSeconds];
    const samples = this.track.tapes.map((tape) => tape.all);
    const { db } = spectrum(samples, this.sampleRate, start, end, 1);
    return Uint8ClampedArray.from(db, (level) => 255 * ((level - TOP_DB) / RANGE_DB + 1));
  }
}
