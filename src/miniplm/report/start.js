// Start whatever of the page is there.

document.documentElement.classList.add("js");
startTip();
startTheme();
startAnchors();
for (const section of all(".curves")) startCurves(section);
for (const svg of all("svg.lines")) startReadout(svg);
const sampled = readRows();
if (sampled) {
  const examples = document.getElementById("examples");
  const look = examples ? startExamples(examples, sampled) : () => {};
  startScatter(document.getElementById("scatter"), sampled, look);
}
const amortised = document.getElementById("amortised");
if (amortised) startCost(amortised);
