/** Base64 of gzip to bytes. */
function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = letters.charCodeAt(index);
  return bytes;
}

/** The bytes of a file, from the text that its script holds. */
export async function unpack(text) {
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  const written = writer.write(fromBase64(text)).then(() => writer.close());
  const [buffer] = await Promise.all([new Response(readable).arrayBuffer(), written]);
  return new Uint8Array(buffer);
}
