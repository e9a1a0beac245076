// The payment page is whole without this. It adds: copy buttons, the viewer's own time, a countdown from the server's
// clock, and the live stream. One message is the same HTML that the page was made with; parts that differ are swapped.
(() => {
  "use strict";
  const doc = document;
  const byId = (id) => doc.getElementById(id);
  const say = (text) => { const box = byId("say"); box.textContent = ""; setTimeout(() => { box.textContent = text; }, 50); };

  // Copy

  const copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // An onion service or a shop on the LAN is no secure context: there is no clipboard, but there is this.
      const field = doc.createElement("textarea");
      field.value = text;
      field.className = "offscreen";
      field.setAttribute("readonly", "");
      doc.body.append(field);
      field.select();
      const done = doc.execCommand("copy");
      field.remove();
      if (!done) throw new Error("no clipboard");
    }
  };

  // What was typed and then given up for an offered amount would be a second one: the server asks which is meant.
  doc.addEventListener("change", ({ target }) => {
    const typed = doc.getElementById("amount");
    if (typed && target.name === "preset" && target.value !== "other") typed.value = "";
  });

  doc.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.hasAttribute("data-print")) return print();
    if (!button.dataset.copy) return;
    try { await copyText(button.dataset.copy); } catch { return; }
    const word = button.querySelector("span");
    const before = button.dataset.word || (button.dataset.word = word.textContent);
    word.textContent = button.dataset.done;
    button.classList.add("copied");
    button.focus();
    say(button.dataset.done);
    clearTimeout(button.timer);
    button.timer = setTimeout(() => { word.textContent = before; button.classList.remove("copied"); }, 2000);
  });

  // Times and buttons

  const STYLES = {
    clock: { timeStyle: "medium" },
    time: { timeStyle: "short" },
    date: { dateStyle: "long" },
    both: { dateStyle: "medium", timeStyle: "short" },
  };
  const dress = (root) => {
    for (const button of root.querySelectorAll("[data-copy], [data-print]")) button.hidden = false;
    for (const time of root.querySelectorAll("time[data-local]")) {
      const when = new Date(time.dateTime);
      if (isNaN(when)) continue;
      time.title = time.textContent;
      time.textContent = when.toLocaleString(doc.documentElement.lang, STYLES[time.dataset.local]);
    }
  };

  // Countdown: seconds left as the server said, counted with a clock that nobody sets

  let heard = performance.now();
  const two = (number) => String(number).padStart(2, "0");
  const tick = () => {
    const clock = doc.querySelector("[data-clock]");
    if (!clock) return;
    const left = Math.max(0, Math.floor(clock.dataset.left - (performance.now() - heard) / 1000));
    const hours = Math.floor(left / 3600), minutes = Math.floor(left / 60) % 60, seconds = two(left % 60);
    clock.querySelector(".clock-left").textContent =
      left === 0 ? clock.dataset.over : hours ? `${hours}:${two(minutes)}:${seconds}` : `${minutes}:${seconds}`;
    clock.querySelector("progress").value = left;
    clock.toggleAttribute("data-soon", left < 300);
  };

  // Live

  const sheet = doc.querySelector("[data-stream]");
  const live = byId("live");
  const shown = new Map();
  if (live) for (const part of live.children) shown.set(part.id, part.outerHTML);

  const receive = (html) => {
    const box = doc.createElement("template");
    box.innerHTML = html;
    const next = box.content.firstElementChild;
    if (!next || next.id !== "live") return;
    if (next.dataset.page !== live.dataset.page) { leave(); return; }
    heard = performance.now();
    const changed = next.dataset.state !== live.dataset.state;
    const focused = doc.activeElement && doc.activeElement.id;
    for (const part of [...next.children]) {
      const fresh = part.outerHTML;
      if (shown.get(part.id) === fresh) continue;
      shown.set(part.id, fresh);
      dress(part);
      byId(part.id).replaceWith(part);
    }
    if (focused && doc.activeElement === doc.body) byId(focused)?.focus({ preventScroll: true });
    for (const { name, value } of [...next.attributes]) live.setAttribute(name, value);
    if (changed) {
      doc.title = next.dataset.title;
      say(next.dataset.say);
      if (live.dataset.layout !== "pay") scrollTo(0, 0);
    }
    tick();
  };

  let source, retry, left = false;
  const leave = () => { left = true; source?.close(); location.replace(location.pathname + location.search); };

  const fetchStatus = async () => {
    try {
      const answer = await fetch(sheet.dataset.status, { credentials: "same-origin", cache: "no-store" });
      if (answer.ok && !left) receive(await answer.text());
    } catch { /* offline: the stream's own retry comes */ }
  };

  let lastWord = 0;
  const connect = () => {
    if (left) return;
    clearTimeout(retry);
    source?.close();
    source = new EventSource(sheet.dataset.stream);
    lastWord = performance.now();
    source.addEventListener("live", (event) => { lastWord = performance.now(); receive(event.data); });
    source.addEventListener("ping", () => { lastWord = performance.now(); });
    source.onerror = () => {
      // The browser reconnects by itself after a cut, but gives up after an HTTP error: then ask, and try again.
      if (source.readyState !== EventSource.CLOSED) return;
      fetchStatus();
      retry = setTimeout(connect, 5000);
    };
  };

  dress(doc);
  tick();
  setInterval(tick, 1000);
  if (sheet && live) {
    connect();
    doc.addEventListener("visibilitychange", () => { if (!doc.hidden) connect(); });
    addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
    addEventListener("online", connect);
    // A stream can die without a word (a phone that slept, a proxy): the server speaks at least every 15 s.
    setInterval(() => { if (!doc.hidden && performance.now() - lastWord > 45000) { fetchStatus(); connect(); } }, 5000);
  }
})();
