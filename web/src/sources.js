/** Where audio comes from: files that the browser decodes, and the microphone. */
import { PageError } from "./page_error.js";

export const MAX_SECONDS = 600;

/** Samples [C][T] of an audio file at the model's rate; more than two channels become one. */
export async function decodeAudio(bytes, name, sampleRate) {
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(bytes);
  } catch {
    throw new PageError(`${name} can't be decoded: this browser reads WAV, FLAC, MP3 and the like.`);
  }
  if (buffer.duration > MAX_SECONDS) {
    throw new PageError(`${name} is longer than ${MAX_SECONDS / 60} minutes: codec-encode takes any length.`);
  }
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index));
  return channels.length <= 2 ? channels : [average(channels)];
}

function average(channels) {
  return channels[0].map((_, index) => channels.reduce((sum, samples) => sum + samples[index], 0) / channels.length);
}

const REASONS = {
  NotAllowedError: "The microphone is not allowed: permit it for this page in the settings of the browser.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

/** The microphone as it is: no processing of the browser, which is made for calls. */
export async function openMicrophone() {
  if (!navigator.mediaDevices) {
    throw new PageError("The browser gives the microphone only to pages from disk, from localhost or by https.");
  }
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new PageError(REASONS[error.name] ?? `The microphone can't be used: ${error.message}`);
  }
}
