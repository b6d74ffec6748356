/** Samples [C][n] that wait to be taken in order. */
export class Queue {
  #blocks = [];
  #offset = 0; // samples of the first block that are taken already
  length = 0;
  total = 0;

  constructor(numChannels) {
    this.numChannels = numChannels;
  }

  append(samples) {
    this.#blocks.push(samples);
    this.length += samples[0].length;
    this.total += samples[0].length;
  }

  /** The next `count` samples, at most `length`, of every channel. */
  take(count) {
    const taken = Array.from({ length: this.numChannels }, () => new Float32Array(count));
    for (let filled = 0; filled < count;) {
      const [block] = this.#blocks;
      const end = Math.min(block[0].length, this.#offset + count - filled);
      taken.forEach((channel, index) => channel.set(block[index].subarray(this.#offset, end), filled));
      filled += end - this.#offset;
      this.#offset = end;
      if (end === block[0].length) {
        this.#blocks.shift();
        this.#offset = 0;
      }
    }
    this.length -= count;
    return taken;
  }
}
