/** A recording on the page: its tracks, which all start at the same sample, and its codes. */
import { Tape } from "./tape.js";

let numClips = 0;

export class Clip {
  /**
   * `rates` are {label, levels}; `original` says whether there is a track of what was encoded, before those of the
   * rates. `numSamples` is null while it is recorded.
   */
  constructor({ name, numChannels, rates, original = true, numSamples = null }) {
    numClips += 1;
    Object.assign(this, { id: numClips, name, numChannels, rates, numSamples, hasOriginal: original });
    this.numLevels = Math.max(...rates.map(({ levels }) => levels));
    this.width = this.numLevels + rates.length;
    this.rows = new Tape(Int32Array); // see coder.js
    const labels = [...(original ? ["Original"] : []), ...rates.map(({ label }) => label)];
    this.tracks = labels.map((label) => ({ label, tapes: Array.from({ length: numChannels }, () => new Tape()) }));
    this.encodeSeconds = 0;
    this.decodeSeconds = 0;
    this.isDone = false;
  }

  get numFrames() {
    return this.rows.length / (this.numChannels * this.width);
  }

  /** Number of the track of a rate. */
  trackOf(rate) {
    return rate + Number(this.hasOriginal);
  }

  append(track, samples) {
    samples.forEach((block, channel) => this.tracks[track].tapes[channel].append(block));
  }

  /** Levels that a frame has at a rate. */
  levelsOf(frame, channel, rate) {
    return this.rows.buffer[(frame * this.numChannels + channel) * this.width + this.numLevels + rate];
  }

  code(frame, channel, level) {
    return this.rows.buffer[(frame * this.numChannels + channel) * this.width + level];
  }

  /** Codes of a rate as files hold them: by frame, channel and level. */
  codesOf(rate) {
    const { levels } = this.rates[rate];
    const codes = new Int32Array(this.numFrames * this.numChannels * levels);
    for (let frame = 0, at = 0; frame < this.numFrames; frame += 1) {
      for (let channel = 0; channel < this.numChannels; channel += 1) {
        const active = this.levelsOf(frame, channel, rate);
        for (let level = 0; level < levels; level += 1, at += 1) {
          codes[at] = level < active ? this.code(frame, channel, level) : 0;
        }
      }
    }
    return codes;
  }
}

/** Rows of codes that a file holds, by frame, channel and level: every frame has all levels of each rate. */
export function rowsOf(codes, numLevels, rates) {
  const width = numLevels + rates.length;
  const numRows = codes.length / numLevels;
  const rows = new Int32Array(numRows * width);
  for (let row = 0; row < numRows; row += 1) {
    rows.set(codes.subarray(row * numLevels, (row + 1) * numLevels), row * width);
    rows.set(rates, row * width + numLevels);
  }
  return rows;
}
