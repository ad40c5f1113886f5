// The browser of examples: search, domain, kept or not, a band of scores, pages of ten.

const PAGE_ROWS = 10;
const FOLDED = 700; // characters that are shown unfolded

const startExamples = (section, sampled) => {
  const form = section.querySelector("form");
  const { search, domain, kept, low, high, order } = form.elements;
  const rows = sampled.rows.filter((row) => row.text !== null);
  const scores = rows.map((row) => row.score).sort((a, b) => a - b);
  const [list, count, pages] = [".found", ".count", ".pages"].map((name) => section.querySelector(name));
  let [found, page] = [rows, 0];

  // The sliders go by rank, so that each step leaves out as many rows.
  const scoreAt = (slider) => scores[Math.round((slider.value / 100) * (scores.length - 1))];

  const orders = {
    high: (a, b) => b.score - a.score,
    low: (a, b) => a.score - b.score,
    sample: (a, b) => a.number - b.number,
  };

  const holds = (row, words) => {
    const text = `#${row.id} ${row.domain} ${row.source} ${row.text}`.toLowerCase();
    return words.every((word) => (/^#\d+$/.test(word) ? word === `#${row.id}` : text.includes(word)));
  };

  // The selection that the rows are looked at by.
  const chosen = () => Number(kept.value.split(":")[1] ?? 0);

  const unfolder = (text) => {
    const button = make("button", "more", "Show more");
    button.type = "button";
    button.addEventListener("click", () => {
      button.textContent = text.classList.toggle("folded") ? "Show more" : "Show less";
    });
    return button;
  };

  const card = (row) => {
    const article = make("article", row.kept[chosen()] ? "example top" : "example");
    const about = make("p", "about");
    about.append(
      make("b", "score", signed(row.score)),
      make("span", "", lossesOf(row)),
      make("span", "domain", row.domain),
      make("span", "source", `#${row.id} ${row.source}`),
    );
    about.append(make("span", "is-kept", keptBy(sampled, row)));
    const text = make("div", "text folded", row.text);
    article.append(about, text);
    if (row.text.length > FOLDED || row.text.split("\n").length > 9) article.append(unfolder(text));
    else text.classList.remove("folded");
    return article;
  };

  const draw = () => {
    const start = page * PAGE_ROWS;
    list.replaceChildren(...found.slice(start, start + PAGE_ROWS).map(card));
    const last = Math.min(start + PAGE_ROWS, found.length);
    count.textContent = found.length
      ? `${start + 1}–${last} of ${found.length} rows (${rows.length} in the sample)`
      : `no row of the ${rows.length} in the sample`;
    const [back, on] = all("button", pages);
    back.disabled = page === 0;
    on.disabled = last >= found.length;
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [from, to] = [scoreAt(low), scoreAt(high)].sort((a, b) => a - b);
    section.querySelector(".band").textContent = `${fixed(from, 2)} to ${fixed(to, 2)}`;
    found = rows
      .filter((row) => !domain.value || row.domain === domain.value)
      .filter((row) => passes(row, kept.value) && row.score >= from && row.score <= to)
      .filter((row) => holds(row, words))
      .sort(orders[order.value]);
    page = 0;
    draw();
  };

  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  all("button", pages).forEach((button, place) => {
    button.addEventListener("click", () => {
      page += place ? 1 : -1;
      draw();
      count.scrollIntoView({ block: "nearest" });
    });
  });
  filter();

  // Shows one row by itself.
  return (row) => {
    form.reset();
    search.value = `#${row.id}`;
    filter();
    section.scrollIntoView();
  };
};
