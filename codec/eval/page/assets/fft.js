"use strict";
/** Fast Fourier transform of a size that is a power of two (Cooley and Tukey, radix 2, in place). */
{
  class Fft {
    constructor(size) {
      this.size = size;
      this.cosines = Float64Array.from({ length: size / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / size));
      this.sines = Float64Array.from({ length: size / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / size));
      const bits = Math.log2(size);
      this.reversed = Uint32Array.from({ length: size }, (_, index) => {
        let result = 0;
        for (let bit = 0; bit < bits; bit += 1) result |= ((index >> bit) & 1) << (bits - 1 - bit);
        return result;
      });
    }

    /** Transform the arrays of the real and imaginary parts. */
    transform(real, imaginary) {
      this.#reorder(real);
      this.#reorder(imaginary);
      for (let half = 1; half < this.size; half *= 2) {
        const step = this.size / (2 * half);
        for (let start = 0; start < this.size; start += 2 * half) {
          for (let k = 0; k < half; k += 1) {
            const upper = start + k;
            const lower = upper + half;
            const cosine = this.cosines[k * step];
            const sine = this.sines[k * step];
            const re = real[lower] * cosine - imaginary[lower] * sine;
            const im = real[lower] * sine + imaginary[lower] * cosine;
            real[lower] = real[upper] - re;
            imaginary[lower] = imaginary[upper] - im;
            real[upper] += re;
            imaginary[upper] += im;
          }
        }
      }
    }

    #reorder(values) {
      for (let index = 0; index < this.size; index += 1) {
        const other = this.reversed[index];
        if (other > index) [values[index], values[other]] = [values[other], values[index]];
      }
    }
  }

  report.Fft = Fft;
}
