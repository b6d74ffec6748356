"use strict";
/** Random choices that a seed decides, so that a test can be repeated. */
{
  class Random {
    #state;

    /** `seed`: a whole number from 0 to 999999999. */
    constructor(seed) {
      this.#state = (Math.imul(seed + 1, 2654435761) ^ 0x5bd1e995) >>> 0 || 1;
      for (let step = 0; step < 20; step += 1) this.below(2); // neighbouring seeds begin alike
    }

    /** A whole number from 0 to limit - 1 (Marsaglia, "Xorshift RNGs", 2003: 32 bits, shifts 13, 17, 5). */
    below(limit) {
      let x = this.#state;
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      this.#state = x >>> 0;
      return Math.floor((this.#state / 2 ** 32) * limit);
    }

    /** The same values in random order (Fisher and Yates). */
    shuffled(values) {
      const result = [...values];
      for (let last = result.length - 1; last > 0; last -= 1) {
        const other = this.below(last + 1);
        [result[last], result[other]] = [result[other], result[last]];
      }
      return result;
    }
  }

  report.Random = Random;
}
