"""What keeps the page true: it takes what the daemon sends and changes only what has changed.

The token stands behind the `#` of the address, which no browser sends to a server or names as where
it comes from. The script takes it from there, so that the address bar and the history of the tab
have it no longer, keeps it for this tab alone, and sends it in a header.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SCRIPT"]

SCRIPT: Final = """
"use strict";
(() => {
  const view = document.getElementById("view"), live = document.getElementById("live");
  const longestSilence = 20000, longestEvent = 4e6, slowest = 10000;
  let token = kept(), asking = null, delay = 1000, timer = 0;

  function kept() {
    try { return sessionStorage.getItem("token"); } catch { return null; }
  }
  function keep(value) {
    token = value;
    try {
      if (value) sessionStorage.setItem("token", value); else sessionStorage.removeItem("token");
    } catch { /* then for as long as this page is open */ }
  }
  function takeToken() {
    if (location.hash.length < 2) return;
    keep(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  function same(old, made) {
    return old.nodeType === made.nodeType && old.nodeName === made.nodeName;
  }
  function change(old, made) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== made.nodeValue) old.nodeValue = made.nodeValue;
      return;
    }
    for (const name of old.getAttributeNames())
      if (!made.hasAttribute(name)) old.removeAttribute(name);
    for (const name of made.getAttributeNames())
      if (old.getAttribute(name) !== made.getAttribute(name))
        old.setAttribute(name, made.getAttribute(name));
    changeInside(old, made);
  }
  function changeInside(old, made) {
    const wanted = [...made.childNodes];
    wanted.forEach((child, place) => {
      const there = old.childNodes[place];
      if (!there) old.append(child);
      else if (same(there, child)) change(there, child);
      else there.replaceWith(child);
    });
    while (old.childNodes.length > wanted.length) old.lastChild.remove();
  }
  function take(event) {
    const line = event.split("\\n").find((one) => one.startsWith("data: "));
    if (!line) return;
    const made = document.createElement("template");
    made.innerHTML = JSON.parse(line.slice(6));
    changeInside(view, made.content);
    live.textContent = "Live.";
    delay = 1000;
  }
  async function follow() {
    const mine = asking = new AbortController();
    let silence = setTimeout(() => mine.abort(), longestSilence);
    try {
      const headers = token ? {Authorization: "Bearer " + token} : {};
      const reply = await fetch("/events", {headers, cache: "no-store", signal: mine.signal});
      if (reply.status === 401) {
        keep(null);
        delay = 0;
        throw new Error("The address was of an earlier run: its token is not valid any more.");
      }
      if (!reply.ok) throw new Error((await reply.text()).trim());
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const {value, done} = await reader.read();
        if (done) throw new Error("The connection is lost.");
        clearTimeout(silence);
        silence = setTimeout(() => mine.abort(), longestSilence);
        text += value;
        for (let end; (end = text.indexOf("\\n\\n")) >= 0; text = text.slice(end + 2))
          take(text.slice(0, end));
        if (text.length > longestEvent) throw new Error("What is sent has no end.");
      }
    } catch (error) {
      if (asking !== mine) return;
      const why = error.name === "Error" ? error.message : "There is no answer.";
      live.textContent = why + " These figures are not live; trying again.";
      timer = setTimeout(follow, delay);
      delay = Math.min(slowest, 2 * delay + 500);
    } finally {
      clearTimeout(silence);
      mine.abort();
    }
  }
  function stop() {
    clearTimeout(timer);
    const last = asking;
    asking = null;
    if (last) last.abort();
  }
  function look() {
    stop();
    if (!document.hidden) follow();
  }
  // Nobody looks at a page behind others: it asks for nothing.
  document.addEventListener("visibilitychange", look);
  addEventListener("hashchange", () => { takeToken(); look(); });
  takeToken();
  look();
})();
"""
