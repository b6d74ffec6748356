/** CRC-32 as in zlib (polynomial 0xEDB88320, reflected). */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** Checksum of parts, each a Uint8Array, one after the other. */
export function crc32(...parts) {
  let value = 0xffffffff;
  for (const part of parts) for (const byte of part) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
