// Explorers without a kernel: the pictures at the positions of a grid were drawn ahead, and a slider goes from one to
// the next. A file of pictures is a script, so that the page works from a folder, too; it is loaded when its explorer
// comes near the view.
"use strict";
(() => {
  const waiting = new Map();
  window.normcourseFrames = (name, data) => waiting.get(name)?.(data);

  async function unpack(data) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).json();
  }

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  class Player {
    constructor(root) {
      this.root = root;
      this.given = JSON.parse(root.querySelector("script").textContent);
      this.stage = root.querySelector(".nc-stage");
      this.note = root.querySelector(".nc-note");
      this.said = root.querySelector(".nc-said");
      this.position = [...this.given.start];
      this.nodes = new Map();  // a picture that is not in the page yet, as of a closed claim, is loaded with the rest
      if (this.stage.querySelector("svg")) this.nodes.set(this.key(), this.stage.firstElementChild);
      this.inputs = this.given.controls.map((control, i) => this.control(control, i));
      this.buttons();
      this.mark();
      new IntersectionObserver((seen, observer) => {
        if (seen.some((entry) => entry.isIntersecting)) {
          observer.disconnect();
          this.load();
        }
      }, { rootMargin: "400px" }).observe(root);
      root.player = this;
    }

    key() {
      return this.position.join(",");
    }

    control(control, i) {
      const id = `${this.given.name}-${control.name}`, values = control.values;
      let input, readout = null;
      if (control.kind === "choice") {
        input = element("select", { id }, ...values.map((value, n) => element("option", { value: n }, value)));
      } else if (control.kind === "box") {
        input = element("input", { id, type: "checkbox" });
      } else {
        input = element("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
        readout = element("output", { for: id });
      }
      input.addEventListener("input", () => {
        this.stop();
        this.position[i] = control.kind === "box" ? Number(input.checked) : Number(input.value);
        this.show();
      });
      const row = element("div", { class: "nc-control" }, element("label", { for: id }, control.label), input);
      if (readout) row.append(readout);
      this.root.querySelector(".nc-controls").append(row);
      return { input, readout, control };
    }

    buttons() {
      const { words, play, controls } = this.given, row = this.root.querySelector(".nc-controls");
      const buttons = element("div", { class: "nc-buttons" });
      if (play !== null && controls[play].values.length > 1) {
        this.button = element("button", { type: "button" }, words.play);
        this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
        buttons.append(this.button);
      }
      if (controls.length) {
        const reset = element("button", { type: "button" }, words.reset);
        reset.addEventListener("click", () => this.go([...this.given.start]));
        buttons.append(reset);
      }
      row.append(buttons);
    }

    // Move by itself through the positions of one control, once.
    play() {
      const axis = this.given.play, last = this.given.controls[axis].values.length - 1;
      if (this.position[axis] === last) this.position[axis] = 0;
      this.button.textContent = this.given.words.stop;
      this.timer = setInterval(() => {
        if (this.position[axis] >= last) return this.stop();
        this.position[axis] += 1;
        this.show();
      }, this.given.milliseconds);
      this.show();
    }

    stop() {
      if (!this.timer) return;
      clearInterval(this.timer);
      this.timer = null;
      this.button.textContent = this.given.words.play;
    }

    go(position) {
      this.stop();
      this.position = position;
      this.show();
    }

    load() {
      if (this.loading) return this.loading;
      this.loading = new Promise((done) => {
        waiting.set(this.given.name, (data) => {
          waiting.delete(this.given.name);
          unpack(data).then((frames) => {
            this.frames = frames;
            this.root.dataset.ready = "true";
            this.show();
            this.prepare(Object.keys(frames.frames));
            done();
          });
        });
        document.head.append(element("script", { src: this.root.dataset.frames }));
      });
      return this.loading;
    }

    // Read the pictures while nobody waits, so that a step only exchanges them.
    prepare(keys) {
      const idle = window.requestIdleCallback ?? ((work) => setTimeout(() => work({ timeRemaining: () => 8 }), 20));
      const work = (deadline) => {
        while (keys.length && deadline.timeRemaining() > 4) this.node(keys.pop());
        if (keys.length) idle(work);
      };
      idle(work);
    }

    node(key) {
      if (!this.nodes.has(key)) {
        const frame = this.frames?.frames[key];
        if (!frame) return null;
        const template = document.createElement("template");
        template.innerHTML = frame.map((i) => this.frames.lines[i]).join("\n");
        this.nodes.set(key, template.content.firstElementChild);
      }
      return this.nodes.get(key);
    }

    mark() {
      this.inputs.forEach(({ input, readout, control }, i) => {
        const at = this.position[i];
        if (control.kind === "box") input.checked = Boolean(at);
        else input.value = at;
        if (readout) {
          readout.textContent = control.values[at];
          input.setAttribute("aria-valuetext", control.values[at]);
        }
      });
    }

    show() {
      this.mark();
      const key = this.key(), picture = this.node(key), { words } = this.given;
      this.root.dataset.position = key;
      this.stage.classList.toggle("nc-before", !picture);
      if (picture && picture !== this.stage.firstElementChild) this.stage.replaceChildren(picture);
      if (picture && this.frames) {
        const alt = this.frames.alts[key];
        this.stage.setAttribute("aria-label", alt);
        clearTimeout(this.saying);
        this.saying = setTimeout(() => (this.said.textContent = alt), 600);
      }
      if (!this.frames) this.load();
      this.note.hidden = Boolean(picture);
      if (!picture) this.note.replaceChildren(this.frames ? words.off : words.loading, ...this.link());
    }

    link() {
      if (!this.frames) return [];
      return [" ", element("a", { href: this.root.dataset.notebook }, this.given.words.live)];
    }
  }

  function begin() {
    for (const root of document.querySelectorAll(".nc-player")) new Player(root);
    const first = document.querySelector(".nc-player[data-autoplay]")?.player;
    if (first?.button && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      first.load().then(() => setTimeout(() => first.play(), 800));
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
