/** An origin as transport keeps it, with a direct path and those through relays; nothing is dialled. */
import type { ClusterId, MonotonicMs } from "#kit";
import { Target, transportDefaults, type TransportSettings } from "#transport";

export function originTarget(
  settings: Partial<TransportSettings>,
  now: () => MonotonicMs,
  relays: readonly ClusterId[],
): Target {
  const to = new Target({
    key: "origin",
    label: "origin",
    endpoint: { host: "192.0.2.1", port: 80, isTls: false, isOrigin: true },
    clusterId: null,
    probe: { method: "HEAD", path: "/", host: "example.com" },
    paths: {},
    context: {
      settings: { ...transportDefaults, ...settings },
      now,
      connect: () => Promise.reject(new Error("no network")),
      onWanted: () => {},
    },
  });
  to.chooser?.setRelays(
    relays.map((via) => ({ via })),
    now(),
  );
  return to;
}
