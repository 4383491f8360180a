/** What a request that must go on to the origin costs the proxy: answers that may not be stored, and first requests of URLs. */
import { haproxy } from "./peers/haproxy.ts";
import { isochrone } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import type { Server } from "./peers/peer.ts";
import { trafficServer } from "./peers/traffic-server.ts";
import { varnish } from "./peers/varnish.ts";
import { measure, type Workload } from "./tools/measure.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { startOrigin } from "./tools/origin.ts";
import { KIBIBYTE } from "./tools/workloads.ts";

export const summary =
  "requests that go to the origin: the proxy's CPU, against nginx proxy_pass and the caches";

const CONNECTIONS = 32;
/** Thirteen servers: with these it ends within six minutes. */
const LENGTHS = { seconds: 2, rounds: 3, warmUpSeconds: 1 };

function forwarded(name: string, note: string, path: string, bytes: number, isUnique: boolean): Workload {
  return {
    name,
    note: `${note}, ${CONNECTIONS} connections`,
    load: {
      scheme: "http",
      protocol: "http/1.1",
      connections: CONNECTIONS,
      paths: [path],
      headers: {},
      isUnique,
    },
    expected: { status: 200, bodyBytes: bytes, isHit: false },
  };
}

const WORKLOADS: readonly Workload[] = [
  forwarded("pass-1KiB", "1 KiB that may not be stored", `/private/${KIBIBYTE}/object`, KIBIBYTE, false),
  forwarded(
    "pass-100KiB",
    "100 KiB that may not be stored",
    `/private/${100 * KIBIBYTE}/object`,
    100 * KIBIBYTE,
    false,
  ),
  forwarded(
    "miss-1KiB",
    "1 KiB, each URL once, stored where there is a cache",
    `/cached/${KIBIBYTE}/object`,
    KIBIBYTE,
    true,
  ),
];

/** A server and in front of it another one of its kind, which asks it: what a miss costs an edge and its parent together. */
function twoInARow(server: Server): Server {
  return {
    ...server,
    form: `${server.form}-two`,
    note: `two in a row, an edge and its parent: ${server.note}`,
    start: async (setting) => {
      const parent = await server.start(setting);
      try {
        const edge = await server.start({ ...setting, originPort: parent.port });
        return {
          ...edge,
          pids: [...edge.pids, ...parent.pids],
          stop: async () => {
            await edge.stop();
            await parent.stop();
          },
        };
      } catch (error) {
        await parent.stop();
        throw error;
      }
    },
  };
}

/** The cheapest thing that nginx can do with a request: pass it on, nothing stored. */
const PROXY_PASS = "proxy-pass";

export async function main(argv: readonly string[]): Promise<number> {
  const caches = [...nginx, ...varnish, ...trafficServer, ...haproxy].filter(
    ({ form }) => form === "default" || form === "tuned",
  );
  const proxies = nginx
    .filter((server) => server.form === "tuned")
    .map(
      (server): Server => ({
        ...server,
        form: PROXY_PASS,
        note: "proxy_pass over kept connections, no cache, access log buffered",
      }),
    );
  const pairs = [
    ...isochrone.filter((server) => server.form === "default"),
    ...nginx.filter((server) => server.form === "tuned"),
  ].map(twoInARow);
  const servers = [...isochrone, ...proxies, ...caches, ...pairs];
  const options = benchOptions(argv, "miss", summary, servers, WORKLOADS, LENGTHS);
  if (options === undefined) return 0;
  const origin = await startOrigin();
  try {
    const result = await measure({
      name: "miss",
      ...options,
      origin,
      setting: { role: "cache", workers: 1 },
      settingOf: (server) => (server.form === PROXY_PASS ? { role: "proxy" } : {}),
    });
    return publish(result, options.out);
  } finally {
    origin.stop();
  }
}
