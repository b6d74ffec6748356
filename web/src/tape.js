/** Samples or codes that grow at the end, in one array. */
export class Tape {
  length = 0;

  constructor(Type = Float32Array) {
    this.buffer = new Type(2 ** 14);
  }

  append(values) {
    const length = this.length + values.length;
    if (length > this.buffer.length) {
      const larger = new this.buffer.constructor(Math.max(length, 2 * this.buffer.length));
      larger.set(this.all);
      this.buffer = larger;
    }
    this.buffer.set(values, this.length);
    this.length = length;
  }

  get all() {
    return this.buffer.subarray(0, this.length);
  }
}
