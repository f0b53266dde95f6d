"use strict";
// What is filtered and chosen stands in the URL, behind "#": it can be sent to somebody, and the
// browser's back button undoes it.  A page opened from a disk may change nothing else of its URL.
const state = (() => {
  const read = () => new URLSearchParams(location.hash.slice(1));
  let listener = () => {}, shown = null;

  function apply() {
    const now = read();
    if (shown === now.toString()) return;
    shown = now.toString();
    listener(now);
  }
  // With `replace`, as while somebody types, no step for the back button is made.
  function write(changes, replace = false) {
    const now = read();
    for (const [name, value] of Object.entries(changes)) value ? now.set(name, value) : now.delete(name);
    const text = now.toString(), url = text ? `#${text}` : location.href.split("#")[0];
    if (text !== read().toString()) history[replace ? "replaceState" : "pushState"](null, "", url);
    apply();
  }
  // One step back for each time that somebody types, and not for each letter.
  function typed(input, name) {
    let isTyping = false;
    input.addEventListener("input", () => { write({ [name]: input.value }, isTyping); isTyping = true; });
    for (const end of ["change", "blur"]) input.addEventListener(end, () => { isTyping = false; });
  }
  function begin(onState) {
    listener = onState;
    addEventListener("popstate", apply);
    addEventListener("hashchange", apply);
    apply();
  }
  const words = (text) => (text ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return { begin, read, typed, words, write };
})();
