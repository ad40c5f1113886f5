// Cost of a student for the number of students that the slider says.

const startCost = (section) => {
  const { students } = section.querySelector("form").elements;
  const views = all(".cost-view", section);
  const choice = section.querySelector("select");

  const update = () => {
    const number = Number(students.value);
    section.querySelector("output").textContent = number;
    for (const view of views) {
      const plot = new Plot(view.querySelector("svg.cost-figure"));
      for (const end of ["x1", "x2"]) view.querySelector(".chosen").setAttribute(end, plot.px(number));
      const cost = JSON.parse(view.dataset.cost);
      const each = {
        plain: cost.training,
        kd: cost.training + cost.teacher_beside,
        miniplm: cost.training + cost.once / number,
      };
      for (const cell of all("[data-method]", view)) {
        cell.dataset.flops = each[cell.dataset.method];
        cell.textContent = flops(each[cell.dataset.method]);
      }
    }
  };

  for (const view of views) {
    const svg = view.querySelector("svg.cost-figure");
    const [, , floor, top] = new Plot(svg).y;
    svg.append(drawing("line", { class: "chosen", y1: floor, y2: top }));
  }
  const showView = () => {
    views.forEach((view, place) => view.classList.toggle("shown", place === Number(choice?.value ?? 0)));
  };
  choice?.addEventListener("change", showView);
  students.addEventListener("input", update);
  showView();
  update();
};
