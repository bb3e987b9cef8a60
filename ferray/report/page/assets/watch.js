// Follows a search through the server of `ferray report watch --html`: says how far it is, and loads the page again when
// the search has changed. Where the reader is, what is open and what is filtered stay as they are.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const KEY = "ferray-watch";
  const root = document.documentElement;
  const live = document.getElementById("live");
  const fields = () => [...document.querySelectorAll("main input, main select")];
  const details = () => [...document.querySelectorAll("main details")];

  const keep = () => {
    const values = fields().map((one) => (one.type === "checkbox" || one.type === "radio" ? one.checked : one.value));
    const sorted = document.querySelector("#table [aria-sort]");
    const sort = sorted && [sorted.textContent, sorted.getAttribute("aria-sort")];
    sessionStorage.setItem(KEY, JSON.stringify({ at: scrollY, values, open: details().map((one) => one.open), sort }));
  };

  const restore = (kept) => {
    fields().forEach((one, place) => {
      const value = kept.values[place];
      if (typeof value === "boolean") {
        if (one.checked !== value && value) one.click();
      } else if (value !== undefined && one.value !== value) {
        one.value = value;
        one.dispatchEvent(new Event("input", { bubbles: true }));
        one.dispatchEvent(new Event("change", { bubbles: true }));
      }
    });
    details().forEach((one, place) => { one.open = kept.open[place] ?? one.open; });
    if (kept.sort) {
      const find = () => [...document.querySelectorAll("#table thead th")].find((one) => one.textContent === kept.sort[0]);
      for (let turn = 0; turn < 2 && find() && find().getAttribute("aria-sort") !== kept.sort[1]; turn += 1) {
        (find().querySelector("button") || find()).click();
      }
    }
    scrollTo({ top: kept.at, behavior: "instant" });
  };

  const whenDrawn = (call) => {
    if (root.dataset.drawn) call();
    else setTimeout(() => whenDrawn(call), 50);
  };

  const look = async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const { version, line } = await answer.json();
      live.textContent = line;
      if (version !== root.dataset.version) {
        keep();
        location.reload();
        return;
      }
    } catch (error) {
      live.textContent = `The server of this page does not answer: ${error.message}`;
    }
    setTimeout(look, EVERY_MS);
  };

  const kept = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  if (kept) {
    history.scrollRestoration = "manual";
    whenDrawn(() => restore(JSON.parse(kept)));
  }
  look();
})();
