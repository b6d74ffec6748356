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
    this.decoder = new Stream(decoder, rates.length * numChannels); // all rates of all channels are a batch
    this.late = delay; // samples that the decoder still gives before those of the signal
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

  /** Samples [R][C][n] of the next rows at every rate; the first ones of a signal are fewer, by the delay. */
  async decode(rows) {
    const numChannels = this.encoders.length;
    const numFrames = rows.length / (numChannels * this.width);
    const batch = this.rates.length * numChannels;
    const codes = this.#codes(rows, numChannels, numFrames);
    const audio = await this.decoder.push("int64", codes, [batch, this.numLevels, numFrames]);
    const length = audio.length / batch;
    const late = Math.min(this.late, length);
    this.late -= late;
    return this.rates.map((_, rate) =>
      this.encoders.map((_, channel) => {
        const item = rate * numChannels + channel;
        return audio.slice(item * length + late, (item + 1) * length);
      }),
    );
  }

  /** Codes [R, C, K, F] of rows as the decoder takes them: -1 where a frame has no such level. */
  #codes(rows, numChannels, numFrames) {
    const codes = new BigInt64Array(this.rates.length * numChannels * this.numLevels * numFrames).fill(-1n);
    for (let row = 0; row < numFrames * numChannels; row += 1) {
      const [frame, channel] = [Math.floor(row / numChannels), row % numChannels];
      const first = row * this.width;
      for (let rate = 0; rate < this.rates.length; rate += 1) {
        const active = rows[first + this.numLevels + rate];
        const item = (rate * numChannels + channel) * this.numLevels;
        for (let level = 0; level < active; level += 1) {
          codes[(item + level) * numFrames + frame] = BigInt(rows[first + level]);
        }
      }
    }
    return codes;
  }
}
