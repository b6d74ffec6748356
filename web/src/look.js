/** The look that this page shares with the report of codec-eval: colours, elements, pictures of spectra. */
import "./namespace.js";
import "../../codec/eval/page/assets/dom.js";
import "../../codec/eval/page/assets/format.js";
import "../../codec/eval/page/assets/theme.js";
import "../../codec/eval/page/assets/colormap.js";
import "../../codec/eval/page/assets/fft.js";
import "../../codec/eval/page/assets/spectrum.js";

export const { dom, format, colormap, spectrum } = globalThis.report;
