/** Clients that hold a server up: they say little, read little, or ask for too much. Counted at the client. */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";

/** What became of a set of connections. */
export interface HeldReport {
  readonly connections: number;
  /** Connections that could not be made, or were closed before they had said anything. */
  readonly refused: number;
  /** Closed by the server, and how many of these within each limit. */
  readonly closed: number;
  readonly closedWithinMs: Readonly<Record<string, number>>;
  /** Time from the connection to its end, of those that were closed. */
  readonly p50Ms: number | undefined;
  readonly maxMs: number | undefined;
  /** Last status line's code, or "none". */
  readonly byStatus: Readonly<Record<string, number>>;
}

/** Each connection comes from one of these addresses, so that local ports do not run out. */
const SOURCES = 8;

interface Held {
  readonly socket: Socket;
  readonly startedMs: number;
  said: string;
  closedMs: number | undefined;
  isConnected: boolean;
}

export interface HoldOptions {
  readonly port: number;
  readonly connections: number;
  /** Said at once. */
  readonly opening: (index: number) => string;
  /** Said every `everyMs` after that, until the end. Undefined: nothing. */
  readonly drip?: { readonly everyMs: number; readonly text: (index: number) => string } | undefined;
  /** Whether what the server says is read; else the socket is never read from. */
  readonly isReading: boolean;
  /** How long the connections are watched, ms. */
  readonly watchMs: number;
  /** Limits that are counted, ms. */
  readonly limitsMs: readonly number[];
  /** Connections opened in a second. */
  readonly perSecond: number;
}

/** Opens connections, holds them, and closes what is left in the end. */
export async function hold(options: HoldOptions): Promise<HeldReport> {
  const held: Held[] = [];
  const timers: NodeJS.Timeout[] = [];
  const { drip } = options;
  for (let index = 0; index < options.connections; index += 1) {
    held.push(open(options, index));
    if (drip !== undefined) {
      const { socket } = held[index] as Held;
      // The first one after a part of the time, so that they do not all speak at once.
      const timer = setTimeout(
        () => {
          const say = (): void => {
            if (!socket.connecting && socket.writable) socket.write(drip.text(index), "latin1");
          };
          say();
          timers.push(setInterval(say, drip.everyMs));
        },
        drip.everyMs * (1 + (index % 100) / 100),
      );
      timers.push(timer);
    }
    if (index % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 50_000 / options.perSecond));
  }
  const endMs = performance.now() + options.watchMs;
  while (performance.now() < endMs && held.some(({ closedMs }) => closedMs === undefined)) {
    await new Promise((resolve) => setTimeout(resolve, options.isReading ? 100 : 500));
    if (!options.isReading) lookAtUnread(held);
  }
  for (const timer of timers) clearTimeout(timer);
  const report = reportOf(held, options.limitsMs);
  for (const { socket } of held) socket.destroy();
  return report;
}

const ESTABLISHED = "01";

/** The system knows of a reset that a socket which is not read from does not tell. */
function lookAtUnread(held: readonly Held[]): void {
  const established = new Set<string>();
  for (const line of readFileSync("/proc/net/tcp", "latin1").split("\n")) {
    const [, local, , state] = line.trim().split(/\s+/);
    if (local !== undefined && state === ESTABLISHED) established.add(local);
  }
  const nowMs = performance.now();
  for (const one of held) {
    if (one.closedMs !== undefined || !one.isConnected) continue;
    const { localAddress = "", localPort = 0 } = one.socket;
    const address = localAddress.split(".").map((part) => Number(part).toString(16).padStart(2, "0"));
    const name = `${address.toReversed().join("")}:${localPort.toString(16).padStart(4, "0")}`.toUpperCase();
    if (!established.has(name)) one.closedMs = nowMs - one.startedMs;
  }
}

function open(options: HoldOptions, index: number): Held {
  const socket = connect({
    port: options.port,
    host: "127.0.0.1",
    localAddress: `127.0.0.${2 + (index % SOURCES)}`,
    noDelay: true,
  });
  const one: Held = {
    socket,
    startedMs: performance.now(),
    said: "",
    closedMs: undefined,
    isConnected: false,
  };
  if (options.isReading)
    socket.on("data", (bytes: Buffer) => {
      one.said = `${one.said}${bytes.toString("latin1", 0, 200)}`.slice(0, 200);
    });
  else socket.pause();
  socket.on("error", () => {});
  const over = (): void => {
    one.closedMs ??= performance.now() - one.startedMs;
  };
  socket.on("end", () => {
    over();
    socket.destroy();
  });
  socket.on("close", over);
  socket.on("connect", () => {
    one.isConnected = true;
    const opening = options.opening(index);
    if (opening !== "") socket.write(opening, "latin1");
  });
  return one;
}

function reportOf(held: readonly Held[], limitsMs: readonly number[]): HeldReport {
  const times = held
    .flatMap(({ closedMs }) => (closedMs === undefined ? [] : [closedMs]))
    .toSorted((a, b) => a - b);
  const byStatus: Record<string, number> = {};
  for (const { said } of held) {
    const status = /^HTTP\/1\.1 ([0-9]{3})/.exec(said)?.[1] ?? "none";
    byStatus[status] = (byStatus[status] ?? 0) + 1;
  }
  return {
    connections: held.length,
    refused: held.filter(({ isConnected }) => !isConnected).length,
    closed: times.length,
    closedWithinMs: Object.fromEntries(
      limitsMs.map((limit) => [limit, times.filter((ms) => ms <= limit).length]),
    ),
    p50Ms: rounded(times[Math.floor(times.length / 2)]),
    maxMs: rounded(times.at(-1)),
    byStatus,
  };
}

const rounded = (ms: number | undefined): number | undefined =>
  ms === undefined ? undefined : Math.round(ms);

/** Asks for `count` requests over kept connections, `pipelined` at a time on each; resolves with answers by status. */
export async function ask(options: {
  readonly port: number;
  readonly connections: number;
  readonly pipelined: number;
  readonly count: number;
  readonly bytes: (index: number) => string;
}): Promise<Record<string, number>> {
  const byStatus: Record<string, number> = {};
  let asked = 0;
  const work = (slot: number): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect({
        port: options.port,
        host: "127.0.0.1",
        localAddress: `127.0.0.${2 + (slot % SOURCES)}`,
        noDelay: true,
      });
      let open = 0;
      let tail = "";
      const more = (): void => {
        let text = "";
        for (; open < options.pipelined && asked < options.count; open += 1, asked += 1)
          text += options.bytes(asked);
        if (text !== "") socket.write(text, "latin1");
        else if (open === 0) socket.destroy();
      };
      socket.on("connect", more);
      socket.on("data", (bytes: Buffer) => {
        const text = tail + bytes.toString("latin1");
        const found = text.matchAll(/HTTP\/1\.1 ([0-9]{3})/g);
        let end = 0;
        for (const match of found) {
          byStatus[match[1] ?? ""] = (byStatus[match[1] ?? ""] ?? 0) + 1;
          open -= 1;
          end = match.index + match[0].length;
        }
        tail = text.slice(Math.max(end, text.length - 12));
        if (open === 0) more();
      });
      socket.on("error", () => {});
      socket.on("close", () => {
        if (open > 0) byStatus["cut"] = (byStatus["cut"] ?? 0) + open;
        resolve();
      });
    });
  // A server may close after each refusal: as many connections follow as are needed.
  while (asked < options.count)
    await Promise.all(Array.from({ length: options.connections }, (_, slot) => work(slot)));
  return byStatus;
}
