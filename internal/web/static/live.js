"use strict";
// Keeps the moving parts of a page up to date. Without it a page is whole, and as old as its loading.
(() => {
  if (!document.body.hasAttribute("data-live") || !window.EventSource) return;
  const stand = document.getElementById("stand"), said = document.getElementById("said");
  const put = (id, html) => {
    const place = document.getElementById(id);
    if (!place || place.dataset.was === html) return;
    // What has the focus keeps it, and what was scrolled stays where it was, for those who work without a mouse.
    const name = (one) => one.getAttribute("href") || one.getAttribute("aria-label") || one.textContent;
    const ways = "a, button, .scroll[tabindex]", active = document.activeElement;
    const held = place.contains(active) && active.matches(ways) ? name(active) : null;
    const moved = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    place.innerHTML = html;
    place.dataset.was = html;
    [...place.querySelectorAll(".scroll")].forEach((one, i) => { if (moved[i]) one.scrollLeft = moved[i]; });
    if (held) for (const one of place.querySelectorAll(ways)) if (name(one) === held) { one.focus({preventScroll: true}); break; }
  };
  const source = new EventSource(location.pathname + location.search);
  source.addEventListener("parts", (event) => {
    const parts = JSON.parse(event.data);
    put("bar", parts.bar);
    put("live", parts.live);
    const words = document.querySelector("#live [data-said]");
    if (words && said.textContent !== words.dataset.said) said.textContent = words.dataset.said;
    if (document.querySelector("#live [data-done]")) for (const form of document.querySelectorAll("form.stop")) form.remove();
    document.body.dataset.at = String(Date.now());
    stand.textContent = "This page keeps itself up to date.";
    document.body.classList.remove("stale");
  });
  source.addEventListener("over", () => { source.close(); location.reload(); });
  source.onerror = () => {
    document.body.classList.add("stale");
    stand.textContent = "The server does not answer: what is shown may be old.";
  };
})();
