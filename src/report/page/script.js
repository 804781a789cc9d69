"use strict";
(() => {
  const section = document.querySelector("#slider");
  const figures = [...document.querySelectorAll("#pictures figure")];
  if (!section || figures.length === 0) return;
  const form = section.querySelector("form");
  const stage = section.querySelector(".stage");
  const layers = section.querySelector(".layers");
  const cut = section.querySelector("[name=cut]");
  const { prompt, left, right, zoom, difference } = form.elements;

  const unique = (values) => [...new Set(values)];
  const fill = (select, options) => {
    for (const [value, text] of options) select.add(new Option(text, value));
  };
  const headings = [...document.querySelectorAll("#pictures h3")].map((of) => of.firstChild.textContent.trim());
  const prompts = unique(figures.map((figure) => figure.dataset.prompt));
  const names = unique(figures.map((figure) => figure.dataset.configuration));
  fill(prompt, prompts.map((value, index) => [value, headings[index]]));
  for (const select of [left, right]) fill(select, names.map((name) => [name, name]));
  right.selectedIndex = Math.min(1, names.length - 1);

  const figureOf = (name) =>
    figures.find((figure) => figure.dataset.prompt === prompt.value && figure.dataset.configuration === name);

  const show = () => {
    for (const [side, select] of [["left", left], ["right", right]]) {
      const figure = figureOf(select.value);
      const image = layers.querySelector(`.${side}`);
      const picture = figure?.querySelector("img");
      image.hidden = !picture;
      if (picture) image.src = picture.src;
      const caption = section.querySelector(`.captions .${side}`);
      caption.innerHTML = figure?.querySelector("figcaption").innerHTML ?? "";
      if (!figure) caption.textContent = `${select.value}: there is no such picture`;
    }
    const first = figures[0].querySelector("img");
    const [columns, rows] = ["width", "height"].map((side) => Number(first.getAttribute(side)));
    const factor = Number(zoom.value);
    const room = Math.min(stage.clientWidth, (0.75 * window.innerHeight * columns) / rows);
    const shown = factor > 0 ? columns * factor : room;
    layers.style.width = `${shown}px`;
    layers.style.height = `${(shown * rows) / columns}px`;
    layers.classList.toggle("difference", difference.checked);
    layers.style.setProperty("--cut", `${cut.value / 10}%`);
  };

  const drag = (event) => {
    if (event.buttons !== 1) return;
    const box = layers.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    cut.value = Math.round(1000 * Math.min(1, Math.max(0, share)));
    show();
  };

  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  cut.addEventListener("input", show);
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -20, ArrowRight: 20 }[event.key];
    if (!step) return;
    event.preventDefault();
    cut.value = Number(cut.value) + step;
    show();
  });
  window.addEventListener("resize", show);
  for (const figure of figures) {
    figure.querySelector("button").addEventListener("click", () => {
      prompt.value = figure.dataset.prompt;
      right.value = figure.dataset.configuration;
      show();
      section.scrollIntoView({ behavior: "smooth" });
    });
  }
  section.hidden = false;
  show();
})();
