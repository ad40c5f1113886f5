// Numbers as the page writes them; the same rules as formats.py.

const MINUS = "\u2212";

const fixed = (value, digits = 3) => value.toFixed(digits).replace("-", MINUS);

const signed = (value, digits = 3) => {
  const text = fixed(value, digits);
  return value > 0 && Number(value.toFixed(digits)) !== 0 ? `+${text}` : text;
};

const scaled = (value, suffixes, join = "") => {
  let group = 0;
  while (group < suffixes.length - 1 && Number(value.toPrecision(3)) >= 1000) {
    value /= 1000;
    group += 1;
  }
  return Number(value.toPrecision(3)) + join + suffixes[group];
};

const short = (value) => scaled(value, ["", "k", "M", "B", "T", "Q"]);

const flops = (value) =>
  scaled(value, ["", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q"], " ") + "FLOPs";
