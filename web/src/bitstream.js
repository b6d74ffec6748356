/** `.codec` files, as docs/format.md describes them: codes, ordered by frame, channel and level, to bytes and back. */
import { crc32 } from "./crc32.js";
import { pack, unpackCodes } from "./packing.js";
import { PageError } from "./page_error.js";

const MAGIC = [0x43, 0x4f, 0x44, 0x43]; // CODC
const INDEX = [0x49, 0x4e, 0x44, 0x58]; // INDX
const END = [0x43, 0x45, 0x4e, 0x44]; // CEND
const SYNC = [0xc0, 0xde];
const VERSION = 1;
const PACKED = 0;
const ENTROPY_CODED = 1;
const HEADER_BYTES = 78;
const CHUNK_BYTES = 12;
const CHUNK_SECONDS = 4;
const MAX_PAYLOAD_BYTES = 2 ** 20;
const IDENTITY_BYTES = 32;

/** Writes little-endian numbers into bytes of a known size. */
class Writer {
  constructor(size) {
    this.bytes = new Uint8Array(size);
    this.at = 0;
  }

  put(bytes) {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  number(value, size) {
    for (let index = 0, left = value; index < size; index += 1, left = Math.floor(left / 256)) {
      this.bytes[this.at + index] = left % 256;
    }
    this.at += size;
  }
}

/** The number in `size` bytes, little-endian. */
function read(bytes, at, size) {
  let value = 0;
  for (let index = size - 1; index >= 0; index -= 1) value = value * 256 + bytes[at + index];
  return value;
}

const bitsPerCode = ({ codebookSize }) => Math.max(1, 32 - Math.clz32(codebookSize - 1));
const codesPerFrame = ({ numChannels, numLevels }) => numChannels * numLevels;
const matches = (bytes, expected, at = 0) => expected.every((byte, index) => bytes[at + index] === byte);

/** Frames that code the samples of a header. */
export function countFrames({ numSamples, sampleRate, modelRate, delay, hop }) {
  return numSamples ? Math.ceil((Math.ceil((numSamples * modelRate) / sampleRate) + delay) / hop) : 0;
}

function framesPerChunk(header) {
  const most = Math.floor((8 * MAX_PAYLOAD_BYTES) / (codesPerFrame(header) * bitsPerCode(header)));
  return Math.max(1, Math.min(Math.round((CHUNK_SECONDS * header.modelRate) / header.hop), most));
}

function headerBytes(header, kind, chunkFrames) {
  const writer = new Writer(HEADER_BYTES);
  writer.put(MAGIC);
  writer.put([VERSION, kind]);
  for (let at = 0; at < IDENTITY_BYTES; at += 1) writer.put([parseInt(header.identity.slice(2 * at, 2 * at + 2), 16)]);
  writer.number(header.modelRate, 4);
  writer.number(header.sampleRate, 4);
  writer.number(header.numChannels, 2);
  writer.number(header.numLevels, 2);
  writer.number(header.codebookSize, 4);
  writer.number(header.hop, 4);
  writer.number(header.delay, 4);
  writer.number(chunkFrames, 4);
  writer.number(header.numSamples, 8);
  writer.number(crc32(writer.bytes.subarray(0, writer.at)), 4);
  return writer.bytes;
}

/** Entropy-coded if the model has tables and this is shorter, with at least a bit a code; else packed. */
function payloadOf(codes, header, coder) {
  const packed = () => pack(codes, bitsPerCode(header));
  if (!coder) return packed();
  const coded = coder.encode(codes, header.numLevels, header.numChannels);
  const least = Math.ceil(codes.length / 8);
  if (Math.max(coded.length, least) >= Math.ceil((codes.length * bitsPerCode(header)) / 8)) return packed();
  const payload = new Uint8Array(Math.max(coded.length, least));
  payload.set(coded, payload.length - coded.length);
  return payload;
}

function chunk(number, payload) {
  const writer = new Writer(CHUNK_BYTES + payload.length);
  writer.put(SYNC);
  writer.number(number, 3);
  writer.number(payload.length, 3);
  writer.number(crc32(writer.bytes.subarray(2, 8), payload), 4);
  writer.put(payload);
  return writer.bytes;
}

function tail(sizes) {
  const writer = new Writer(12 + 4 * sizes.length + 16);
  writer.put(INDEX);
  for (const value of [sizes.length, ...sizes]) writer.number(value, 4);
  writer.number(crc32(writer.bytes.subarray(4, writer.at)), 4);
  const offset = writer.at;
  writer.number(
    sizes.reduce((sum, value) => sum + value, HEADER_BYTES),
    8,
  );
  writer.number(crc32(writer.bytes.subarray(offset, writer.at)), 4);
  writer.put(END);
  return writer.bytes;
}

/**
 * The bytes of a file.
 *
 * The header has identity (hex), modelRate and sampleRate (Hz), numChannels, numLevels, codebookSize, hop, delay and
 * numSamples. `coder` is the entropy coder of the model, or null.
 */
export function encodeFile(header, codes, coder) {
  const chunkFrames = framesPerChunk(header);
  const step = chunkFrames * codesPerFrame(header);
  const parts = [headerBytes(header, coder ? ENTROPY_CODED : PACKED, chunkFrames)];
  const sizes = [];
  for (let first = 0; first < codes.length; first += step) {
    const payload = payloadOf(codes.subarray(first, first + step), header, coder);
    parts.push(chunk(sizes.length, payload));
    sizes.push(CHUNK_BYTES + payload.length);
  }
  parts.push(tail(sizes));
  const writer = new Writer(parts.reduce((sum, part) => sum + part.length, 0));
  for (const part of parts) writer.put(part);
  return writer.bytes;
}

const damaged = (what) =>
  new PageError(`The file is damaged: ${what}. codec-decode --salvage may still decode a part.`);

function parseHeader(bytes) {
  if (!matches(bytes, MAGIC)) throw new PageError("This is no .codec file.");
  if (bytes[4] > VERSION) throw new PageError(`The file is of version ${bytes[4]}, later than this page.`);
  if (bytes.length < HEADER_BYTES || crc32(bytes.subarray(0, 74)) !== read(bytes, 74, 4)) throw damaged("its header");
  const identity = Array.from(bytes.subarray(6, 38), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const [modelRate, sampleRate] = [read(bytes, 38, 4), read(bytes, 42, 4)];
  const [numChannels, numLevels] = [read(bytes, 46, 2), read(bytes, 48, 2)];
  const [codebookSize, hop, delay] = [50, 54, 58].map((at) => read(bytes, at, 4));
  const [chunkFrames, numSamples] = [read(bytes, 62, 4), read(bytes, 66, 8)];
  const header = { identity, modelRate, sampleRate, numChannels, numLevels, codebookSize, hop, delay, numSamples };
  return { header, kind: bytes[5], chunkFrames };
}

/** Header and codes of an intact file of the model with this identity (hex). */
export function decodeFile(bytes, identity, coder) {
  const { header, kind, chunkFrames } = parseHeader(bytes);
  if (header.identity !== identity) {
    const names = [header.identity, identity].map((hex) => hex.slice(0, 12));
    throw new PageError(`The file is of model ${names[0]}, not of ${names[1]}, which runs here.`);
  }
  const numFrames = countFrames(header);
  if (!numFrames || !chunkFrames) throw damaged("it was never completed");
  const step = chunkFrames * codesPerFrame(header);
  const count = numFrames * codesPerFrame(header);
  if (count > 8 * bytes.length) throw damaged("it is too short"); // a code takes a bit or more
  const codes = new Int32Array(count);
  let at = HEADER_BYTES;
  for (let first = 0, number = 0; first < codes.length; first += step, number += 1) {
    const length = read(bytes, at + 5, 3);
    const payload = bytes.subarray(at + CHUNK_BYTES, at + CHUNK_BYTES + length);
    const isIntact =
      matches(bytes, SYNC, at) &&
      read(bytes, at + 2, 3) === number &&
      payload.length === length &&
      crc32(bytes.subarray(at + 2, at + 8), payload) === read(bytes, at + 8, 4);
    if (!isIntact) throw damaged(`chunk ${number}`);
    codes.set(codesOf(payload, Math.min(step, codes.length - first), header, kind, coder), first);
    at += CHUNK_BYTES + length;
  }
  return { header, codes };
}

function codesOf(payload, count, header, kind, coder) {
  const bits = bitsPerCode(header);
  const isPacked = payload.length === Math.ceil((count * bits) / 8);
  if (!isPacked && (kind !== ENTROPY_CODED || !coder)) throw damaged("the length of a payload");
  if (isPacked) return unpackCodes(payload, count, bits);
  return coder.decode(payload, count, header.numLevels, header.numChannels);
}
