/** The global that the scripts of the report add their parts to. */
globalThis.report = {};
