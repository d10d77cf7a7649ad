// Pictures large, with their recipe, by keyboard too. Without it each picture is a link to its own page.
export function lightbox() {
  const links = [...document.querySelectorAll("a[data-large]")];
  if (!links.length) return;
  const dialog = document.createElement("dialog");
  dialog.className = "lightbox";
  dialog.setAttribute("aria-label", "Picture");
  const button = (text, act, quiet = true) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = quiet ? "quiet small" : "small";
    made.textContent = text;
    made.addEventListener("click", act);
    return made;
  };
  const bar = document.createElement("div");
  bar.className = "lightbox-bar";
  const figure = document.createElement("figure");
  const picture = document.createElement("img");
  const caption = document.createElement("figcaption");
  let at = 0;
  const show = (index) => {
    at = (index + links.length) % links.length;
    const link = links[at];
    picture.src = link.dataset.large;
    picture.alt = link.querySelector("img").alt;
    const recipe = link.parentElement.querySelector("template");
    caption.replaceChildren(recipe ? recipe.content.cloneNode(true) : "");
    const own = document.createElement("a");
    own.href = link.href;
    own.textContent = "Page of this picture";
    caption.append(own);
  };
  bar.append(button("← Previous", () => show(at - 1)), button("Next →", () => show(at + 1)), button("Close", () => dialog.close(), false));
  figure.append(picture, caption);
  dialog.append(bar, figure);
  document.body.append(dialog);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => links[at].focus());
  for (const [index, link] of links.entries()) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
      dialog.showModal();
    });
  }
}
