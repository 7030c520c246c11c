// Commands are copied without their prompts, by the button and by hand.
document.addEventListener("copy", (event) => {
  const copied = document.getSelection().toString() || document.activeElement.value || "";
  const commands = copied.replace(/^\$ /gm, "");
  if (commands === copied) return;
  event.clipboardData.setData("text/plain", commands);
  event.preventDefault();
});
