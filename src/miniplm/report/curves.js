// Curves: which axis they are drawn over, and which models are shown.

const startCurves = (section) => {
  const chosen = (name) => section.querySelector(`input[name="${name}"]:checked`).value;

  const showVariant = () => {
    for (const variant of all(".variant", section)) {
      const { axis, scale } = variant.dataset;
      variant.classList.toggle("shown", axis === chosen("axis") && scale === chosen("scale"));
    }
  };

  const showModels = () => {
    for (const box of all("input[data-model]", section)) {
      for (const part of all("svg [data-model]", section)) {
        if (part.dataset.model === box.dataset.model) part.classList.toggle("off", !box.checked);
      }
    }
  };

  const bringOut = (model) => {
    section.classList.toggle("dim", model !== null);
    for (const part of all("svg [data-model]", section)) {
      part.classList.toggle("lit", part.dataset.model === model);
    }
  };

  section.addEventListener("change", (event) => {
    if (event.target.dataset.model === undefined) showVariant();
    else showModels();
  });
  for (const button of all("button[data-show]", section)) {
    button.addEventListener("click", () => {
      for (const box of all("input[data-model]", section)) box.checked = button.dataset.show === "all";
      showModels();
    });
  }
  for (const entry of all(".legend li", section)) {
    const { model } = entry.querySelector("input")?.dataset ?? {};
    if (model === undefined) continue;
    entry.addEventListener("pointerenter", () => bringOut(model));
    entry.addEventListener("pointerleave", () => bringOut(null));
  }
  showVariant();
};
