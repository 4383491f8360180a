/** `npm run lab -- smuggling`: every smuggling vector through the edge, nginx and Varnish to an origin that reads strictly. */
import { parseArgs } from "node:util";
import { type Peer, startNginx, startVarnish } from "../tools/hostile/peers.ts";
import { type DirtyForward, RecordingOrigin } from "../tools/hostile/recording-origin.ts";
import { DELIVERIES, type Delivery, runSmuggling, type SmugglingReport } from "../tools/hostile/smuggling.ts";
import { smugglingVectors, type Vector } from "../tools/hostile/vectors.ts";
import { startIsochrone } from "../tools/processes.ts";
import { wholeNumber } from "../tools/flags.ts";

export const summary = "request smuggling: what a proxy forwards of thousands of malformed requests";

const HELP = `Usage: npm run lab -- smuggling [options]

Sends every vector in every delivery and prints, for each proxy: payloads, dirty forwards (bytes that a strict reader of
RFC 9112 refuses, or requests that the client did not send), answers and refusals by status. Exit code 1: the edge has one.

  --only CLASS         one class of vectors
  --delivery LIST      of ${DELIVERIES.join(",")} (default all)
  --connections N      at once (default 64)
  --no-peers           the edge alone
  --examples N         dirty forwards shown of each proxy (default 10)
`;

interface Subject {
  readonly name: string;
  readonly port: number;
  stop(): Promise<unknown>;
}

async function startEdge(originPort: number): Promise<Subject> {
  const edge = await startIsochrone([
    "edge",
    "--listen",
    "127.0.0.1:0",
    "--origin",
    `http://127.0.0.1:${originPort}`,
  ]);
  const port = Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]);
  return { name: "isochrone", port, stop: () => edge.stop() };
}

const STARTERS: readonly ((originPort: number) => Promise<Subject | Peer | undefined>)[] = [
  startEdge,
  startNginx,
  startVarnish,
];

/** Rules of the recording origin's own; every other one is the strict reader's. */
const NOT_SENT = /client|vector/;

function byRule(found: readonly DirtyForward[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { rule } of found) counts[rule] = (counts[rule] ?? 0) + 1;
  return counts;
}

function shown(report: SmugglingReport, vectors: readonly Vector[], examples: number) {
  const all = [...report.dirty, ...report.unclean, ...report.dirtyAnswers];
  const named = new Map(vectors.map((vector) => [vector.id, vector]));
  return {
    payloads: report.payloads,
    dirty: report.dirty.length,
    refusedByStrictReader: report.dirty.filter(({ rule }) => !NOT_SENT.test(rule)).length,
    notSentByClient: report.dirty.filter(({ rule }) => NOT_SENT.test(rule)).length,
    dirtyVectors: new Set(report.dirty.map(({ id }) => id)).size,
    dirtyByRule: byRule(report.dirty),
    hopByHopForwarded: byRule(report.unclean),
    dirtyAnswers: byRule(report.dirtyAnswers),
    answered: report.answered,
    unanswered: report.unanswered,
    byStatus: report.byStatus,
    forwarded: report.forwarded,
    forwardedBytes: report.forwardedBytes,
    seconds: report.seconds,
    examples: all.slice(0, examples).map(({ id, rule, bytes }) => ({
      rule,
      vector: id === undefined ? undefined : `${named.get(id)?.class}: ${named.get(id)?.name}`,
      bytes,
    })),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: "string" },
      delivery: { type: "string", default: DELIVERIES.join(",") },
      connections: { type: "string", default: "64" },
      "no-peers": { type: "boolean", default: false },
      examples: { type: "string", default: "10" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const connections = wholeNumber("connections", values.connections, 1, 10_000);
  const examples = wholeNumber("examples", values.examples, 0, 100_000);
  const wanted = values.delivery.split(",");
  const deliveries = DELIVERIES.filter((delivery: Delivery) => wanted.includes(delivery));
  const vectors = smugglingVectors().filter(
    (vector) => values.only === undefined || vector.class === values.only,
  );
  if (vectors.length === 0 || deliveries.length === 0) {
    console.error("smuggling: nothing to send, see --help");
    return 2;
  }
  const results: Record<string, ReturnType<typeof shown>> = {};
  for (const start of values["no-peers"] ? STARTERS.slice(0, 1) : STARTERS) {
    const origin = new RecordingOrigin();
    await origin.start();
    const subject = await start(origin.port);
    if (subject !== undefined) {
      console.error(`smuggling: ${vectors.length} vectors x ${deliveries.length} through ${subject.name}`);
      const report = await runSmuggling({
        port: subject.port,
        origin,
        vectors,
        deliveries: () => deliveries,
        connections,
      });
      results[subject.name] = shown(report, vectors, examples);
      await subject.stop();
    }
    await origin.stop();
  }
  console.log(JSON.stringify({ vectors: vectors.length, deliveries, proxies: results }, undefined, 2));
  const own = results["isochrone"];
  const faults =
    (own?.dirty ?? 0) +
    Object.values(own?.dirtyAnswers ?? {}).length +
    Object.values(own?.hopByHopForwarded ?? {}).length;
  return faults === 0 ? 0 : 1;
}
