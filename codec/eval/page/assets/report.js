"use strict";
/** The one global of the page. Every script adds a part to it, and uses those of the scripts before it. */
const report = {};
