/** What is seen: controls that follow the player, pictures, and figures. */
import { dom, format } from "./look.js";
import { Pictures } from "./pictures.js";

const { find, make } = dom;
const THIN = "\u202f";

const milliseconds = (seconds) => `${Math.round(1000 * seconds)}${THIN}ms`;
const speed = (seconds, work) =>
  work > 0 && seconds > 0 ? `${format.fixed(seconds / work, seconds / work < 10 ? 1 : 0)}×` : format.NONE;

/** Minutes and seconds with tenths. */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

export class View {
  #isDirty = false;

  constructor(player, { sizeOf }) {
    Object.assign(this, { player, sizeOf, facts: player.facts });
    const canvas = (id) => find(id).querySelector("canvas");
    const canvases = { original: canvas("original"), decoded: canvas("decoded"), codes: canvas("codes") };
    this.pictures = new Pictures(canvases, player.facts);
    for (const element of Object.values(canvases)) {
      element.addEventListener("pointerdown", (event) => this.#seek(event, element));
      element.addEventListener("pointermove", (event) => event.buttons === 1 && this.#seek(event, element));
    }
    document.addEventListener("themechange", () => this.update());
    addEventListener("resize", () => this.update());
  }

  #seek(event, canvas) {
    if (!this.player.clip || this.player.isRecording) return;
    this.player.seek(this.pictures.timeAt(event.offsetX / canvas.clientWidth));
  }

  /** Make the choice of tracks of a clip, and begin its pictures. */
  show(clip) {
    const { player } = this;
    const choice = ({ label }, index) => {
      const input = make("input", { type: "radio", name: "track", value: index, onchange: () => player.select(index) });
      return make("label", {}, input, make("span", {}, label, make("kbd", {}, String(index))));
    };
    const legend = find("tracks").querySelector("legend");
    find("tracks").replaceChildren(legend, ...clip.tracks.map(choice));
    find("original").hidden = !clip.hasOriginal;
    find("name").textContent = clip.name;
    this.pictures.show(clip);
    this.update();
  }

  /** Draw everything anew, with the next frame of the screen. */
  update() {
    if (this.#isDirty || !this.player.clip) return;
    this.#isDirty = true;
    requestAnimationFrame(() => {
      this.#isDirty = false;
      this.#draw();
    });
  }

  #draw() {
    const { player } = this;
    const { clip, duration, rate } = player;
    const seconds = player.isRecording && !player.isPlaying ? duration : player.position / player.sampleRate;
    this.pictures.draw({ seconds, duration, rate });
    find("decoded").querySelector(".label").textContent = clip.rates[rate].label;
    const radio = find("tracks").querySelectorAll("input")[player.track];
    radio.checked = true;
    find("play").textContent = player.isPlaying ? "Pause" : "Play";
    find("play").disabled = player.isRecording;
    const range = find("position");
    Object.assign(range, { max: duration.toFixed(2), value: seconds.toFixed(2), disabled: player.isRecording });
    range.setAttribute("aria-valuetext", `${format.fixed(seconds, 1)} of ${format.fixed(duration, 1)} seconds`);
    find("time").textContent = `${clock(seconds)} / ${clock(duration)}`;
    find("microphone").textContent = player.isRecording ? "Stop recording" : "Record the microphone";
    find("microphone").setAttribute("aria-pressed", String(player.isRecording));
    find("save").disabled = !clip.isDone;
    find("save").textContent = `Save ${clip.rates[rate].label} as .codec`;
    this.#figures();
  }

  #figures() {
    const { player, facts } = this;
    const { clip, rate, liveLatency } = player;
    const coded = (clip.numFrames * facts.hop_length) / facts.sample_rate;
    const algorithmic = facts.latency / facts.sample_rate;
    const { levels } = clip.rates[rate];
    const size = clip.isDone ? this.sizeOf(clip, rate) : null;
    const texts = {
      latency: milliseconds(algorithmic),
      live: liveLatency === null ? "of the codec" : `of the codec; ${milliseconds(liveLatency)} from microphone to ear`,
      speed: speed(coded, clip.encodeSeconds + clip.decodeSeconds),
      parts: `real time; encoding ${speed(coded, clip.encodeSeconds)}, decoding all rates ${speed(coded, clip.decodeSeconds)}`,
      size:
        size === null
          ? format.NONE
          : `${format.kilobits((8 * size) / (clip.numSamples / facts.sample_rate))}${THIN}kbit/s`,
      bytes:
        size === null ? "of the file" : `${size.toLocaleString("en")} bytes for ${format.seconds(player.duration)}`,
      levels: `${levels} × ${Math.log2(facts.codebook_size)}${THIN}bit`,
      frames: `${format.fixed(facts.sample_rate / facts.hop_length, 0)} frames a second`,
    };
    for (const [id, text] of Object.entries(texts)) find(id).textContent = text;
  }
}
