// Looks at a page as it is shown, and returns what people would stumble over.
(() => {
  const found = [];
  const say = (what, one) => found.push(what + ": " + (one.outerHTML || String(one)).replace(/\s+/g, " ").slice(0, 160));
  const shown = (one) => one.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !one.closest(".hidden, .skip");

  // Contrast, by WCAG 2.2: 4.5 to 1, and 3 to 1 for what is large.
  const parse = (text) => { const m = text.match(/[\d.]+/g) || [0, 0, 0, 0]; return [+m[0], +m[1], +m[2], m.length > 3 ? +m[3] : 1]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => { const v = c.slice(0, 3).map((x) => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const ground = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), canvas);
  };
  const enough = (style) => parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && +style.fontWeight >= 700 ? 3 : 4.5;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = new Set();
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || seen.has(one) || one.matches("script, style, title, option") || one.closest(":disabled") || !shown(one)) continue;
    seen.add(one);
    const style = getComputedStyle(one);
    let back = ground(one), front = parse(style.color);
    if (one instanceof SVGElement) {
      front = parse(style.fill);
      const box = one.getBoundingClientRect(), svg = one.ownerSVGElement;
      for (const rect of svg.querySelectorAll("rect")) { // what is painted below it
        const r = rect.getBoundingClientRect(), x = box.left + Math.min(8, box.width / 2), y = box.top + box.height / 2;
        if (r.left <= x && x <= r.right && r.top <= y && y <= r.bottom && rect.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING) {
          const painted = parse(getComputedStyle(rect).fill);
          painted[3] *= rect.matches(".inforce") ? 1 : +getComputedStyle(rect).opacity; // it glows
          back = over(painted, back);
        }
      }
    }
    const got = ratio(over(front, back), back);
    if (got < enough(style)) say("contrast " + got.toFixed(2) + " of " + enough(style), one);
  }
  // What a field or a mark is bounded by must be seen: 3 to 1.
  for (const one of document.querySelectorAll("input:not([type=hidden], [type=checkbox]), select, textarea")) {
    if (!shown(one)) continue;
    const got = ratio(over(parse(getComputedStyle(one).borderTopColor), ground(one.parentElement)), ground(one.parentElement));
    if (got < 3) say("border " + got.toFixed(2) + " of 3", one);
  }
  for (const one of document.querySelectorAll(".mark i, .counts i, .condition rect, .timeline rect, .point, .curve, .allowed")) {
    if (!shown(one)) continue;
    const style = getComputedStyle(one), svg = one instanceof SVGElement, c = parse(svg ? (style.fill === "none" || one.matches(".allowed") ? style.stroke : style.fill) : style.backgroundColor);
    if (svg && !one.matches(".inforce")) c[3] *= +style.opacity;
    const back = ground(svg ? one.ownerSVGElement.parentElement : one.parentElement), got = ratio(over(c, back), back);
    if (got < 3) say("mark " + got.toFixed(2) + " of 3", one);
  }

  // Size: nothing wider than the window, nothing over the edge of its box, targets of a finger.
  if (document.documentElement.scrollWidth > innerWidth + 1) say("wider than the window", document.documentElement.scrollWidth + " of " + innerWidth);
  if (innerWidth <= 640) for (const one of document.querySelectorAll("body *")) { // the page scrolls down already; only a picture may scroll sideways too
    if (one.scrollWidth > one.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(one).overflowX) && shown(one) && !one.querySelector("svg[role=img]")) say("scrolls in two directions", one);
  }
  for (const one of document.querySelectorAll(".card, .banner, .tiles a, button, .button, .pill, dd, td, h1, h2, h3, label")) {
    if (shown(one) && one.scrollWidth > one.clientWidth + 2 && one.clientWidth > 0 && !one.querySelector(".scroll") && getComputedStyle(one).display !== "inline") say("text runs over its edge, " + one.scrollWidth + " in " + one.clientWidth, one);
  }
  for (const one of document.querySelectorAll("td[data-l]")) { // on a phone its name stands beside it
    const name = getComputedStyle(one, "::before");
    if (shown(one) && name.content !== "none" && parseFloat(name.height) > one.clientHeight + 1) say("a name runs over its edge", one);
  }
  for (const one of document.querySelectorAll("button, .button, a.halt, input:not([type=hidden]), select")) {
    const box = one.getBoundingClientRect();
    if (shown(one) && box.height < 24 && one.type !== "checkbox") say("lower than 24 pixels", one);
  }

  // Keyboard: in the order of the page, and nothing that only a mouse reaches.
  for (const one of document.querySelectorAll("[tabindex]")) if (one.tabIndex > 0) say("out of order", one);
  for (const one of document.querySelectorAll(".scroll")) if (one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0 && !one.querySelector("a, button")) say("scrolls with a mouse alone", one);
  for (const one of document.querySelectorAll("[onclick], [role=button]:not(button)")) say("no button", one);

  // Structure.
  const ids = new Set();
  for (const one of document.querySelectorAll("[id]")) { if (ids.has(one.id)) say("two of this name", one); ids.add(one.id); }
  for (const one of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(one.getAttribute("aria-labelledby"))) say("named by nothing", one);
  if (document.querySelectorAll("h1").length !== 1) say("headings of the first level", document.querySelectorAll("h1").length);
  let level = 1;
  for (const one of document.querySelectorAll("h1, h2, h3")) { if (+one.localName[1] > level + 1) say("a level of headings is left out", one); level = +one.localName[1]; }
  for (const one of document.querySelectorAll("table")) if (!one.caption) say("a table without a caption", one);
  for (const one of document.querySelectorAll("th:not([scope])")) say("a heading of nothing", one);
  for (const one of document.querySelectorAll("td:not([data-l=why])")) if (/\b\d\d:\d\d:\d\d\b(?! UTC)/.test(one.textContent)) {
    const head = one.closest("table").querySelectorAll("thead th")[one.cellIndex];
    if (!head || !head.textContent.includes("UTC")) say("a time without a zone", one);
  }
  for (const one of document.querySelectorAll("dd, .lead, .banner, h2 + p")) if (/\b\d\d:\d\d:\d\d\b(?! UTC)/.test(one.textContent)) say("a time without a zone", one);
  for (const one of document.querySelectorAll("dd, p, li, h1, h2, caption")) if (!one.textContent.trim() && shown(one) && one.id !== "said" && !one.querySelector("img, svg, input")) say("empty", one);
  for (const one of document.querySelectorAll("dd, p, td, h1, h2, caption, small")) if (/\b1 (hosts|runs|drills|services|lines|entries)\b/.test(one.textContent)) say("one of many", one);
  return found;
})()
