"use strict";
// Keeps the moving parts of a page up to date. Without it a page is whole, and as old as its loading.
(() => {
  if (!document.body.hasAttribute("data-live") || !window.EventSource) return;
  const stand = document.getElementById("stand"), said = document.getElementById("said"), warned = document.getElementById("warned"), main = document.getElementById("main");

  // What an element is of: one of the same key is the same one, as it stands now. Nobody's finger may be on a button that becomes another.
  const key = (one) => {
    const link = () => one.querySelector("a")?.getAttribute("href") || one.textContent;
    switch (one.localName) {
      case "a": return "a " + (one.getAttribute("rel") || one.getAttribute("href"));
      case "form": return "form " + one.getAttribute("action");
      case "button": return "button " + (one.getAttribute("aria-label") || one.textContent);
      case "section": return "section " + (one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || "");
      case "tr": return "tr " + (one.cells[0]?.textContent || "");
      case "li": return "li " + link();
      case "p": return "p " + one.className + (one.matches(".banner") ? link() : "");
      case "td": return "td " + (one.dataset.l || "");
    }
    return one.nodeName;
  };
  const keyed = (parent) => {
    const seen = new Map(), all = new Map();
    for (const one of parent.childNodes) {
      const name = key(one), count = seen.get(name) || 0;
      seen.set(name, count + 1);
      all.set(name + " " + count, one);
    }
    return all;
  };
  // Makes one like another, and leaves every element that stays where it is: with the focus, the place that a screen reader reads, what is marked
  // and what is scrolled.
  const liken = (old, fresh) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const have = keyed(old), want = keyed(fresh);
    for (const [name, one] of have) if (!want.has(name)) one.remove();
    let at = old.firstChild;
    for (const [name, one] of want) {
      const kept = have.get(name);
      if (!kept) {
        old.insertBefore(one, at);
        continue;
      }
      if (kept === at) at = at.nextSibling;
      else old.insertBefore(kept, at);
      liken(kept, one);
    }
  };
  const focus = (one) => {
    if (one.tabIndex < 0) one.tabIndex = -1;
    one.focus({preventScroll: true});
  };
  const was = {};
  const put = (id, html) => {
    const place = document.getElementById(id);
    if (!place || was[id] === html) return;
    was[id] = html;
    const held = place.contains(document.activeElement) ? document.activeElement : null;
    const fresh = place.cloneNode(false);
    fresh.innerHTML = html;
    liken(place, fresh);
    if (!held || held === document.activeElement) return;
    // It was moved, or it is gone. Then what it was part of has the focus, and never another button.
    focus(held.isConnected ? held : place.textContent.trim() ? place : main);
  };

  // What is said aloud: the news of the page, each once, and the last ones when they come fast; and at once what nobody may miss.
  const hushed = 5000;
  let words = "", spoke = 0, later = 0;
  const speak = () => {
    clearTimeout(later);
    later = 0;
    spoke = Date.now();
    if (said.textContent !== words) said.textContent = words;
  };
  const say = (news, last) => {
    if (words === news) return;
    words = news;
    if (last || Date.now() - spoke >= hushed) speak();
    else if (!later) later = setTimeout(speak, hushed - (Date.now() - spoke));
  };
  const lever = () => document.querySelector("#bar [data-warns]")?.textContent || "";
  let warning = lever();
  const warn = () => {
    const now = lever();
    if (now === warning) return;
    warned.textContent = now || "The lever is released.";
    warning = now;
  };

  const source = new EventSource(location.pathname + location.search);
  source.addEventListener("parts", (event) => {
    const parts = JSON.parse(event.data);
    put("bar", parts.bar);
    put("live", parts.live);
    warn();
    const done = document.querySelector("#live [data-done]"), news = document.querySelector("#live [data-said]");
    if (news) say(news.dataset.said, done);
    if (done) for (const form of document.querySelectorAll("form.stop")) {
      const held = form.contains(document.activeElement);
      form.remove();
      if (held) focus(document.getElementById("live"));
    }
    document.body.dataset.at = String(Date.now());
    stand.textContent = "This page keeps itself up to date.";
    document.body.classList.remove("stale");
  });
  source.addEventListener("over", () => { source.close(); location.reload(); });
  source.onerror = () => {
    if (document.body.classList.contains("stale")) return;
    document.body.classList.add("stale");
    warned.textContent = stand.textContent = "The server does not answer: what is shown may be old.";
  };
})();
