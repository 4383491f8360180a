/** The scripted origin on node:http: finds content and script of a request, applies the fault in force, sends. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import xxhash from "xxhash-wasm";
import { type Clock, formatAddress, parseAddress } from "#kit";
import { BearerGate, type Logger, http } from "#kit/io";
import type { ContentKind, World } from "#kit/world";
import { originSettings } from "../config.ts";
import {
  bytesResource,
  type ContentRequest,
  contentAt,
  type Resource,
  textResource,
} from "../core/content.ts";
import { type Fault, FaultSwitch } from "../core/faults.ts";
import { evaluate, httpDate } from "../core/preconditions.ts";
import { parseScript, type Script, ScriptError } from "../core/script.ts";
import { type AdminState, answerAdmin, isAdminPath } from "./admin.ts";
import { OriginMetrics } from "./metrics.ts";
import { RequestLog } from "./request-log.ts";
import { reset, sendBody } from "./send.ts";

export type OriginSettings = { readonly [K in keyof typeof originSettings]: number };

export interface OriginServerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Undefined: generic paths for every host. */
  readonly world?: World | undefined;
  /** Bearer token of the admin surface; undefined: counts, faults and versions are refused. */
  readonly token?: string | undefined;
  readonly settings?: Partial<OriginSettings>;
}

const hasher = await xxhash();

/** One listening origin. */
export class OriginServer {
  readonly #server: Server;
  readonly #settings: OriginSettings;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #contentOfHost: ReadonlyMap<string, ContentKind> | undefined;
  readonly #metrics = new OriginMetrics();
  readonly #faults = new FaultSwitch();
  readonly #log: RequestLog;
  readonly #admin: AdminState;
  #isDraining = false;
  #heldCount = 0;
  #serial = 0;

