/** What a visitor can cause or mend: its message is one line for the page. */
export class PageError extends Error {}
