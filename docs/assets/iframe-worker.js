// A browser lets no page that was opened from disk start a worker. The search of the site runs in one:
// here its script runs in a hidden frame with a worker's interface instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
      this.started = new Promise((started) => this.frame.addEventListener("load", started, { once: true }));
      const source = new URL(url, location.href).href;
      this.frame.srcdoc = `<body><script>
        window.postMessage = (data) => frameElement.answered(data);
        window.importScripts = async (...urls) => {
          for (const src of urls)
            await new Promise((onload, onerror) =>
              document.body.append(Object.assign(document.createElement("script"), { src, onload, onerror })));
        };
      </script><script src="${source}"></script></body>`;
      this.frame.answered = (data) => {
        const event = new MessageEvent("message", { data: structuredClone(data) });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      (document.body ?? document.documentElement).append(this.frame);
    }
    postMessage(data) {
      this.started.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
