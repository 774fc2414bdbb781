// Looks at what has the focus now, after a key, and returns what it is and what somebody without a mouse would miss about it. The keeper of the way
// (window.way) knows the stop before, and how all looked without the focus.
(() => {
  const at = document.activeElement, faults = [];
  if (!at || at === document.body || at === document.documentElement) return {what: "", faults};
  const way = window.way ??= {};
  const what = at.cloneNode(false).outerHTML;
  const say = (words) => faults.push(words + ": " + what);
  const box = at.getBoundingClientRect(), style = getComputedStyle(at);

  // It can be seen: the ring, which stands out against what it is painted on, is whole, and no other thing lies over it.
  const parse = (text) => { const m = text.match(/[\d.]+/g) || [0, 0, 0, 0]; return [+m[0], +m[1], +m[2], m.length > 3 ? +m[3] : 1]; };
  const light = (c) => { const v = c.slice(0, 3).map((x) => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const ground = (one) => { for (; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const wide = parseFloat(style.outlineWidth), off = parseFloat(style.outlineOffset), over = wide + off;
  if (style.outlineStyle === "none" || wide < 2 || parse(style.outlineColor)[3] < 1) say("the focus is not seen");
  else {
    const got = ratio(parse(style.outlineColor), ground(off < 0 ? at : at.parentElement));
    if (got < 3) say("the focus is not seen: contrast " + got.toFixed(2) + " of 3");
    for (let one = at.parentElement; one && one !== document.body; one = one.parentElement) {
      if (getComputedStyle(one).overflowX === "visible") continue;
      const edge = one.getBoundingClientRect();
      if (edge.left > box.left - over + 1 || one.scrollWidth <= one.clientWidth + 1 && edge.right < box.right + over - 1) say("the ring is cut off");
    }
  }
  if (box.width < 1 || box.height < 1 || style.visibility === "hidden") say("it has no size");
  const seen = at.getClientRects()[0] || box, x = seen.left + Math.min(seen.width / 2, 20), y = Math.max(seen.top, 0) + Math.min(seen.height / 2, 20), top = document.elementFromPoint(x, y);
  if (!top || !(at.contains(top) || top.contains(at) && at.matches(".scroll, main, svg"))) say("it is out of sight");

  // A key works on it as everybody expects.
  if (!at.matches("a[href], button, input, select, textarea, summary") && !(at.matches(".scroll, [tabindex='-1']") && (at.tabIndex < 0 || at.getAttribute("role") && at.getAttribute("aria-label")))) say("no key is known to work on it");

  // The order: of the page, and never back up, as people read.
  const group = (one) => one.closest(".groups > li, .facts > div") || one; // stand side by side, each read to its end
  if (way.last && way.last.isConnected && (way.back || !at.matches(".skip"))) { // the first comes after the last again
    const [first, second] = way.back ? [at, way.last] : [way.last, at];
    if (!(first.compareDocumentPosition(second) & Node.DOCUMENT_POSITION_FOLLOWING)) say("out of order");
    const one = group(first).getBoundingClientRect(), other = group(second).getBoundingClientRect();
    if (!group(first).contains(second) && !first.contains(second) && other.bottom <= one.top + 1) say("the focus jumps up");
  }
  way.last = at;
  return {what, faults};
})()
