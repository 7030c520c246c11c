// Commands are copied without their prompts, by the button and by hand.
document.addEventListener("copy", (event) => {
  const copied = document.getSelection().toString() || document.activeElement.value || "";
  const commands = copied.replace(/^\$ /gm, "");
  if (commands === copied) return;
  event.clipboardData.setData("text/plain", commands);
  event.preventDefault();
});

// Each block of code has a place of its own in the list of a screen reader.
document.addEventListener("DOMContentLoaded", () =>
  setTimeout(() =>
    document.querySelectorAll(".md-code__nav").forEach((nav, place) => nav.setAttribute("aria-label", `Code ${place + 1}`))));
