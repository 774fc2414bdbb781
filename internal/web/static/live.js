"use strict";
// Keeps the moving parts of a page up to date. Without it a page is whole, and as old as its loading.
(() => {
  if (!document.body.hasAttribute("data-live") || !window.EventSource) return;
  const stand = document.getElementById("stand"), said = document.getElementById("said");
  const put = (id, html) => {
    const place = document.getElementById(id);
    if (!place || place.dataset.was === html) return;
    // A link that has the focus keeps it, for those who work without a mouse.
    const held = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    place.innerHTML = html;
    place.dataset.was = html;
    if (held) for (const link of place.querySelectorAll("a")) if (link.getAttribute("href") === held) { link.focus(); break; }
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
