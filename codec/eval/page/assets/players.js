"use strict";
/** The players of a clip: one is heard, and another takes over at the same position. */
{
  class Players {
    #watchers = [];

    constructor(audios) {
      this.audios = audios;
      this.current = 0;
      audios.forEach((audio, index) => {
        audio.addEventListener("play", () => this.#takeOver(index));
        for (const name of ["pause", "seeked", "timeupdate"]) audio.addEventListener(name, () => this.#tell());
      });
    }

    watch(watcher) {
      this.#watchers.push(watcher);
    }

    get audio() {
      return this.audios[this.current];
    }

    get position() {
      return this.audio.currentTime;
    }

    get isPlaying() {
      return !this.audio.paused;
    }

    /** Listen to another signal at the same position; it goes on playing if one was playing. */
    select(index) {
      if (index === this.current || index >= this.audios.length) return;
      const { isPlaying, position, audio } = this;
      this.current = index;
      audio.pause();
      this.audio.currentTime = position;
      if (isPlaying) this.audio.play();
      this.#tell();
    }

    seek(time) {
      this.audio.currentTime = time;
      this.#tell();
    }

    toggle() {
      if (this.isPlaying) this.audio.pause();
      else this.audio.play();
    }

    /** The button of another player was pressed: it goes on where the former was. */
    #takeOver(index) {
      if (index !== this.current) {
        const { position, audio } = this;
        this.current = index;
        audio.pause();
        this.audio.currentTime = position;
      }
      this.#tell();
      const follow = () => {
        this.#tell();
        if (this.isPlaying) requestAnimationFrame(follow);
      };
      requestAnimationFrame(follow);
    }

    #tell() {
      for (const watcher of this.#watchers) watcher();
    }
  }

  report.Players = Players;
}
