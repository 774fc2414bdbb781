// What of the page somebody without a mouse must reach, in its order; and what only a mouse reaches.
(() => {
  const shown = (one) => one.checkVisibility({visibilityProperty: true}) && !one.closest("details:not([open]) > :not(summary)");
  const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")].filter((one) => one.tabIndex >= 0 && !one.disabled && shown(one));
  const faults = [];
  for (const one of document.querySelectorAll("body *")) {
    if (getComputedStyle(one).cursor === "pointer" && !one.closest("a[href], button, summary, label, select, input") && shown(one)) faults.push("reached by a mouse alone: " + one.outerHTML.slice(0, 120));
    if (one.scrollWidth > one.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(one).overflowX) && shown(one) && !one.matches("textarea, input") && !(one.tabIndex >= 0 && one.hasAttribute("tabindex")) && !one.querySelector("a, button")) faults.push("scrolled by a mouse alone: " + one.outerHTML.slice(0, 120));
  }
  window.way = {};
  return {main: all.filter((one) => !one.closest("main")).length, from: all.indexOf(document.activeElement) + 1, whats: all.map((one) => one.cloneNode(false).outerHTML), faults};
})()
