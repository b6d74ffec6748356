"use strict";
/** What is heard in which order: clips, systems and their places, all decided by the seed. */
{
  const MOST_SYSTEMS = 7; // with the hidden reference and the anchor these are the keys 1 to 9

  const systemKey = ({ codec, setting }) => JSON.stringify([codec, setting]);

  /** Trials of one clip: the systems that fit into one trial are rated together, others in the next. */
  function mushraTrials(clip, random) {
    const systems = random.shuffled(clip.decodes.map((_, decode) => ({ role: "system", decode })));
    const count = Math.ceil(systems.length / MOST_SYSTEMS);
    return Array.from({ length: count }, (_, part) => ({
      kind: "mushra",
      clip: clip.number,
      stimuli: random.shuffled([
        { role: "reference" },
        { role: "anchor" },
        ...systems.filter((_, index) => index % count === part),
      ]),
    }));
  }

  /** Pairs of a clip and a system, the systems in turn, each with other clips. */
  function abxTrials(clips, random) {
    const bySystem = new Map();
    for (const clip of random.shuffled(clips)) {
      clip.decodes.forEach((decode, index) => {
        const trials = bySystem.get(systemKey(decode)) ?? [];
        bySystem.set(systemKey(decode), [...trials, { kind: "abx", clip: clip.number, decode: index }]);
      });
    }
    const queues = random
      .shuffled([...bySystem.values()])
      .map((trials, index) => [...trials.slice(index % trials.length), ...trials.slice(0, index % trials.length)]);
    const rounds = Math.max(0, ...queues.map((trials) => trials.length));
    return Array.from({ length: rounds }, (_, round) => queues.flatMap((trials) => trials[round] ?? [])).flat();
  }

  report.trials = {
    /** All trials that the clips allow. */
    count: (test, clips) =>
      test === "abx"
        ? clips.reduce((sum, clip) => sum + clip.decodes.length, 0)
        : clips.reduce((sum, clip) => sum + Math.ceil(clip.decodes.length / MOST_SYSTEMS), 0),

    /** A test ("mushra" or "abx") of `count` trials. */
    design(test, clips, seed, count) {
      const random = new report.Random(seed);
      if (test === "mushra")
        return random.shuffled(clips.flatMap((clip) => mushraTrials(clip, random))).slice(0, count);
      const side = () => ["original", "decode"][random.below(2)];
      const chosen = random.shuffled(abxTrials(clips, random).slice(0, count));
      return chosen.map((trial) => ({ ...trial, a: side(), x: side() }));
    },
  };
}
