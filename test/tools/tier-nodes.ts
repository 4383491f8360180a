/**
 * The servers of a tier world in one process: whole edges of the product but for their sockets. What one asks of another is
 * handed over, and the origin is a function. A server can be killed as a process would be: what it was sending breaks off, and
 * nobody can connect to it; who has noticed is up to the test.
 */
import { Readable } from "node:stream";
import { IsochroneError, mapSnapshot, propertyDocument, type ServerId, topologyDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { type Answer, Edge, edgeDefaults, type EdgeSettings, NodeRouting, type Upstream } from "#edge";
import type { TransportRequest, TransportResponse } from "#transport";
import { HOST, type TierWorld, tierWorld } from "./tier-world.ts";

type Headers = TransportRequest["headers"];

export interface TierNodesOptions {
  readonly edgeClusters: number;
  readonly edgesPerCluster: number;
  readonly parents: number;
  readonly serversPerParent?: number;
  readonly origin: (request: TransportRequest) => TransportResponse | Promise<TransportResponse>;
  readonly settingsOf?: (serverId: ServerId) => Partial<EdgeSettings>;
  /** The map that a server has of `map`; by default all have that one. */
  readonly mapOf?: (serverId: ServerId, map: TierWorld["map"]) => Record<string, unknown>;
  /** Whether one server takes another for one that lives. */
  readonly isUp?: (serverId: ServerId) => boolean;
}

export class TierNodes {
  readonly #nodes = new Map<ServerId, Edge>();
  readonly #sending = new Map<ServerId, Set<Readable>>();
  readonly #dead = new Set<ServerId>();
  readonly edges: readonly ServerId[];

  constructor(options: TierNodesOptions) {
    const { isUp = () => true, settingsOf = () => ({}), mapOf = (_, map) => map } = options;
    // Each address once: an origin's tells in which cluster it stands.
    let port = 1;
    const world = tierWorld({ ...options, originPort: port, portOf: () => ++port });
    const topology = topologyDocument.parse(world.topology);
    const property = propertyDocument.parse(world.property);
    for (const serverId of Object.values(world.servers).flat() as ServerId[]) {
      const settings = { ...edgeDefaults, ...settingsOf(serverId) };
      const routing = new NodeRouting(serverId, topology, settings, isUp);
      routing.setSnapshot(mapSnapshot.parse(mapOf(serverId, world.map)));
      routing.setProperty(property);
      this.#sending.set(serverId, new Set());
      this.#nodes.set(
        serverId,
        new Edge({
          settings,
          clock: systemClock,
          logger: createLogger({ role: "edge", id: serverId }, { level: "silent" }),
          cacheName: serverId,
          routing,
          upstream: this.#upstream(serverId, options),
        }),
      );
    }
    this.edges = Array.from(this.#nodes.keys()).filter((id) => id.startsWith("e"));
  }

  /** What an edge answers a client. */
  ask(serverId: ServerId, path: string, headers: Headers = []): Promise<Answer> {
    return this.#handle(serverId, path, undefined, headers);
  }

  /** Ends a server: what it sends breaks off half-way. */
  kill(serverId: ServerId): void {
    this.#dead.add(serverId);
    for (const body of this.#sending.get(serverId) ?? []) body.destroy(gone(serverId));
  }

  async close(): Promise<void> {
    for (const edge of this.#nodes.values()) await edge.close();
  }

  async #handle(
    serverId: ServerId,
    target: string,
    peer: ServerId | undefined,
    headers: Headers,
  ): Promise<Answer> {
    const edge = this.#nodes.get(serverId);
    if (edge === undefined || this.#dead.has(serverId)) throw gone(serverId);
    const value = (name: string): string | undefined => headers.find(([one]) => one === name)?.[1];
    return await edge.handle({
      head: {
        method: "GET",
        scheme: "http",
        host: HOST,
        target,
        fields: headers.filter(([name]) => !name.startsWith("Isochrone-")),
      },
      httpVersion: "1.1",
      remoteAddress: "192.0.2.1",
      body: undefined,
      bodyBytes: undefined,
      signal: new AbortController().signal,
      peer,
      hop: {
        tier: peer === undefined ? undefined : Number(value("Isochrone-Tier") ?? "0"),
        isOwner: value("Isochrone-Owner") === "1",
      },
      requestId: "replayed0",
      receivedAt: systemClock.epoch(),
      startedAt: systemClock.monotonic(),
    });
  }

  #upstream(self: ServerId, { origin }: TierNodesOptions): Upstream {
    return {
      request: async (target, request) => {
        if (this.#dead.has(self)) throw gone(self);
        if (target.kind === "origin") return await origin(request);
        const { serverId } = target;
        // What is asked at once is on its way at once: else the first would be through before the second begins.
        await turn();
        const answer = await this.#handle(serverId, request.path, self, request.headers);
        await turn();
        if (this.#dead.has(serverId)) throw gone(serverId);
        const body = Readable.from(answer.body ?? []);
        const sending = this.#sending.get(serverId);
        sending?.add(body);
        body.once("close", () => sending?.delete(body));
        const { bodyBytes } = answer;
        const length = bodyBytes === undefined ? [] : [["Content-Length", String(bodyBytes)] as const];
        return transportResponse(answer.status, body, [...answer.fields, ...length]);
      },
      explainPath: () => {
        throw new Error("Nobody explains here");
      },
      linkReports: () => [],
      isServerUp: () => true,
      takeRetry: () => true,
      origins: { order: () => undefined, states: () => undefined, isRepeated: () => false },
    };
  }
}

/** A part of the way, in which others go theirs. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function gone(serverId: ServerId): IsochroneError {
  return new IsochroneError(`Server "${serverId}" is gone`, {
    code: "connection-lost",
    source: "upstream",
    retry: "safe",
  });
}

export function transportResponse(status: number, body: Readable, headers: Headers): TransportResponse {
  return {
    status,
    headers,
    body,
    path: { via: null, reason: "only-path" },
    protocol: "http/1.1",
    timings: { connectMs: 0, ttfbMs: 0, attempts: 1 },
    trailers: () => [],
    resumes: () => 0,
  };
}

/** First and last byte that a request asks for of `totalBytes`, and whether it is a part. */
export function askedSpan(
  { headers }: TransportRequest,
  totalBytes: number,
): { readonly first: number; readonly last: number; readonly isPart: boolean } {
  const range = headers.find(([name]) => name === "Range")?.[1];
  const [, first = "0", last = ""] = /^bytes=([0-9]+)-([0-9]*)$/.exec(range ?? "") ?? [];
  const end = last === "" ? totalBytes - 1 : Math.min(Number(last), totalBytes - 1);
  return { first: Number(first), last: end, isPart: range !== undefined };
}
