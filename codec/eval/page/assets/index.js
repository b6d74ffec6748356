"use strict";
/** Fill the sections of the report. */
report.showBands();
report.showMeans();
report.showCurves();
report.showBdRates();
report.showRobustness();
report.showUsage();
report.showRows();
report.showClips();
for (const link of document.querySelectorAll("nav a"))
  link.hidden = document.querySelector(link.getAttribute("href")).hidden;
document.documentElement.dataset.ready = "";
