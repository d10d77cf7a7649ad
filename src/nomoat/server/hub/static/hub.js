// What pages can do beyond being read. Each part looks for its elements and leaves the page alone where there are none.
import { lightbox } from "./lightbox.js";

const status = document.querySelector("[data-status]");
export const say = (text) => { status.textContent = text; };

function themeSwitch() {
  const button = document.querySelector("[data-theme-switch]");
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = getComputedStyle(root).colorScheme === "dark"
      || (root.dataset.colours === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.colours = dark ? "light" : "dark";
    localStorage.setItem("colours", root.dataset.colours);
    say(dark ? "light colours" : "dark colours");
  });
}

function copyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.dataset.copy || button.parentElement.querySelector("code").textContent;
      await navigator.clipboard.writeText(text);
      button.classList.add("done");
      say("copied");
      setTimeout(() => button.classList.remove("done"), 1500);
    });
  }
}

function submitOnChange() {
  for (const field of document.querySelectorAll("[data-submits]")) field.addEventListener("change", () => field.form.requestSubmit());
  for (const element of document.querySelectorAll("[data-without-script]")) element.hidden = true;
}

function filterTables() {
  for (const field of document.querySelectorAll("[data-filters]")) {
    const rows = [...document.getElementById(field.dataset.filters).tBodies[0].rows];
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      say(`${shown} of ${rows.length} rows`);
    });
  }
}

function menus() {
  const phone = matchMedia("(max-width: 62rem)");
  for (const fold of document.querySelectorAll("[data-fold-on-phone]")) if (phone.matches) fold.open = false;
  const close = (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (event.type === "keydown" ? event.key === "Escape" : !menu.contains(event.target)) {
        menu.open = false;
        if (event.type === "keydown") menu.querySelector("summary").focus();
      }
    }
  };
  addEventListener("click", close);
  addEventListener("keydown", close);
}

function middleOfGraphs() {
  for (const graph of document.querySelectorAll(".graph")) {
    const box = graph.querySelector(".here")?.getBoundingClientRect();
    if (box) graph.scrollLeft = box.x + box.width / 2 - graph.getBoundingClientRect().x - graph.clientWidth / 2;
  }
}

function searchKey() {
  const field = document.getElementById("top-search");
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select")) { event.preventDefault(); field.focus(); }
  });
}

themeSwitch(); copyButtons(); submitOnChange(); filterTables(); menus(); searchKey(); middleOfGraphs(); lightbox();
