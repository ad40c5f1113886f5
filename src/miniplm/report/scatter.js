// The scatter: domains are brought out by its legend, a row is told under the pointer.

const startScatter = (section, sampled, look) => {
  const svg = section.querySelector("svg.scatter");
  const plot = new Plot(svg);
  const marks = all(".dot", svg);
  const buttons = all("button[data-domain]", section);
  const choice = section.querySelector("select");
  const ring = drawing("circle", { class: "ring off", r: 7 });
  svg.append(ring);
  let lit = sampled.rows;
  let under = null;

  const update = () => {
    const pressed = buttons.filter((each) => each.getAttribute("aria-pressed") === "true");
    const domains = new Set(pressed.map((each) => each.dataset.domain));
    const wanted = (row) =>
      (domains.size === 0 || domains.has(row.domain)) && passes(row, choice.value);
    lit = sampled.rows.filter(wanted);
    marks.forEach((mark, number) => mark.classList.toggle("grey", !wanted(sampled.rows[number])));
    for (const row of lit) marks[row.number].parentNode.append(marks[row.number]);
    const number = choice.value ? Number(choice.value.split(":")[1]) : 0;
    for (const part of all(".cut", svg)) {
      part.classList.toggle("off", part.dataset.selection !== sampled.selections[number]);
    }
    section.querySelector("output").textContent = `${lit.length.toLocaleString("en")} rows`;
  };

  const tell = (row, place) => {
    showTip(place, [
      make("b", "", `${row.domain}, row ${row.id}`),
      make("div", "", `${lossesOf(row)}, score ${signed(row.score)}`),
      make("div", "", keptBy(sampled, row)),
      make("div", "text", row.text ? row.text.slice(0, 160) : ""),
    ]);
  };

  const rowNear = (event) => {
    const { x, y } = plot.inside(event.clientX, event.clientY);
    const distance = (row) => Math.hypot(plot.px(row.reference) - x, plot.py(row.teacher) - y);
    const row = lit.length ? nearest(lit, distance) : null;
    return row && distance(row) < 12 ? row : null;
  };

  const follow = (event) => {
    under = rowNear(event);
    ring.classList.toggle("off", !under);
    if (!under) return hideTip();
    ring.setAttribute("cx", plot.px(under.reference));
    ring.setAttribute("cy", plot.py(under.teacher));
    return tell(under, { x: event.clientX, y: event.clientY });
  };

  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow); // a finger does not hover
  svg.addEventListener("pointerleave", () => {
    ring.classList.add("off");
    hideTip();
  });
  svg.addEventListener("click", (event) => {
    under = rowNear(event);
    if (under?.text) look(under);
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!pressed));
      update();
    });
  }
  choice.addEventListener("change", update);
  update();
};
