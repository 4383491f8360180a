/** The beacon of a node: hands out whom to time, takes the timings, keeps them for the next report. */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import {
  type Clock,
  type ClusterEntry,
  type ClusterId,
  type IpAddress,
  isOneTimeLabel,
  type LabelMac,
  makeOneTimeLabel,
  type NameUsed,
  oneTimeNonceBytes,
  ParseError,
  parseAddress,
  readOneTimeLabel,
  RecentCounts,
  type ServerTiming,
} from "#kit";
import { labelMac } from "#kit/io";
import {
  BEACON_PROBE_PATH,
  beaconCandidates,
  BeaconGate,
  beaconReport,
  type BeaconReport,
  coarseAddress,
  REPORT_BYTES_MAX,
} from "../core/beacon.ts";
import { type Answer, type AnswerRecord, type Inbound, textAnswer } from "./exchange.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { PropertyView } from "./routing.ts";

/** A page that is left open may still answer, ms. */
const TICKET_MS = 120_000;
/** Timings that wait for the next report, a second away; further ones are dropped and counted. */
const WAITING_MAX = 100;
/** Names that are known for used; a label is good for {@link TICKET_MS}. */
const USED_MAX = 8_192;
/** A body that comes slower is not one of a browser, ms. */
const BODY_TIMEOUT_MS = 5_000;

