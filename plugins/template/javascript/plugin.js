// Sends each request to the GPU with the most room: one that has the model loaded first, then the
// one with the most headroom. What is not known comes last, and a fallback after all others.

export const guest = {
  describe() {
    // `needs` says what the plugin wants to see of a request: nothing, the targets are enough.
    return { name: "PLUGIN_NAME", version: "0.1.0", needs: {} };
  },
};

export const router = {
  route(request, targets) {
    const ranked = targets.map((target, index) => ({ target: index, weight: weight(target) }));
    return {
      tag: "rank",
      val: { targets: ranked, reason: "headroom", defaults: [], labels: [] },
    };
  },
};

// The bytes that are free, moved by more than any GPU has. 64-bit numbers are BigInt.
function weight(target) {
  const headroom = target.headroom === undefined ? -1 : Number(target.headroom);
  const loaded = target.resident ? 1e15 : 0;
  const fallback = target.fallback ? -1e16 : 0;
  return headroom + loaded + fallback;
}
