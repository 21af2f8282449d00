"use strict";

// Times stand in the page as UTC; here they come into the zone of who reads them.
const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    if (isNaN(moment)) continue;
    time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
    time.textContent = zoned.format(moment);
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const words = button.firstChild;
  const before = words.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    words.textContent = "Copied";
  } catch {
    words.textContent = "Select it by hand";
  }
  setTimeout(() => { words.textContent = before; }, 1500);
});

// A tab that nobody sees asks for nothing.
document.addEventListener("htmx:before:request", (event) => {
  const source = event.detail.ctx && event.detail.ctx.sourceElement;
  if (document.hidden && source && (source.getAttribute("hx-trigger") || "").includes("every")) event.preventDefault();
});
document.addEventListener("htmx:after:swap", () => localTimes(document));
document.addEventListener("DOMContentLoaded", () => localTimes(document));

let goes = false;
document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea, select, [contenteditable]");
  if (field && event.key === "Escape") field.blur();
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  const pages = {
    o: "/", s: "/search", m: "/message/", l: "/dead-letters", a: "/audit", d: "/doctor", i: "/index", v: "/map", p: "/pipelines",
  };
  if (goes && pages[event.key]) location.assign(pages[event.key]);
  else if (event.key === "/") {
    event.preventDefault();
    const words = document.getElementById("q");
    if (words) words.focus(); else location.assign("/search");
  } else if (event.key === "?") document.getElementById("keys").showModal();
  goes = event.key === "g";
});
