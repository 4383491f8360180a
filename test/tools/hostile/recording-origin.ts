/**
 * An origin that reads every byte that a proxy forwards by the strict reader, and holds each request against what the client
 * of that vector may be taken to have sent. Whatever does not fit is a dirty forward.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { type ReadRequest, readRequest, readRequests } from "./strict-http.ts";

/** A forward that must not have happened. */
export interface DirtyForward {
  readonly id: number | undefined;
  readonly rule: string;
  /** The first bytes of it, quoted. */
  readonly bytes: string;
}

/** What one vector may be taken to say: the request that each letter names. */
export interface Permitted {
  readonly requests: readonly (readonly [letter: string, request: ReadRequest])[];
  /** A request whose head is whole and whose content never came to its end; it may be begun, not completed. */
  readonly begun: string | undefined;
  /** Whether what follows them can be no request. */
  readonly isFaulty: boolean;
}

const NAME = /v([0-9]{5})([a-ew])/;
const EXCERPT_CHARACTERS = 300;
/** Fields for one connection that a proxy must take off, whatever the client says (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = /^(?:keep-alive|proxy-connection|te|trailer|upgrade|http2-settings|proxy-authorization)$/;

/** Vector and letter that a head names: in its target, else anywhere. */
function nameOf(head: string, target = ""): { readonly id: number; readonly letter: string } | undefined {
  const match = NAME.exec(target) ?? NAME.exec(head);
  return match === null ? undefined : { id: Number(match[1]), letter: match[2] ?? "" };
}

const headOf = (request: ReadRequest): string =>
  `${request.method} ${request.target}\n${request.fields.map((field) => field.join(": ")).join("\n")}`;

/** Reads the client's bytes as generously as RFC 9112 lets anyone. */
export function permittedOf(bytes: string): Permitted {
  const { requests, tail } = readRequests(bytes, "permitted");
  return {
    requests: requests.map((request) => [nameOf(headOf(request), request.target)?.letter ?? "", request]),
    begun: tail?.head === undefined ? undefined : nameOf(tail.head)?.letter,
    isFaulty: tail?.kind === "fault",
  };
}

export class RecordingOrigin {
  readonly dirty: DirtyForward[] = [];
  /** Fields that should have been taken off: not refused by a strict reader, but not for an origin to see. */
  readonly unclean: DirtyForward[] = [];
  forwarded = 0;
  bytesRead = 0;
  port = 0;
  /** What may arrive, by vector; set before the vector is sent. */
  readonly permitted = new Map<number, Permitted>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server = createServer((socket) => this.#serve(socket));

  async start(): Promise<void> {
    this.#server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 });
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let pending = "";
    let isOver = false;
    socket.on("data", (chunk: Buffer) => {
      if (isOver) return;
      this.bytesRead += chunk.byteLength;
      pending += chunk.toString("latin1");
      let at = 0;
      while (at < pending.length) {
        const step = readRequest(pending, at, "strict");
        if (step.kind === "incomplete") break;
        if (step.kind === "fault") {
          const excerpt = pending.slice(at);
          this.dirty.push(dirtyOf(nameOf(excerpt)?.id, step.rule, excerpt));
          isOver = true;
          socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
          return;
        }
        const text = pending.slice(at, step.next);
        at = step.next;
        this.#judge(step.request, text);
        answer(socket, step.request);
      }
      pending = pending.slice(at);
    });
  }

  #judge(request: ReadRequest, text: string): void {
    this.forwarded += 1;
    const name = nameOf(headOf(request), request.target);
    const rule = this.#ruleBroken(request, name);
    if (rule !== undefined) this.dirty.push(dirtyOf(name?.id, rule, text));
    const hop = request.fields.find(
      ([field, value]) =>
        HOP_BY_HOP.test(field.toLowerCase()) ||
        (field.toLowerCase() === "connection" && !/^(?:close|keep-alive)$/i.test(value)),
    );
    if (hop !== undefined) this.unclean.push(dirtyOf(name?.id, `hop-by-hop field ${hop[0]}`, text));
  }

  #ruleBroken(request: ReadRequest, name: ReturnType<typeof nameOf>): string | undefined {
    // OPTIONS * has no room for a name.
    if (name === undefined) return request.target === "*" ? undefined : "a request that no vector names";
    const permitted = this.permitted.get(name.id);
    if (permitted === undefined) return "a request of a vector that was not sent";
    const isPlainRead = request.method === "GET" || request.method === "HEAD";
    // Content of a GET has no meaning: a proxy need not wait for the end of what it drops.
    if (isPlainRead && request.content === "" && permitted.begun === name.letter) return undefined;
    const meant = permitted.requests.filter(([letter]) => letter === name.letter).map(([, it]) => it);
    if (meant.length === 0)
      return permitted.begun === name.letter
        ? "a request was completed that the client had not ended"
        : "a request that the client did not send";
    if (
      !meant.some((it) => it.method === request.method || (it.method === "HEAD" && request.method === "GET"))
    )
      return "another method than the client's";
    if (!meant.some((it) => it.content === request.content || (isPlainRead && request.content === "")))
      return "other content than the client's";
    return undefined;
  }
}

function dirtyOf(id: number | undefined, rule: string, text: string): DirtyForward {
  return { id, rule, bytes: JSON.stringify(text.slice(0, EXCERPT_CHARACTERS)) };
}

/** Says back which request it answers, so that a client sees when it gets another's answer. */
function answer(socket: Socket, request: ReadRequest): void {
  const echo = NAME.exec(request.target)?.[0] ?? NAME.exec(headOf(request))?.[0] ?? "none";
  const content = request.method === "HEAD" ? "" : echo;
  socket.write(
    `HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nX-Echo: ${echo}\r\nContent-Length: ${echo.length}\r\n\r\n${content}`,
  );
}
