/** Encodes a recording block by block and decodes it at every rate; runs in the worker. */
import { Stream } from "./graph.js";

/**
 * Codes travel as rows, one a frame: for each channel K codes, then the number of levels of the frame at each of the R
 * rates. The codes of a rate are the first levels, 0 where the frame has fewer.
 */
export class Coder {
  /** `rates` are the largest numbers of levels, `numLevels` is K. */
  constructor({ encoder, decoder, hop, delay, numChannels, numLevels, rates }) {
    Object.assign(this, { hop, rates, numLevels, width: numLevels + rates.length });
    const channels = Array.from({ length: numChannels });
    this.encoders = channels.map(() => new Stream(encoder));
    this.decoders = rates.map(() => channels.map(() => new Stream(decoder)));
    this.late = rates.map(() => delay); // samples that the decoder still gives before those of the signal
  }

  /** Rows of the next whole frames of samples [C][F * hop]. */
  async encode(samples) {
    const numFrames = samples[0].length / this.hop;
    const rows = new Int32Array(numFrames * samples.length * this.width);
    for (const [channel, block] of samples.entries()) {
      const codes = await this.encoders[channel].push("float32", block, [1, 1, block.length]);
      for (let frame = 0; frame < numFrames; frame += 1) {
        const first = (frame * samples.length + channel) * this.width;
        for (let item = 0; item < this.width; item += 1) rows[first + item] = Number(codes[item * numFrames + frame]);
      }
    }
    return rows;
  }

  /** Samples [C][n] of the next rows at a rate; the first ones of a signal are fewer, by the delay. */
  async decode(rows, rate) {
    const streams = this.decoders[rate];
    const numFrames = rows.length / (streams.length * this.width);
    const numLevels = this.rates[rate];
    const late = Math.min(this.late[rate], numFrames * this.hop);
    this.late[rate] -= late;
    const decoded = [];
    for (const [channel, stream] of streams.entries()) {
      const codes = new BigInt64Array(numLevels * numFrames);
      for (let frame = 0; frame < numFrames; frame += 1) {
        const first = (frame * streams.length + channel) * this.width;
        const active = rows[first + this.numLevels + rate];
        for (let level = 0; level < active; level += 1) codes[level * numFrames + frame] = BigInt(rows[first + level]);
      }
      decoded.push((await stream.push("int64", codes, [1, numLevels, numFrames])).slice(late));
    }
    return decoded;
  }
}
