"use strict";
/** Base64 to bytes, sound and codes. */
{
  const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  report.bytes = {
    toBytes,

    /** Samples of a FLAC file as an AudioBuffer at the file's own rate: an offline context does not resample. */
    decode: (bytes, rate) => new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.buffer.slice(0)),

    /** The channels of an AudioBuffer, each a Float32Array. */
    channels: (buffer) => Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index)),

    /** Codes [channels, levels, frames] of 16 bits, little-endian, as one flat array. */
    toCodes(text) {
      const view = new DataView(toBytes(text).buffer);
      return Uint16Array.from({ length: view.byteLength / 2 }, (_, index) => view.getUint16(2 * index, true));
    },
  };
}
