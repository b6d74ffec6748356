/** Files beside the page, as scripts: a page from disk may load these, but may read no file. */
import { PageError } from "./page_error.js";

const waiting = new Map();

/** What each of these scripts calls: `value` is base64 of gzip, or an object. */
export function put(key, value) {
  waiting.get(key)?.(value);
  waiting.delete(key);
}

/** The value of the script `key`.js. */
export function load(key) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(key, (value) => {
      script.remove();
      resolve(value);
    });
    script.addEventListener("error", () => {
      reject(new PageError(`${key}.js is missing beside this page: write the page again with codec-export --web.`));
    });
    script.src = `${key}.js`;
    document.head.append(script);
  });
}
