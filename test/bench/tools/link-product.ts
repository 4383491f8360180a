/** What one server of ours asks another one by, and what that one answers with, all of it: transport on one end, an edge's front on the other. */
import { type ClusterId, type ServerId, type TopologyDocument, topologyDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { edgeDefaults, EdgeMetrics, EdgeServer, type Field, ObjectBody } from "#edge";
import { type NodeTrust, PeerVerifier, Transport } from "#transport";

/** Of benches alone. */
const PEER_KEY = Buffer.alloc(32, 1);
/** Requests that open all sessions, and at once. */
const WARM_ROUNDS = 50;
const WARM_AT_ONCE = 64;
const logger = createLogger({ role: "bench", id: "link" }, { level: "silent" });

function pairs(flat: readonly string[]): Field[] {
  const list: Field[] = [];
  for (let at = 0; at < flat.length; at += 2) list.push([flat[at] as string, flat[at + 1] as string]);
  return list;
}

/** An edge and a parent, which listens on `port`. */
export function benchTopology(port: number): TopologyDocument {
  const site = (clusterId: string, role: string, at: number) => ({
    clusterId,
    regionId: "r",
    role,
    city: clusterId,
    coordinates: { latitude: 0, longitude: 0 },
    servers: [{ serverId: `${clusterId}-1`, address: "127.0.0.1", port: at }],
  });
  return topologyDocument.parse({
    name: "bench",
    clusters: [site("edge", "edge", 1), site("parent", "parent", port)],
    nameService: { zones: [], nameServers: [] },
  });
}

/** An edge's front whose handler has the answer. Resolves with the port. */
export async function serveProduct(
  answerFields: readonly string[],
  content: Buffer,
  trust: NodeTrust,
): Promise<number> {
  const fields = pairs(answerFields);
  const record = { outcome: "hit", status: undefined, propertyId: undefined, upstream: undefined } as const;
  const body = ObjectBody.of([content]);
  const server = new EdgeServer({
    handle: () => ({ status: 200, fields, body: body.read(), bodyBytes: content.byteLength, record }),
    admin: undefined,
    verifier: new PeerVerifier({ key: PEER_KEY, clock: systemClock }),
    link: { trust, mayCome: () => true },
    settings: edgeDefaults,
    clock: systemClock,
    metrics: new EdgeMetrics(),
    logger,
    onServed: undefined,
  });
  return await server.listen("127.0.0.1", 0);
}

/** Transport as an edge has it. Resolves when it asks in the way that it is to. */
export async function productAsker(
  port: number,
  isByLink: boolean,
  requestFields: readonly string[],
  trust: NodeTrust,
) {
  const transport = new Transport({
    selfServerId: "edge-1" as ServerId,
    selfClusterId: "edge" as ClusterId,
    topology: benchTopology(port),
    peerKey: PEER_KEY,
    trust,
    clock: systemClock,
    logger,
    settings: { link: isByLink },
  });
  const target = { kind: "server", serverId: "parent-1" as ServerId } as const;
  const headers = [["Host", "edge.test"] as const, ...pairs(requestFields)];
  const wanted = isByLink ? "link" : "http/1.1";
  const ask = async (path: string): Promise<{ readonly protocol: string; readonly bytes: number }> => {
    const response = await transport.request(target, { method: "GET", path, headers });
    const { status, protocol, body } = response;
    if (status !== 200) throw new Error(`A wrong answer: status ${status}`);
    let bytes = 0;
    // As a fill takes what is here already.
    if (response.isWhole === true)
      for (let piece = body.read() as Buffer | null; piece !== null; piece = body.read() as Buffer | null)
        bytes += piece.byteLength;
    else for await (const piece of body) bytes += (piece as Buffer).byteLength;
    return { protocol, bytes };
  };
  while ((await ask("/warm")).protocol !== wanted) await new Promise((resolve) => setTimeout(resolve, 10));
  for (let round = 0; round < WARM_ROUNDS; round++)
    await Promise.all(Array.from({ length: WARM_AT_ONCE }, async () => await ask("/warm")));
  return {
    load: async (count: number, concurrency: number, bytes: number): Promise<void> => {
      let begun = 0;
      const one = async (): Promise<void> => {
        while (begun < count) {
          const answer = await ask(`/assets/${begun++}.html`);
          if (answer.protocol !== wanted || answer.bytes !== bytes)
            throw new Error(`A wrong answer: by ${answer.protocol}, ${answer.bytes} bytes`);
        }
      };
      await Promise.all(Array.from({ length: concurrency }, one));
    },
    stop: async (): Promise<void> => await transport.close(),
  };
}