  constructor(options: OriginServerOptions) {
    this.#settings = { ...originSettings, ...options.settings };
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#contentOfHost = options.world && contentByHost(options.world);
    this.#log = new RequestLog(this.#settings);
    this.#admin = {
      log: this.#log,
      faults: this.#faults,
      metrics: this.#metrics,
      gate: new BearerGate(options.token),
      isReady: () => !this.#isDraining,
      bodyBytesMax: this.#settings.adminBodyBytesMax,
      contentVersion: 1,
    };
    const { headerBytesMax, headersTimeoutMs, keepAliveMs, connectionsMax } = this.#settings;
    this.#server = http.createServer(
      {
        maxHeaderSize: headerBytesMax,
        headersTimeout: headersTimeoutMs,
        // Uploads may be slow on purpose; the head has its own bound and the body is bounded in bytes.
        requestTimeout: this.#settings.hangMsMax + this.#settings.delayMsMax,
        keepAliveTimeout: keepAliveMs,
        connectionsCheckingInterval: 1_000,
        noDelay: true,
      },
      (request, response) => void this.#handle(request, response),
    );
    this.#server.maxConnections = connectionsMax;
  }

  /** Resolves with the bound address; rejects with the system's error (see `listenErrorHint`). */
  listen(host: string, port: number): Promise<{ readonly address: string; readonly port: number }> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, () => {
        this.#server.off("error", reject);
        const { address, port: bound } = this.#server.address() as AddressInfo;
        resolve({ address, port: bound });
      });
    });
  }

  /** Stops taking connections, lets open requests end for `drainMs`, then cuts them. */
  async close(): Promise<void> {
    if (this.#isDraining) return;
    this.#isDraining = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const giveUp = setTimeout(() => this.#server.closeAllConnections(), this.#settings.drainMs);
    await closed;
    clearTimeout(giveUp);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    request.on("error", () => {}); // A client that goes away mid-body is told by "close".
    response.on("error", () => {});
    try {
      const { path, query } = targetOf(request.url ?? "/");
      const host = hostOf(request.headers.host);
      if (isOwnAddress(request) && isAdminPath(path)) {
        await answerAdmin(this.#admin, request, response, path, query);
      } else {
        await this.#content(request, response, host, path, query, gone.signal);
      }
    } catch (error) {
      if (gone.signal.aborted) return;
      this.#logger.error("request-failed", { method: request.method, target: request.url, error });
      if (response.headersSent) reset(response);
      else plain(response, 500, `Cannot answer: ${error instanceof Error ? error.message : "unknown"}\n`);
    }
  }

  async #content(
    request: IncomingMessage,
    response: ServerResponse,
    host: string,
    path: string,
    query: string,
    gone: AbortSignal,
  ): Promise<void> {
    const kind = this.#kindOf(request, host);
    const method = request.method ?? "GET";
    const isConditional =
      request.headers["if-none-match"] !== undefined || request.headers["if-modified-since"] !== undefined;
    const counter = this.#log.count(
      method,
      host,
      request.url ?? "/",
      isConditional,
      request.headers.range !== undefined,
    );
    response.once("close", () => {
      const status = response.headersSent ? response.statusCode : 0;
      this.#metrics.requests.inc({ kind: kind ?? "unknown", status });
      if (status === 304 && counter !== undefined) counter.notModified++;
    });
    const serial = ++this.#serial;
    response.setHeader("origin-serial", serial);
    if (kind === undefined)
      return plain(response, 421, `No property of this world has the host name ${JSON.stringify(host)}\n`);
    let script: Script;
    try {
      script = parseScript(path, query, this.#settings);
    } catch (error) {
      if (!(error instanceof ScriptError)) throw error;
      return plain(response, 400, `${error.message}\n`);
    }
    const fault = this.#faults.meets(host, path);
    if (fault !== undefined) {
      this.#metrics.faults.inc({ kind: fault.kind ?? "none" });
      script = underFault(script, fault);
    }
    if (script.terminal.kind === "hang") {
      // No head at all: the client's own timeout is what ends it; our bound only stops a leak.
      if (await this.#hold(response, this.#settings.hangMsMax, gone)) reset(response);
      return;
    }
    if (script.delayMs > 0 && !(await this.#hold(response, script.delayMs, gone))) return;
    if (script.resetAfterBytes === 0) return reset(response);
    if (fault?.kind === "status") {
      plain(response, script.status ?? 503, `Fault: status ${script.status}\n`);
      return;
    }
    for (const name of script.varyBy) response.appendHeader("vary", name);
    if (script.terminal.kind === "echo") return this.#echo(request, response, script);
    if (method === "OPTIONS") {
      response.writeHead(204, { allow: "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE" });
      response.end();
      return;
    }
    if (method !== "GET" && method !== "HEAD") return this.#unsafe(request, response, script);
    const content: ContentRequest = {
      kind,
      host: script.varyBy.length === 0 ? host : `${host} ${variantOf(script, request)}`,
      path: script.terminal.kind === "content" ? script.terminal.path : path,
      version: this.#admin.contentVersion,
      now: this.#clock.epoch(),
      objectBytesMax: this.#settings.objectBytesMax,
    };
    await this.#represent(request, response, script, resourceOf(script, content, serial), gone);
  }

  /** Undefined: the world has no such host. The origin's own address serves generic paths, for probes and tests. */
  #kindOf(request: IncomingMessage, host: string): ContentKind | "generic" | undefined {
    if (this.#contentOfHost === undefined) return "generic";
    return this.#contentOfHost.get(host) ?? (isOwnAddress(request) ? "generic" : undefined);
  }

  async #represent(
    request: IncomingMessage,
    response: ServerResponse,
    script: Script,
    found: Resource | undefined,
    gone: AbortSignal,
  ): Promise<void> {
    const status = script.status ?? (found === undefined ? 404 : 200);
    const resource = found ?? {
      ...textResource("text/plain; charset=utf-8", "Not found\n"),
      cacheControl: status === 404 ? "max-age=10" : null,
    };
    const isGet = request.method === "GET";
    const validators = script.hasValidators && status === 200 ? resource : { etag: null, lastModified: null };
    setMetadata(
      response,
      script,
      resource,
      validators.etag,
      validators.lastModified === null ? null : httpDate(validators.lastModified),
    );
    const length = resource.body.length;
    const fields = (name: string) => request.headersDistinct[name]?.join(", ");
    // Preconditions are about what would be answered 200 (RFC 9110 section 13.2.1).
    const verdict =
      status === 200 ? evaluate(fields, isGet, validators, length) : ({ kind: "whole" } as const);
    let start = 0;
    let end = length;
    response.statusCode = status;
    switch (verdict.kind) {
      case "not-modified":
        response.statusCode = 304;
        response.removeHeader("content-type");
        response.end();
        return;
      case "precondition-failed":
        return plain(response, 412, "A precondition failed\n");
      case "unsatisfiable":
        response.setHeader("content-range", `bytes */${length}`);
        return plain(response, 416, "No such range\n");
      case "part":
        start = verdict.first;
        end = verdict.last + 1;
        response.statusCode = 206;
        response.setHeader("content-range", `bytes ${start}-${verdict.last}/${length}`);
        break;
      case "whole":
        break;
    }
    if (status === 204 || status === 304) {
      response.removeHeader("content-type");
      response.end();
      return;
    }
    if (!script.isChunked) response.setHeader("content-length", end - start);
    if (!isGet) {
      response.end();
      return;
    }
    const { resetAfterBytes, bytesPerSecond } = script;
    await sendBody(response, {
      body: resource.body,
      start,
      end,
      resetAfterBytes,
      bytesPerSecond,
      signal: gone,
      onBytes: (bytes) => this.#count(bytes),
    });
  }

  #count(bytes: number): void {
    this.#log.sent(bytes);
    this.#metrics.bodyBytes.inc(bytes);
  }

  /** What arrived: method, target, fields as sent, length and xxHash of the body, read as a stream. */
  async #echo(request: IncomingMessage, response: ServerResponse, script: Script): Promise<void> {
    const read = await this.#drain(request, response);
    if (read === undefined) return;
    const headers: [string, string][] = [];
    for (let at = 0; at + 1 < request.rawHeaders.length; at += 2)
      headers.push([request.rawHeaders[at] ?? "", request.rawHeaders[at + 1] ?? ""]);
    const answer = {
      method: request.method,
      target: request.url,
      httpVersion: request.httpVersion,
      headers,
      trailers: request.trailers,
      ...read,
    };
    const body = Buffer.from(`${JSON.stringify(answer)}\n`);
    setMetadata(
      response,
      script,
      { ...textResource("application/json", ""), cacheControl: "no-store" },
      null,
      null,
    );
    response.statusCode = script.status ?? 200;
    if (script.isChunked) response.flushHeaders();
    else response.setHeader("content-length", body.length);
    response.end(request.method === "HEAD" ? undefined : body);
    this.#count(body.length);
  }

  /** Content takes any unsafe method and does nothing: what matters is what caches on the way do (RFC 9111 section 4.4). */
  async #unsafe(request: IncomingMessage, response: ServerResponse, script: Script): Promise<void> {
    if ((await this.#drain(request, response)) === undefined) return;
    setMetadata(response, script, textResource("text/plain", ""), null, null);
    response.removeHeader("content-type");
    response.statusCode = script.status ?? 204;
    response.end();
  }

  /** Undefined: the body was too long, and that was answered. */
  async #drain(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<{ bodyBytes: number; bodyXxh64: string } | undefined> {
    const hash = hasher.create64();
    let bodyBytes = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bodyBytes += chunk.length;
      if (bodyBytes > this.#settings.requestBodyBytesMax) {
        this.#metrics.refused.inc({ limit: "requestBodyBytesMax" });
        response.setHeader("connection", "close");
        plain(response, 413, `A body of more than ${this.#settings.requestBodyBytesMax} bytes\n`);
        return undefined;
      }
      hash.update(chunk);
    }
    return { bodyBytes, bodyXxh64: hash.digest().toString(16).padStart(16, "0") };
  }

  /** Waits; false: the client went away or too many are held, which was answered. */
  async #hold(response: ServerResponse, ms: number, gone: AbortSignal): Promise<boolean> {
    if (this.#heldCount >= this.#settings.heldRequestsMax) {
      this.#metrics.refused.inc({ limit: "heldRequestsMax" });
      plain(response, 503, "Too many requests are held\n");
      return false;
    }
    this.#metrics.held.set(++this.#heldCount);
    try {
      await sleep(ms, undefined, { signal: gone });
      return true;
    } catch {
      return false;
    } finally {
      this.#metrics.held.set(--this.#heldCount);
    }
  }
}

