"use strict";
/** The pages of a listening test: start, trials, end. No name of a codec is shown on any of them. */
{
  const { make, find, choice } = report.dom;
  const { Session, listeningClips: clips } = report;
  const KINDS = { mushra: report.mushra, abx: report.abx };
  const MOST = { mushra: 10, abx: 16 }; // trials, unless the listener wants others: about 20 minutes
  const IDLE = { key: () => false, release: () => {}, redraw: () => {} };
  let page = IDLE;

  /** Show another page and move the focus to its heading. */
  function show(title, ...content) {
    const heading = make("h1", { tabindex: "-1" }, title);
    find("main").replaceChildren(heading, ...content.flat().filter(Boolean));
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function volumeControl(value, change) {
    const slider = make("input", {
      type: "range",
      min: "0",
      max: "1",
      step: "0.01",
      value: String(value),
      oninput: () => change(Number(slider.value)),
    });
    return make("label", { class: "field volume" }, make("span", {}, "Volume"), slider);
  }

  function instructions() {
    return make(
      "div",
      { class: "instructions" },
      make(
        "p",
        {},
        "Use good headphones in a quiet room. Play a sample, set a comfortable volume, and leave it there.",
      ),
      make(
        "p",
        {},
        "Rating: give each sound a score against the reference, 100 for no difference. One of the sounds is the reference itself, one is a poor sound on purpose. ABX: X is the same as A or as B; say which, and guess if you hear no difference.",
      ),
      make(
        "p",
        {},
        "The sounds of a trial are matched in loudness and run in step, so you can switch while they play, and repeat a part. The first trial is for practice and does not count. Your answers stay in this browser until you save them at the end.",
      ),
    );
  }

  /** A button that plays the original of the first clip, for the volume. */
  function sampleButton(volume) {
    let mixer = null;
    let busy = false; // clicks that come before the sample is loaded and plays are ignored
    const button = make("button", { type: "button" }, "Play a sample");
    button.addEventListener("click", async () => {
      if (busy) return;
      busy = true;
      if (!mixer) {
        const { original, rate } = await report.listeningSignals(clips[0].number);
        mixer = new report.Mixer([original], rate, volume());
      }
      await mixer.toggle();
      busy = false;
      button.textContent = mixer.isPlaying ? "Stop the sample" : "Play a sample";
    });
    return { button, set: (value) => mixer && (mixer.volume = value), release: () => mixer?.release() };
  }

  function startPage() {
    let [test, volume] = ["mushra", 0.5];
    const most = () => report.trials.count(test, clips);
    const listener = make("input", { required: true, maxlength: "40", autocomplete: "off", id: "listener" });
    const count = make("input", { type: "number", min: "1", required: true, id: "count" });
    const seed = make("input", {
      type: "number",
      min: "0",
      max: "999999999",
      required: true,
      id: "seed",
      value: String(Math.floor(Math.random() * 1e6)),
    });
    const fit = () => {
      count.max = String(most());
      count.value = String(Math.min(MOST[test], most()));
    };
    const kind = choice(
      "Test",
      [
        ["mushra", "Rating of several sounds (MUSHRA)"],
        ["abx", "Comparison of two sounds (ABX)"],
      ],
      test,
      (value) => {
        test = value;
        fit();
      },
    );
    const sample = sampleButton(() => volume);
    const field = (label, input, hint) =>
      make("label", { class: "field" }, make("span", {}, label), input, hint ? make("small", {}, hint) : null);
    const begin = (event) => {
      event.preventDefault();
      run(Session.begin(test, listener.value.trim(), Number(seed.value), Number(count.value), volume));
    };
    const form = make(
      "form",
      { onsubmit: begin, class: "start" },
      kind,
      field("Your name or number", listener, "Stands in the file of answers."),
      field("Trials", count),
      field("Seed", seed, "The same seed gives the same order."),
      make(
        "div",
        { class: "controls" },
        volumeControl(volume, (value) => {
          volume = value;
          sample.set(value);
        }),
        sample.button,
      ),
      make("button", { class: "primary" }, "Begin"),
    );
    fit();
    page.release();
    page = { ...IDLE, release: sample.release };
    show(
      "Listening test",
      instructions(),
      clips.length ? form : make("p", { class: "empty" }, "This report holds no audio."),
    );
  }

  function discardButton(session) {
    const discard = () => {
      session.forget();
      startPage();
    };
    return make("button", { type: "button", onclick: discard }, "Discard these answers and begin anew");
  }

  function resumePage(session) {
    const { at, of } = session.progress;
    const go = make("button", { type: "button", class: "primary", onclick: () => run(session) }, "Go on");
    const text = session.trial
      ? `A test of ${session.listener} was interrupted: ${Math.max(0, at - 1)} of ${of} trials are answered.`
      : `The answers of ${session.listener} are complete.`;
    show("Listening test", make("p", {}, text), make("div", { class: "controls" }, go, discardButton(session)));
  }

  function run(session) {
    page.release();
    page = IDLE;
    if (session.trial) trialPage(session, session.trial);
    else endPage(session);
  }

  async function trialPage(session, trial) {
    show("Loading…");
    let signals;
    try {
      signals = await report.listeningSignals(trial.clip);
    } catch (error) {
      show("A clip can't be loaded", make("p", { role: "alert" }, error.message));
      return;
    }
    const kind = KINDS[trial.kind];
    const mixer = new report.Mixer(kind.signals(signals, trial), signals.rate, session.volume);
    const loop = report.looping(mixer, signals.original.channels, signals.rate);
    const began = performance.now();
    const status = make("p", { class: "status", role: "status" });
    const next = make("button", { type: "button", class: "primary", onclick: () => finish() }, "Next");
    const changed = () => {
      session.draft = controls.answer();
      session.keep();
      status.textContent = controls.missing() ?? "";
      next.disabled = controls.missing() !== null;
    };
    const controls = kind.create(trial, session.draft, (index) => mixer.select(index), changed);
    const play = make("button", { type: "button", class: "play", onclick: () => toggle() }, "Play");
    const toggle = async () => {
      await mixer.toggle();
      play.textContent = mixer.isPlaying ? "Pause" : "Play";
    };
    const finish = () => {
      if (controls.missing()) return;
      session.answer({ ...controls.answer(), seconds: Math.round((performance.now() - began) / 100) / 10 });
      run(session);
    };
    const { at, of } = session.progress;
    const name = trial.isPractice ? "Practice; this does not count" : `Trial ${at} of ${of}`;
    const progress = make(
      "div",
      { class: "progress" },
      make("span", {}, name),
      make("progress", { max: String(of), value: String(Math.max(0, at - 1)), "aria-label": "Trials answered" }),
    );
    const volume = volumeControl(session.volume, (value) => {
      session.volume = mixer.volume = value;
      session.keep();
    });
    changed();
    show(
      kind.title,
      progress,
      make("p", { class: "help" }, kind.help, " [ and ] set the part that repeats."),
      controls.element,
      loop.element,
      make("div", { class: "controls foot" }, play, volume, next, status),
    );
    loop.follow();
    page = {
      key: (event) => trialKey(event, { toggle, finish, controls, loop }),
      release: () => mixer.release(),
      redraw: loop.redraw,
    };
  }

  /** True if the key means something in a trial. Buttons keep their own keys, but a sound that was chosen keeps none. */
  function trialKey({ key, target }, { toggle, finish, controls, loop }) {
    const isButton = target.matches("button:not(.stimulus, .decision)");
    if (key === " " && !isButton) toggle();
    else if (key === "Enter" && !isButton) finish();
    else return controls.key(key) || loop.key(key);
    return true;
  }

  function endPage(session) {
    const results = session.results();
    const text = JSON.stringify(results, null, 1);
    const plain = session.listener.replace(/[^\p{L}\p{N}]+/gu, "-");
    const save = make(
      "a",
      {
        class: "primary",
        download: `listening-${session.test}-${plain}-${session.seed}.json`,
        href: URL.createObjectURL(new Blob([text], { type: "application/json" })),
      },
      "Save the answers",
    );
    show(
      "Thank you",
      make(
        "p",
        {},
        `${results.trials.length} trials are answered. Save the file, and give it to the person who runs the test.`,
      ),
      make("div", { class: "controls" }, save, discardButton(session)),
    );
  }

  document.addEventListener("keydown", (event) => {
    const takesText = event.target.matches("input:not([type=range]), select");
    if (event.ctrlKey || event.metaKey || event.altKey || takesText) return;
    if (page.key(event)) event.preventDefault();
  });
  document.addEventListener("themechange", () => page.redraw());
  const kept = Session.resume();
  if (kept) resumePage(kept);
  else startPage();
  document.documentElement.dataset.ready = "";
}
