"use strict";
// The script of the report: theme, copy buttons, and the charts, which Python has drawn already. Here they move to
// the other scale of the loss axis, show the values under the pointer or the arrow keys, and hide what is switched off.
(() => {
  const root = document.documentElement;
  const said = document.getElementById("said");
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const shown = (number) => (Number.isFinite(number) ? String(Number(number.toPrecision(4))) : "none");

  // The theme: that of the system, until the button chooses another.
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} theme`); };
  try { if (/^(dark|light)$/.test(localStorage.getItem("lrfind-theme"))) root.dataset.theme = localStorage.getItem("lrfind-theme"); } catch { /* no storage here */ }
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("lrfind-theme", root.dataset.theme); } catch { /* no storage here */ }
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.hidden = false;
  label();

  // Copy buttons.
  async function copy(source) {
    try { await navigator.clipboard.writeText(source.textContent); } catch {
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
      getSelection().removeAllRanges();
    }
  }
  for (const copying of all("[data-copy]")) {
    copying.addEventListener("click", async () => {
      await copy(document.getElementById(copying.dataset.copy));
      copying.textContent = "Copied";
      said.textContent = "Copied to the clipboard";
      setTimeout(() => { copying.textContent = "Copy"; said.textContent = ""; }, 2000);
    });
  }

  // Charts.
  const drawn = (tag, parent) => parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag));
  const numbers = (text) => (text ? text.split(" ").map(Number) : []);

  function chart(figure) {
    const frame = figure.querySelector(".frame"), svg = frame.querySelector("svg"), tip = frame.querySelector(".tip");
    const heard = figure.querySelector(".heard");
    const [left, top, width, height] = numbers(svg.dataset.box);
    const [kind, lowX, highX] = svg.dataset.x.split(" ").map((part, place) => (place ? Number(part) : part));
    const share = (value, low, high, log) => (log ? (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low)) : (value - low) / (high - low));
    const across = (value) => left + share(value, lowX, highX, kind === "log") * width;
    const down = (value) => {
      const [low, high] = numbers(svg.dataset[svg.dataset.scale]);
      const place = top + (1 - share(value, low, high, svg.dataset.scale === "log")) * height;
      return Number.isNaN(place) ? NaN : Math.max(-2 * top - height, Math.min(place, top + 3 * height));
    };
    const inside = (place) => Math.max(top, Math.min(place, top + height));
    const grids = all("[data-grid]", svg).map((grid) => numbers(grid.dataset.grid));
    const places = grids.map((grid) => grid.map(across));
    const names = all(".legend [data-s]", figure).map((key) => key.textContent.trim());
    const elements = all(".marks [data-s]", svg);

    // What the pointer and the arrow keys find: points with their values.
    let series = null;
    function found() {
      if (series) return series;
      series = new Map();
      for (const element of elements) {
        if (!/(^| )(line|dot)( |$)/.test(element.getAttribute("class")) || element.matches(".faint")) continue;
        const line = element.dataset.g !== undefined, number = Number(element.dataset.s);
        const xs = line ? grids[element.dataset.g] : [Number(element.dataset.x)];
        const ys = line ? numbers(element.dataset.y) : [element.dataset.y ? Number(element.dataset.y) : null];
        const id = `${number} ${line}`;
        if (!series.has(id)) series.set(id, { number, line, points: [] });
        ys.forEach((y, place) => {
          if (y !== null && Number.isNaN(y)) return;
          const px = line ? places[element.dataset.g][place] : across(xs[0]);
          series.get(id).points.push({ x: xs[place], y, px, remark: element.dataset.t || "", element });
        });
      }
      for (const [id, one] of series) {
        // A line whose points are all marked says nothing more than its points.
        const dots = series.get(`${one.number} false`);
        if (one.line && dots && dots.points.length >= one.points.length) series.delete(id);
        one.points.sort((a, b) => a.px - b.px);
      }
      return series;
    }
    const height_of = (point) => (point.y === null ? top + 8 : inside(down(point.y)));
    const visible = () => [...found().values()].filter((one) => one.points.length && !one.points[0].element.hasAttribute("data-off"));
    const at = (one, px) => one.points.reduce((best, point) => (Math.abs(point.px - px) < Math.abs(best.px - px) ? point : best));

    const hair = drawn("path", svg), halo = drawn("circle", svg);
    hair.setAttribute("class", "cross-hair");
    halo.setAttribute("class", "halo");
    halo.setAttribute("r", 6);
    hide();

    function hide() {
      tip.hidden = true;
      hair.setAttribute("visibility", "hidden");
      halo.setAttribute("visibility", "hidden");
    }

    function show(one, point) {
      const py = height_of(point);
      hair.setAttribute("d", `M${point.px} ${top}v${height}`);
      halo.setAttribute("cx", point.px);
      halo.setAttribute("cy", py);
      hair.removeAttribute("visibility");
      halo.removeAttribute("visibility");
      const words = (other, its) => `${names[other.number]}: ${its.y === null ? "no loss" : shown(its.y)}${its.remark ? `, ${its.remark}` : ""}`;
      const others = visible().filter((other) => other !== one && other.number !== one.number)
        .map((other) => ({ other, its: at(other, point.px) }))
        .filter(({ its }) => Math.abs(its.px - point.px) < 5)
        .sort((a, b) => Math.abs(height_of(a.its) - py) - Math.abs(height_of(b.its) - py)).slice(0, 5);
      const lines = [`${svg.dataset.label} ${shown(point.x)}`, words(one, point), ...others.map(({ other, its }) => words(other, its))];
      tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
      tip.hidden = false;
      const ratio = svg.clientWidth / svg.viewBox.baseVal.width, right = point.px > left + width / 2;
      tip.style.left = right ? "auto" : `${point.px * ratio + 14}px`;
      tip.style.right = right ? `${svg.clientWidth - point.px * ratio + 14}px` : "auto";
      tip.style.top = `${Math.max(0, Math.min(py * ratio - 20, svg.clientHeight - tip.offsetHeight))}px`;
      return lines;
    }

    function under(event) {
      const box = svg.getBoundingClientRect(), ratio = svg.viewBox.baseVal.width / box.width;
      const px = (event.clientX - box.left) * ratio, py = (event.clientY - box.top) * ratio;
      let best = null;
      for (const one of visible()) {
        const point = at(one, px), distance = Math.hypot(point.px - px, height_of(point) - py);
        if (!best || distance < best.distance) best = { one, point, distance };
      }
      if (best) show(best.one, best.point);
      current = best;
    }

    let current = null;
    frame.addEventListener("pointermove", under);
    frame.addEventListener("pointerdown", under);
    frame.addEventListener("pointerleave", hide);
    frame.addEventListener("blur", hide);
    frame.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") hide();
      if (!(event.key in steps)) return;
      const choice = visible();
      if (!choice.length) return;
      event.preventDefault();
      let one = current && choice.includes(current.one) ? current.one : choice[0];
      let place = current && current.one === one ? one.points.indexOf(current.point) : -1;
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        const px = place < 0 ? one.points[0].px : one.points[place].px;
        one = choice[(choice.indexOf(one) + steps[event.key] + choice.length) % choice.length];
        place = one.points.indexOf(at(one, px));
      } else {
        const stride = one.points.length > 60 && Number.isFinite(steps[event.key]) ? Math.round(one.points.length / 40) : 1;
        place = Math.max(0, Math.min(one.points.length - 1, place + steps[event.key] * stride));
      }
      current = { one, point: one.points[place] };
      heard.textContent = show(one, current.point).slice(0, 2).join(", ");
    });

    // The scale of the loss axis.
    function redraw() {
      for (const element of elements) {
        const { y, z, g, level } = element.dataset;
        if (g !== undefined) element.setAttribute("d", z === undefined ? path(places[g], numbers(y).map(down)) : outline(places[g], numbers(y), numbers(z)));
        else if (level !== undefined) element.setAttribute("d", `M${left} ${down(Number(level)).toFixed(1)}h${width}`);
        else if (y) {
          const place = down(Number(y));
          element.setAttribute("transform", `translate(${across(Number(element.dataset.x)).toFixed(1)} ${(Number.isNaN(place) ? top + height : inside(place)).toFixed(1)})`);
        }
      }
    }
    const tenths = (place) => Math.round(place * 10);
    function path(xs, ys) {
      let d = "", pen = "M";
      ys.forEach((y, place) => {
        if (Number.isNaN(y)) { pen = "M"; return; }
        d += `${pen}${tenths(xs[place])} ${tenths(y)}`;
        pen = "L";
      });
      return d;
    }
    function outline(xs, highs, lows) {
      const there = highs.map((_, place) => place).filter((place) => !Number.isNaN(down(highs[place])) && !Number.isNaN(down(lows[place])));
      const edge = [...there.map((place) => [xs[place], down(highs[place])]), ...there.reverse().map((place) => [xs[place], down(lows[place])])];
      return path(edge.map((point) => point[0]), edge.map((point) => point[1]));
    }
    const scales = all("button[data-scale]", figure);
    for (const chosen of scales) {
      chosen.addEventListener("click", () => {
        svg.dataset.scale = chosen.dataset.scale;
        scales.forEach((one) => one.setAttribute("aria-pressed", String(one === chosen)));
        hide();
        redraw();
      });
    }

    // The legend shows and hides.
    const keys = all(".legend [data-s]", figure);
    function turn(key, on) {
      key.setAttribute("aria-pressed", String(on));
      elements.filter((element) => element.dataset.s === key.dataset.s).forEach((element) => element.toggleAttribute("data-off", !on));
      hide();
    }
    const marks = all(".marks", svg);
    function emphasize(key) {
      marks.forEach((group) => group.classList.toggle("dim", key !== null));
      elements.forEach((element) => element.classList.toggle("near", key !== null && element.dataset.s === key.dataset.s));
    }
    for (const key of keys) {
      key.addEventListener("click", () => turn(key, key.getAttribute("aria-pressed") === "false"));
      key.addEventListener("pointerenter", () => emphasize(key.getAttribute("aria-pressed") === "true" ? key : null));
      key.addEventListener("pointerleave", () => emphasize(null));
    }
    for (const every of all("[data-all]", figure)) {
      every.addEventListener("click", () => keys.forEach((key) => turn(key, every.dataset.all === "true")));
    }
  }
  all("figure.chart").forEach(chart);

  // Maps of layers.
  for (const figure of all("figure.heat")) {
    const maps = figure.querySelector(".maps"), tip = figure.querySelector(".tip");
    const layers = all("ol li", figure).map((item) => item.textContent), looks = all(".at li", figure).map((item) => item.textContent);
    for (const map of all(".map svg", figure)) {
      const values = map.dataset.v.trim().split(/\s+/).map(Number);
      map.addEventListener("pointerleave", () => { tip.hidden = true; });
      map.addEventListener("pointermove", (event) => {
        const box = map.getBoundingClientRect(), around = maps.getBoundingClientRect();
        const column = Math.min(looks.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * looks.length)));
        const row = Math.min(layers.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * layers.length)));
        const lines = [`${layers[row]}, ${looks[column]}`, `${map.dataset.label}: ${shown(values[row * looks.length + column])}`];
        tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
        tip.hidden = false;
        tip.style.left = `${Math.max(0, Math.min(event.clientX - around.left + 12, around.width - tip.offsetWidth))}px`;
        tip.style.top = `${event.clientY - around.top + 16}px`;
      });
    }
  }

  // A link to a run opens it. On paper nothing is closed but the tables behind the charts.
  const open = () => { const run = location.hash && document.getElementById(location.hash.slice(1)); if (run && run.tagName === "DETAILS") run.open = true; };
  addEventListener("hashchange", open);
  open();
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])").filter((one) => !one.matches(".many, .behind")); closed.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach((one) => { one.open = false; }); });
})();
