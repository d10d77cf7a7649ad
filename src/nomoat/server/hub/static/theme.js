// Before anything is drawn: the colours that were chosen last time.
const chosen = localStorage.getItem("colours");
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.colours = chosen;
