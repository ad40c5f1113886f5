// A link into something folded unfolds it.

const startAnchors = () => {
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (const folded of [target.closest("details"), target.querySelector(":scope > details")]) {
      if (folded) folded.open = true;
    }
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", unfold);
  unfold();
};