export interface BeaconOptions {
  readonly peerKey: Buffer;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  /** Of the topology in force. */
  readonly topology: () => readonly ClusterEntry[];
  readonly clusterId: () => ClusterId | undefined;
  /** Whether the host is a name that a cluster has for beacons. */
  readonly isProbeHost: (host: string) => boolean;
  /** The clusters that the map ranks for a client, best first. */
  readonly rankingOf: (address: IpAddress, property: PropertyView) => readonly ClusterId[];
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export class Beacon {
  readonly #o: BeaconOptions;
  readonly #key: Buffer;
  readonly #gate = new BeaconGate();
  readonly #random: () => number;
  readonly #labelMac: LabelMac;
  /** Names that are handed out, and so what a network can say of resolvers. */
  readonly #namesGate = new BeaconGate();
  readonly #used = new RecentCounts(USED_MAX);
  #waiting: ServerTiming[] = [];
  #namesWaiting: NameUsed[] = [];

  constructor(options: BeaconOptions) {
    this.#o = options;
    this.#random = options.random ?? Math.random;
    // Every server and worker of the deployment takes every other one's tickets: a page may be answered by another one.
    this.#key = Buffer.from(hkdfSync("sha256", options.peerKey, "", "isochrone beacon tickets v1", 32));
    this.#labelMac = labelMac(options.peerKey);
  }

  /** What was timed since the last call. */
  drain(): readonly ServerTiming[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** Which names that are asked for once were used since the last call, and by whom. */
  drainNames(): readonly NameUsed[] {
    const waiting = this.#namesWaiting;
    this.#namesWaiting = [];
    return waiting;
  }

  /** Answers a request for the beacon's path of a property that has one. */
  answer(inbound: Inbound, property: PropertyView): Answer | Promise<Answer> {
    const record: AnswerRecord = {
      outcome: "bypass",
      status: undefined,
      propertyId: property.propertyId,
      upstream: undefined,
    };
    const { method } = inbound.head;
    if (method === "GET" || method === "HEAD") return this.#handOut(inbound, property, record);
    if (method !== "POST")
      return textAnswer(405, "GET, HEAD and POST are served here.\n", record, [["Allow", "GET, HEAD, POST"]]);
    return this.#take(inbound, record);
  }

  /** Answers what a page times, when it comes by a cluster's own name; undefined: it is something else. */
  answerProbe(inbound: Inbound): Answer | undefined {
    const { head } = inbound;
    const isProbe =
      (head.method === "GET" || head.method === "HEAD") &&
      head.target.split("?", 1)[0] === BEACON_PROBE_PATH &&
      this.#o.isProbeHost(head.host);
    if (!isProbe) return undefined;
    const label = head.host.slice(0, head.host.indexOf(".")).toLowerCase();
    if (isOneTimeLabel(label)) this.#use(label, inbound);
    return probeAnswer();
  }

  /** A name that only its resolver and who was given it know has brought a client here. */
  #use(text: string, inbound: Inbound): void {
    const { metrics, clock } = this.#o;
    const label = readOneTimeLabel(this.#labelMac, text, clock.epoch() / 1_000);
    const address = clientOf(inbound);
    const client = address && coarseAddress(address);
    if (label === undefined || client === undefined || !label.isOf(client)) metrics.beacon("name-refused", 1);
    else if (this.#used.count(label.id) > 1) metrics.beacon("name-repeated", 1);
    else if (this.#namesWaiting.length >= WAITING_MAX) metrics.beacon("name-dropped", 1);
    else {
      metrics.beacon("name-used", 1);
      this.#namesWaiting.push({ id: label.id, client });
    }
  }

  /** Undefined: there is no domain for names, or this client has had enough of them. */
  #nameUrl({ head }: Inbound, { beacon }: PropertyView, address: IpAddress): string | undefined {
    if (beacon?.probeDomain === undefined) return undefined;
    const { clock, metrics } = this.#o;
    const verdict = this.#namesGate.handleReport(address, clock.monotonic());
    metrics.beacon(verdict === "taken" ? "name-handed-out" : "name-limited", 1);
    if (verdict !== "taken") return undefined;
    const endsAtSeconds = Math.ceil((clock.epoch() + TICKET_MS) / 1_000);
    const nonce = randomBytes(oneTimeNonceBytes);
    const label = makeOneTimeLabel(this.#labelMac, coarseAddress(address), endsAtSeconds, nonce);
    return `${head.scheme}://${label}.${beacon.probeDomain}${portOf(head.host)}${BEACON_PROBE_PATH}`;
  }

  #handOut(inbound: Inbound, property: PropertyView, record: AnswerRecord): Answer {
    const address = clientOf(inbound);
    const sampleRatio = property.beacon?.sampleRatio ?? 0;
    const isDrawn = address !== undefined && this.#random() < sampleRatio;
    const urlOf = probeUrls(inbound, property);
    const isSampled = isDrawn && urlOf !== undefined;
    this.#o.metrics.beacon(isSampled ? "handed-out" : isDrawn ? "no-names" : "not-sampled", 1);
    const json = (value: unknown): Answer =>
      textAnswer(200, `${JSON.stringify(value)}\n`, record, [], "application/json");
    if (!isSampled) return json({ isSampled: false });
    const edges = this.#o.topology().filter((one) => one.role === "edge" && one.servers.length > 0);
    const clusterIds = beaconCandidates(
      this.#o.clusterId(),
      this.#o.rankingOf(address, property),
      edges.map((one) => one.clusterId),
      this.#random(),
    );
    const expiresAtEpochMs = Math.round(this.#o.clock.epoch() + TICKET_MS);
    const ticket = {
      expiresAtEpochMs,
      clusterIds,
      proof: this.#proof(address, expiresAtEpochMs, clusterIds),
    };
    const candidates = edges
      .filter((one) => clusterIds.includes(one.clusterId))
      .map((one) => ({ clusterId: one.clusterId, url: urlOf(one) }));
    const nameUrl = this.#nameUrl(inbound, property, address);
    return json({ isSampled: true, candidates, ticket, ...(nameUrl !== undefined && { nameUrl }) });
  }

  async #take(inbound: Inbound, record: AnswerRecord): Promise<Answer> {
    const { metrics, clock } = this.#o;
    const refuse = (status: number, outcome: string, text: string): Answer => {
      metrics.beacon(outcome, 1);
      return textAnswer(status, `${text}\n`, record);
    };
    const address = clientOf(inbound);
    if (address === undefined) return refuse(400, "no-address", "Your address is not known.");
    const body = await readBody(inbound);
    if (body === undefined)
      return refuse(413, "too-large", `At most ${REPORT_BYTES_MAX} bytes, within ${BODY_TIMEOUT_MS} ms.`);
    let report: BeaconReport;
    try {
      report = beaconReport.parse(JSON.parse(body));
    } catch (error) {
      const why = error instanceof ParseError ? error.message : "it is no JSON";
      return refuse(400, "malformed", `This is no report: ${why}`);
    }
    const { expiresAtEpochMs, clusterIds, proof } = report.ticket;
    const expected = Buffer.from(this.#proof(address, expiresAtEpochMs, clusterIds));
    const given = Buffer.from(proof);
    if (given.length !== expected.length || !timingSafeEqual(given, expected))
      return refuse(403, "wrong-ticket", "The ticket is not one of this address.");
    if (clock.epoch() > expiresAtEpochMs) return refuse(403, "expired", "The ticket has expired.");
    if (report.timings.some(({ clusterId }) => !clusterIds.includes(clusterId)))
      return refuse(403, "not-asked", "A timing is of a cluster that the ticket does not name.");
    const verdict = this.#gate.handleReport(address, clock.monotonic());
    if (verdict !== "taken") return refuse(429, verdict, "Enough was reported from here for an hour.");
    this.#keep(report, coarseAddress(address));
    return textAnswer(200, "taken\n", record);
  }

  #keep({ timings }: BeaconReport, from: string): void {
    const clusters = this.#o.topology();
    for (const { clusterId, method, rttMs } of timings) {
      const to = clusters.find((one) => one.clusterId === clusterId)?.servers[0]?.address;
      const isTaken = to !== undefined && this.#waiting.length < WAITING_MAX;
      this.#o.metrics.beacon(isTaken ? "taken" : "dropped", 1);
      if (isTaken) this.#waiting.push({ from, to, method, rttMs });
    }
  }

  /** Of this client's network: addresses of IPv6 change within it while a page is open. */
  #proof(address: IpAddress, expiresAtEpochMs: number, clusterIds: readonly ClusterId[]): string {
    const text = `${coarseAddress(address)} ${expiresAtEpochMs} ${clusterIds.join(" ")}`;
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }
}

function clientOf({ remoteAddress }: Inbound): IpAddress | undefined {
  return parseAddress(remoteAddress.startsWith("::ffff:") ? remoteAddress.slice(7) : remoteAddress);
}

/** Of pages of any origin: an answer of nothing, whose timing they may see (W3C, Resource Timing, section 4.5.1). */
export function probeAnswer(): Answer {
  const record: AnswerRecord = {
    outcome: "admin",
    status: undefined,
    propertyId: undefined,
    upstream: undefined,
  };
  return textAnswer(200, "", record, [
    ["Timing-Allow-Origin", "*"],
    ["Access-Control-Allow-Origin", "*"],
  ]);
}

/**
 * What a page times: under http the address of a cluster's first server, under https the cluster's name, on the port by which the page
 * came: all edges of a deployment have the same one. Undefined: there are no names that a certificate could cover.
 */
function probeUrls(
  { head }: Inbound,
  { beacon }: PropertyView,
): ((cluster: ClusterEntry) => string) | undefined {
  if (head.scheme !== "https")
    return ({ servers }) => {
      const [server] = servers;
      const address = server?.address ?? "";
      return `http://${address.includes(":") ? `[${address}]` : address}:${server?.port ?? 80}${BEACON_PROBE_PATH}`;
    };
  const domain = beacon?.probeDomain;
  const port = portOf(head.host);
  return domain === undefined
    ? undefined
    : ({ clusterId }) => `https://${clusterId}.${domain}${port}${BEACON_PROBE_PATH}`;
}

/** With its colon; empty where the scheme's own is meant. */
function portOf(host: string): string {
  return /:[0-9]{1,5}$/.exec(host)?.[0] ?? "";
}

/** Undefined: too long, too slow, or broken off. */
async function readBody({ body, signal }: Inbound): Promise<string | undefined> {
  if (body === undefined) return "";
  const chunks: Buffer[] = [];
  let bytes = 0;
  const timer = setTimeout(() => body.destroy(new Error("too slow")), BODY_TIMEOUT_MS);
  try {
    for await (const chunk of body) {
      bytes += (chunk as Buffer).length;
      if (bytes > REPORT_BYTES_MAX || signal.aborted) return undefined;
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks).toString("utf8");
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
