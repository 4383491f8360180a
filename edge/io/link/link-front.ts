/**
 * Requests that servers of ours send by the link protocol: read here, and answered through the same dispatcher as all others. Who asks is
 * proven by the connection, so that no request has to prove it again.
 */
import { lookup } from "node:dns/promises";
import { isIP, type Socket } from "node:net";
import type { Clock, NodeName } from "#kit";
import type { Logger } from "#kit/io";
import { LinkServer, type LinkRequest, type NodeTrust, UdpEndpoint } from "#transport";
import type { EdgeSettings } from "../../config.ts";
import type { Fields } from "../../core/headers.ts";
import { type Dispatcher, ownAnswer } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { type CheckedRequest, checkRequest, fieldsOf } from "../request-check.ts";
import { flatOf, writeToLink } from "./answer-writer.ts";

/** Ports that are looked at beside a TCP port: two for each worker that there may be. */
const AUTO_PORTS = 128;

export interface LinkFrontOptions {
  readonly trust: NodeTrust;
  /** Whether a server with such a certificate may come, now. */
  readonly mayCome: (name: NodeName) => boolean;
  readonly dispatcher: Dispatcher;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  /** A connection is gone. */
  readonly onGone: () => void;
}

export class LinkFront {
  readonly #o: LinkFrontOptions;
  readonly #server: LinkServer;

  constructor(options: LinkFrontOptions) {
    this.#o = options;
    const { trust, mayCome, settings, metrics, onGone } = options;
    this.#server = new LinkServer({
      trust,
      mayCome,
      handshakesMax: settings.tlsHandshakesMax,
      handshakeTimeoutMs: settings.tlsHandshakeTimeoutMs,
      handle: (request) => void this.#serve(request),
      onGone,
    });
    const server = this.#server;
    metrics.gauge("link_sessions", "Link sessions of servers of ours", () => server.sessions);
    metrics.gauge("link_streams", "Requests that came by link and are being answered", () => server.streams);
    metrics.total("link_sessions_total", "Link sessions begun", () => server.counters.sessions);
    metrics.total("link_requests_total", "Requests that came by link", () => server.counters.requests);
    metrics.total(
      "link_refused_total",
      "Connections that began as a link and did not prove to be of a server of ours",
      () => server.counters.refused,
    );
    metrics.totals(
      "link_session_ends_total",
      "Link sessions ended, by reason; lost: the connection broke",
      "reason",
      () => server.counters.ends,
    );
    metrics.gauge("link_udp_connections", "UDP carriers of links", () => server.udpConnections);
    metrics.total("link_udp_total", "UDP carriers of links begun", () => server.counters.udpOpened);
    metrics.total("link_udp_refused_total", "Those that were too many", () => server.counters.udpRefused);
    metrics.total(
      "link_udp_requests_total",
      "Requests that came by UDP, of those that came by link",
      () => server.counters.udpRequests,
    );
    metrics.total(
      "link_udp_unknown_total",
      "Datagrams that belong to no UDP carrier: late ones, and those of strangers",
      () => server.udp?.counters.unknownDatagrams ?? 0,
    );
    metrics.totals(
      "link_udp_ends_total",
      "UDP carriers of links ended, by reason",
      "reason",
      () => server.counters.udpEnds,
    );
  }

  /** Offers the UDP carrier beside a TCP port, from the next link session on. Never rejects: without it links go on as they are. */
  async openUdp(host: string, tcpPort: number): Promise<void> {
    const { settings, logger } = this.#o;
    if (settings.linkUdp === "off") return;
    const { from, to } =
      settings.linkUdp === "auto"
        ? { from: tcpPort, to: Math.min(tcpPort + AUTO_PORTS - 1, 65_535) }
        : settings.linkUdp;
    try {
      const address = isIP(host) === 0 ? (await lookup(host)).address : host;
      this.#server.setUdp(await UdpEndpoint.bindWithin(address, from, to));
    } catch (error) {
      logger.warn("link-udp-unavailable", {
        ports: `${from}-${to}`,
        consequence: "answers to other servers go by TCP alone",
        error,
      });
    }
  }

  /** Connections, those in their handshake among them. */
  get connections(): number {
    return this.#server.connections;
  }

  /** Takes a connection that begins with `rest`. */
  accept(socket: Socket, rest: Buffer): void {
    this.#server.accept(socket, rest);
  }

  /** Takes nothing new: sessions end when what they have begun is answered. */
  drain(): void {
    this.#server.drain();
  }

  destroy(): void {
    this.#server.destroy();
  }

  /** Ends the sessions of servers that may not come any more. */
  recheck(): void {
    this.#server.recheck();
  }

  async #serve(request: LinkRequest): Promise<void> {
    const { dispatcher, settings, metrics, clock, logger } = this.#o;
    const { method, authority, path } = request.head;
    const startedAt = clock.monotonic();
    dispatcher.begin();
    let isCounted = true;
    let hasBegun = false;
    let timer: NodeJS.Timeout | undefined;
    const write = async (answer: Answer) => {
      hasBegun = true;
      return await writeToLink(request, answer, method, settings.writeStallMs);
    };
    try {
      const fields = [["host", authority] as const, ...fieldsOf(request.head.fields)];
      const checked = checkRequest(method, path, "1.1", fields, settings, "http");
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        await write(ownAnswer(checked.refusedStatus, `Refused: ${checked.message}.\n`));
        return;
      }
      const aborter = new AbortController();
      request.onGone = () => aborter.abort();
      const { body } = request;
      if (body !== undefined) timer = setTimeout(() => request.cut(), settings.requestTimeoutMs);
      body?.once("close", () => clearTimeout(timer));
      // Content whose length nobody has stated is content all the same.
      const withContent: CheckedRequest = { ...checked, hasContent: body !== undefined };
      const inbound = dispatcher.inbound({
        checked: withContent,
        path,
        httpVersion: "1.1",
        // What the client spoke is told by the peer, as over HTTP.
        isTls: false,
        remoteAddress: request.remoteAddress,
        peer: request.peer,
        body,
        signal: aborter.signal,
        startedAt,
        sendInterim: (status, sent) => {
          if (!hasBegun && !request.isGone) sendInterim(request, status, sent);
        },
      });
      // Nobody will read it (RFC 9110, section 9.3.1).
      if (body !== undefined && inbound.body === undefined) body.destroy();
      const found = dispatcher.answer(inbound, checked.host);
      const answer = found instanceof Promise ? await found : found;
      const ttfbMs = clock.monotonic() - startedAt;
      const result = await write(answer);
      isCounted = false;
      dispatcher.end(inbound, answer, result, ttfbMs);
    } catch (error) {
      // A fault of our own, or a head that no link carries. The client gets an answer or a cut stream, never silence.
      logger.error("request-failed", { error });
      await this.#fail(request, method);
    } finally {
      clearTimeout(timer);
      if (isCounted) dispatcher.abandon();
    }
  }

  async #fail(request: LinkRequest, method: string): Promise<void> {
    const answer = ownAnswer(500, "Internal fault.\n");
    try {
      await writeToLink(request, answer, method, this.#o.settings.writeStallMs);
    } catch {
      request.cut();
    }
  }
}

function sendInterim(request: LinkRequest, status: number, fields: Fields): void {
  try {
    request.writeHead(status, flatOf(fields));
  } catch {
    // No link can carry it: nobody waits for one.
  }
}
