// Work that is done again and again while somebody looks.

/**
 * Do work now and again some seconds after it has ended, until the signal;
 * not while the tab is hidden. Work that returns false is done.
 */
export function poll(seconds, work, signal) {
  let timer = 0;
  let busy = false;
  let ended = false;

  async function run() {
    clearTimeout(timer);
    if (busy || ended || signal.aborted || document.hidden) return;
    busy = true;
    try {
      ended = (await work()) === false;
    } catch (error) {
      if (error.name !== "AbortError") console.error(error);
    } finally {
      busy = false;
    }
    if (!ended && !signal.aborted) timer = setTimeout(run, seconds * 1000);
  }

  document.addEventListener("visibilitychange", run, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  run();
  return run;
}
