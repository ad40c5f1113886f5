// Where values lie in a drawing, from the frame that it carries, and back.

class Plot {
  constructor(svg) {
    this.svg = svg;
    const { x, y } = JSON.parse(svg.dataset.frame);
    [this.x, this.y] = [x, y];
  }

  // From a value to user units of the drawing.
  static place([low, high, start, end, log], value) {
    const share = log
      ? Math.log(value / low) / Math.log(high / low)
      : (value - low) / (high - low);
    return start + share * (end - start);
  }

  px(value) {
    return Plot.place(this.x, value);
  }

  py(value) {
    return Plot.place(this.y, value);
  }

  // From a place in the window to user units.
  inside(clientX, clientY) {
    return new DOMPoint(clientX, clientY).matrixTransform(this.svg.getScreenCTM().inverse());
  }

  // From user units to a place in the window.
  outside(x, y) {
    return new DOMPoint(x, y).matrixTransform(this.svg.getScreenCTM());
  }
}
