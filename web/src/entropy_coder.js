/**
 * The entropy coder of a model (rANS with integer tables), as codec/bitstream/rans.py describes it: the same bytes.
 *
 * Codes are ordered by frame, then by channel, then by level. The frequencies of a code depend on the code of the frame
 * before and that of the level below; N stands for none.
 */
import { PageError } from "./page_error.js";

const TOTAL_BITS = 16n;
const WORD_BITS = 32n;
const SLOT_MASK = 0xffffn;
const WORD_MASK = 0xffffffffn;
const LOW = 1n << WORD_BITS;
const MOST = 2n * WORD_BITS - TOTAL_BITS;
const TYPES = { frequencies: Uint16Array, previous: Uint8Array, below: Uint8Array, rows: Uint16Array };

const size = (shape) => shape.reduce((product, length) => product * length, 1);

export class EntropyCoder {
  /** `bytes` are the tables one after the other, `shapes` their shapes by name. */
  constructor(bytes, shapes) {
    let offset = 0;
    for (const [name, Type] of Object.entries(TYPES)) {
      const end = offset + size(shapes[name]) * Type.BYTES_PER_ELEMENT;
      this[name] = new Type(bytes.slice(offset, end).buffer);
      offset = end;
    }
    this.codebookSize = shapes.frequencies[1];
    [, this.previousClasses, this.belowClasses] = shapes.rows;
    this.starts = this.#starts(shapes.frequencies);
  }

  /** Where each code starts among the slots of its row; one more than there are codes. */
  #starts([numRows, numCodes]) {
    const starts = new Uint32Array(numRows * (numCodes + 1));
    for (let row = 0; row < numRows; row += 1) {
      for (let code = 0; code < numCodes; code += 1) {
        const at = row * (numCodes + 1) + code;
        starts[at + 1] = starts[at] + this.frequencies[row * numCodes + code];
      }
    }
    return starts;
  }

  /** Where the starts of the row for a code begin, from the codes before it. */
  #row(codes, index, level, numLevels, numChannels) {
    const none = this.codebookSize;
    const before = index - numLevels * numChannels;
    const last = before < 0 ? none : codes[before];
    const lower = level ? codes[index - 1] : none;
    const previous = this.previous[level * (none + 1) + last];
    const below = this.below[level * (none + 1) + lower];
    return this.rows[(level * this.previousClasses + previous) * this.belowClasses + below] * (none + 1);
  }

  encode(codes, numLevels, numChannels) {
    const words = [];
    let state = 0n;
    for (let index = codes.length - 1; index >= 0; index -= 1) {
      const row = this.#row(codes, index, index % numLevels, numLevels, numChannels);
      const start = this.starts[row + codes[index]];
      const frequency = BigInt(this.starts[row + codes[index] + 1] - start);
      if (state >= frequency << MOST) {
        words.push(Number(state & WORD_MASK));
        state >>= WORD_BITS;
      }
      state = ((state / frequency) << TOTAL_BITS) + (state % frequency) + BigInt(start);
    }
    words.push(Number(state & WORD_MASK), Number(state >> WORD_BITS));
    const view = new DataView(new ArrayBuffer(4 * words.length));
    words.reverse().forEach((word, index) => view.setUint32(4 * index, word));
    const bytes = new Uint8Array(view.buffer);
    const first = bytes.findIndex((byte) => byte);
    return first < 0 ? new Uint8Array() : bytes.subarray(first);
  }

  decode(payload, count, numLevels, numChannels) {
    const padded = new Uint8Array(4 * Math.ceil(payload.length / 4));
    padded.set(payload, padded.length - payload.length);
    const view = new DataView(padded.buffer);
    const codes = new Int32Array(count);
    let state = 0n;
    let next = 0;
    for (let index = 0; index < count; index += 1) {
      for (; state < LOW && next < padded.length; next += 4)
        state = (state << WORD_BITS) | BigInt(view.getUint32(next));
      const row = this.#row(codes, index, index % numLevels, numLevels, numChannels);
      const slot = Number(state & SLOT_MASK);
      const code = this.#find(row, slot);
      const start = this.starts[row + code];
      state = BigInt(this.starts[row + code + 1] - start) * (state >> TOTAL_BITS) + BigInt(slot - start);
      codes[index] = code;
    }
    if (state || next < padded.length) throw new PageError("The file is damaged: a payload is not of these codes.");
    return codes;
  }

  /** The code whose slots hold `slot`, by bisection. */
  #find(row, slot) {
    let [low, high] = [0, this.codebookSize];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[row + middle] <= slot) low = middle;
      else high = middle;
    }
    return low;
  }
}
