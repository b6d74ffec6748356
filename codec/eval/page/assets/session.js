"use strict";
/** The answers of one listener: kept against a reload, and saved as a JSON file at the end. */
{
  const data = JSON.parse(report.dom.find("evaluation").textContent);
  const KEY = `codec-listening-${data.id}`;
  const clipOf = (number) => data.clips.find((clip) => clip.number === number);

  class Session {
    /** `facts`: {test, listener, seed, volume, trials, answers, draft, started}; the draft is of the trial at hand. */
    constructor(facts) {
      Object.assign(this, facts);
    }

    static begin(test, listener, seed, count, volume) {
      const trials = report.trials.design(test, data.clips, seed, count);
      const [practice] = report.trials.design(test, data.clips, seed + 1, 1);
      const started = new Date().toISOString();
      const session = new Session({
        test,
        listener,
        seed,
        volume,
        trials: [{ ...practice, isPractice: true }, ...trials],
        answers: [],
        draft: null,
        started,
      });
      session.keep();
      return session;
    }

    /** The session that a reload or a closed window has interrupted, or null. */
    static resume() {
      try {
        const kept = JSON.parse(report.storage.get(KEY));
        return kept?.trials ? new Session(kept) : null;
      } catch {
        return null;
      }
    }

    /** The trial at hand; undefined at the end. */
    get trial() {
      return this.trials[this.answers.length];
    }

    /** Number of the trial at hand and of all, without the practice. */
    get progress() {
      return { at: this.answers.length, of: this.trials.length - 1 };
    }

    answer(answer) {
      this.answers.push(answer);
      this.draft = null;
      this.keep();
    }

    keep() {
      return report.storage.set(KEY, JSON.stringify(this));
    }

    forget() {
      report.storage.set(KEY, null);
    }

    /** What `codec-eval --listening` reads. */
    results() {
      const trials = this.trials
        .map((trial, index) => ({ trial, answer: this.answers[index] }))
        .filter(({ trial, answer }) => answer && !trial.isPractice);
      return {
        format: "codec-listening",
        version: 1,
        report: data.id,
        test: this.test,
        listener: this.listener,
        seed: this.seed,
        started: this.started,
        finished: new Date().toISOString(),
        volume: this.volume,
        level_matching: "loudness of ITU-R BS.1770-4, equal to that of the original",
        trials: trials.map(({ trial, answer }) =>
          trial.kind === "abx" ? abxResult(trial, answer) : mushraResult(trial, answer),
        ),
      };
    }
  }

  const system = (trial, decode) => {
    const { codec, setting } = clipOf(trial.clip).decodes[decode];
    return { codec, setting };
  };

  function mushraResult(trial, { scores, seconds }) {
    const ratings = trial.stimuli.map(({ role, decode }, index) => ({
      role,
      ...(role === "system" ? system(trial, decode) : {}),
      score: scores[index],
    }));
    return { kind: "mushra", clip: clipOf(trial.clip).name, seconds, ratings };
  }

  /** `answer` is what the listener took X for. */
  function abxResult(trial, { choice, seconds }) {
    const other = { original: "decode", decode: "original" }[trial.a];
    return {
      kind: "abx",
      clip: clipOf(trial.clip).name,
      seconds,
      ...system(trial, trial.decode),
      x: trial.x,
      answer: choice === "a" ? trial.a : other,
    };
  }

  report.Session = Session;
  report.listeningClips = data.clips;
}
