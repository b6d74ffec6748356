/** Codes in a fixed number of bits each, most significant bit first; zeros fill the last byte. */
export function pack(codes, bits) {
  const bytes = new Uint8Array(Math.ceil((codes.length * bits) / 8));
  let position = 0;
  for (const code of codes) {
    for (let bit = bits - 1; bit >= 0; bit -= 1, position += 1) {
      bytes[position >> 3] |= ((code >>> bit) & 1) << (7 - (position & 7));
    }
  }
  return bytes;
}

/** Invert `pack`. */
export function unpackCodes(bytes, count, bits) {
  let position = 0;
  return Int32Array.from({ length: count }, () => {
    let code = 0;
    for (let bit = 0; bit < bits; bit += 1, position += 1) {
      code = (code << 1) | ((bytes[position >> 3] >> (7 - (position & 7))) & 1);
    }
    return code;
  });
}
