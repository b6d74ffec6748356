"use strict";
/** Elements made from values. Text is always set as text, never parsed: names of files come from anywhere. */
{
  const SVG = "http://www.w3.org/2000/svg"; // the name of the language; nothing is fetched

  function fill(element, properties, children) {
    for (const [name, value] of Object.entries(properties)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  report.dom = {
    /** An HTML element: attributes and listeners ("onclick") by name, then children, which may be text or lists. */
    make: (name, properties = {}, ...children) => fill(document.createElement(name), properties, children),

    /** An SVG element, as `make`. */
    draw: (name, properties = {}, ...children) => fill(document.createElementNS(SVG, name), properties, children),

    /** The element with an id. */
    find: (id) => document.getElementById(id),

    /** A labelled choice. `options` are [value, text]; `change` gets the new value. */
    choice(label, options, value, change) {
      const { make } = report.dom;
      const items = options.map(([key, text]) => make("option", { value: key, selected: key === value }, text));
      const select = make("select", { onchange: () => change(select.value) }, items);
      return make("label", { class: "field" }, make("span", {}, label), select);
    },

    /** Whether keys typed now belong to a control that takes text or arrows. */
    takesKeys: (element) => element.matches("input, select, textarea, [contenteditable]"),
  };
}
