// The sampled rows as objects, in the order of the scatter's marks.

const readRows = () => {
  const sampled = data("row-data");
  if (!sampled) return null;
  const rows = sampled.rows.map(([id, domain, source, teacher, reference, kept, text], number) => ({
    number,
    id,
    domain: sampled.domains[domain],
    source,
    teacher,
    reference,
    score: reference - teacher,
    kept: [...kept].map((each) => each === "1"),
    text,
  }));
  return { ...sampled, rows };
};

const lossesOf = (row) => `teacher ${fixed(row.teacher)}, reference ${fixed(row.reference)}`;

// Whether a row passes a choice such as "kept:0", "left:2" or "" for all.
const passes = (row, choice) => {
  if (!choice) return true;
  const [what, number] = choice.split(":");
  return row.kept[Number(number)] === (what === "kept");
};

const keptBy = (sampled, row) => {
  const names = sampled.selections.filter((_, number) => row.kept[number]);
  if (names.length === 0) return "left out";
  return names.length > 3 ? `kept by ${names.length} of ${row.kept.length} selections` : `kept by ${names.join(", ")}`;
};
