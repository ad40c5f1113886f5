// Line charts: the values of all lines at the measured place nearest to the pointer.

const readSeries = (svg) => {
  const series = new Map();
  for (const mark of all(".point", svg)) {
    const { model, x, y } = mark.dataset;
    if (!series.has(model)) series.set(model, { mark, points: [] });
    series.get(model).points.push({ x: Number(x), y: Number(y) });
  }
  return series;
};

// Between two measured places, off the straight line; null before the first and after the last.
const valueAt = (points, x) => {
  const next = points.findIndex((point) => point.x >= x);
  if (next < 0 || (next === 0 && points[0].x > x)) return null;
  if (points[next].x === x) return points[next].y;
  const [before, after] = [points[next - 1], points[next]];
  return before.y + ((x - before.x) / (after.x - before.x)) * (after.y - before.y);
};

const nearest = (values, distance) =>
  values.reduce((best, value) => (distance(value) < distance(best) ? value : best));

const startReadout = (svg) => {
  const plot = new Plot(svg);
  const series = readSeries(svg);
  const [, , left, right] = plot.x;
  const [, , floor, top] = plot.y;
  const rule = drawing("line", { class: "rule off", y1: floor, y2: top });
  svg.append(rule);
  const axis = svg.closest("[data-axis]")?.dataset.axis ?? "tokens";
  const said = { tokens: (x) => `${short(x)} tokens`, flops, students: (x) => `${x} students` }[axis];
  const value = axis === "students" ? flops : svg.classList.contains("gap") ? signed : fixed;
  let shown = null;

  const visible = () => [...series].filter(([, { mark }]) => !mark.classList.contains("off"));

  const places = () =>
    [...new Set(visible().flatMap(([, { points }]) => points.map((point) => point.x)))]
      .filter((x) => x >= plot.x[0] && x <= plot.x[1])
      .sort((a, b) => a - b);

  const show = (x, height) => {
    shown = x;
    const rows = visible()
      .map(([model, { mark, points }]) => ({ model, mark, y: valueAt(points, x) }))
      .filter((row) => row.y !== null)
      .sort((a, b) => a.y - b.y);
    const list = make("div", "values");
    for (const { model, mark, y: at } of rows) {
      const colour = [...mark.classList].find((name) => name !== "point");
      list.append(make("span", colour, model), make("span", "value", value(at)));
    }
    for (const end of ["x1", "x2"]) rule.setAttribute(end, plot.px(x));
    rule.classList.remove("off");
    showTip(plot.outside(plot.px(x), height), [make("b", "", said(x)), list]);
  };

  const hide = () => {
    shown = null;
    rule.classList.add("off");
    hideTip();
  };

  const follow = (event) => {
    const { x, y } = plot.inside(event.clientX, event.clientY);
    const known = places();
    if (known.length === 0 || x < left - 8 || x > right + 8) hide();
    else show(nearest(known, (value) => Math.abs(plot.px(value) - x)), y);
  };

  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow); // a finger does not hover
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const known = places();
    if (!step || known.length === 0) return;
    event.preventDefault();
    const next = shown === null ? (step > 0 ? 0 : known.length - 1) : known.indexOf(shown) + step;
    show(known[Math.max(0, Math.min(next, known.length - 1))], top);
  });
  svg.setAttribute("tabindex", "0");
};