function contentByHost(world: World): ReadonlyMap<string, ContentKind> {
  const properties = world.customers.flatMap((customer) => customer.properties);
  return new Map(
    properties.flatMap((one) => one.hostnames.map((name) => [name, one.content ?? "static"] as const)),
  );
}

function resourceOf(script: Script, content: ContentRequest, serial: number): Resource | undefined {
  const { terminal } = script;
  if (terminal.kind === "bytes") return bytesResource(content, terminal.length);
  if (terminal.kind === "serial") return textResource("text/plain; charset=utf-8", `${serial}\n`);
  return contentAt(content);
}

function underFault(script: Script, fault: Fault): Script {
  switch (fault.kind) {
    case "hang":
      return { ...script, terminal: { kind: "hang" } };
    case "reset":
      return { ...script, resetAfterBytes: 0 };
    case "status":
      return { ...script, status: fault.status ?? 503 };
    case "slow":
      return { ...script, bytesPerSecond: fault.bytesPerSecond ?? 1 };
    case "delay":
      return { ...script, delayMs: Math.max(script.delayMs, fault.delayMs ?? 0) };
    case null:
      return script;
  }
}

/** The values of the fields that the answer varies by, so that each variant has a body and tag of its own. */
function variantOf(script: Script, request: IncomingMessage): string {
  return script.varyBy.map((name) => `${name}=${request.headersDistinct[name]?.join(", ") ?? ""}`).join(";");
}

