// One box beside the pointer that says what is there.

const tip = make("div", "tip");

const showTip = (place, children) => {
  tip.replaceChildren(...children);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - width - 8;
  const left = place.x + 16 > room ? place.x - width - 16 : place.x + 16;
  const top = Math.min(place.y - 20, window.innerHeight - height - 8);
  tip.style.left = `${Math.max(8, Math.min(left, room))}px`;
  tip.style.top = `${Math.max(8, top)}px`;
};

const hideTip = () => {
  tip.hidden = true;
};

const startTip = () => {
  hideTip();
  tip.setAttribute("role", "status");
  document.body.append(tip);
  window.addEventListener("scroll", hideTip, { passive: true });
  window.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
};