function setMetadata(
  response: ServerResponse,
  script: Script,
  resource: Resource,
  etag: string | null,
  lastModified: string | null,
): void {
  response.setHeader("content-type", resource.contentType);
  const cacheControl = script.cacheControl ?? resource.cacheControl;
  if (cacheControl !== null && cacheControl !== "") response.setHeader("cache-control", cacheControl);
  if (etag !== null) response.setHeader("etag", etag);
  if (lastModified !== null) response.setHeader("last-modified", lastModified);
  if (etag !== null) response.setHeader("accept-ranges", "bytes");
  const tags = script.tags ?? resource.tags;
  if (tags.length > 0) {
    response.setHeader("surrogate-key", tags.join(" "));
    response.setHeader("cache-tag", tags.join(","));
  }
  for (const [name, value] of script.fields) response.appendHeader(name, value);
}

function plain(response: ServerResponse, status: number, body: string): void {
  response.statusCode = status;
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.setHeader("content-length", Buffer.byteLength(body));
  response.end(response.req.method === "HEAD" ? undefined : body);
}

/** Origin-form or absolute-form (RFC 9112 section 3.2). */
function targetOf(target: string): { readonly path: string; readonly query: string } {
  const [, rest = target] = /^https?:\/\/[^/?#]*(.*)$/i.exec(target) ?? [];
  const at = rest.indexOf("?");
  const path = at < 0 ? rest : rest.slice(0, at);
  return { path: path.startsWith("/") ? path : `/${path}`, query: at < 0 ? "" : rest.slice(at + 1) };
}

/** Host without port, lower case; IPv6 literals without brackets. */
function hostOf(host: string | undefined): string {
  const [, literal, name] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::[0-9]{1,5})?$/.exec(host ?? "") ?? [];
  return (literal ?? name ?? "").toLowerCase();
}

/** Whether Host is the address that the connection came in on, with its port where that is not 80. */
function isOwnAddress(request: IncomingMessage): boolean {
  const { localAddress, localPort } = request.socket;
  const own = parseAddress((localAddress ?? "").replace(/^::ffff:/, ""));
  const asked = parseAddress(hostOf(request.headers.host));
  if (own === undefined || asked === undefined || formatAddress(own) !== formatAddress(asked)) return false;
  return Number(/:([0-9]{1,5})$/.exec(request.headers.host ?? "")?.[1] ?? 80) === localPort;
}
