/** Sends smuggling vectors through a proxy to a recording origin and counts what came of each, on both sides. */
import { connect } from "node:net";
import { type DirtyForward, permittedOf, type RecordingOrigin } from "./recording-origin.ts";
import { readResponses } from "./strict-http.ts";
import { segment, type Vector } from "./vectors.ts";

/**
 * How the bytes travel: `alone` in one write; `after` behind a canonical GET in the same write, so that a reader of canonical
 * requests is on its way when the odd one comes; `split` cut in three at places that the vector's number chooses.
 */
export const DELIVERIES = ["alone", "after", "split"] as const;
export type Delivery = (typeof DELIVERIES)[number];

export interface SmugglingReport {
  readonly payloads: number;
  /** Forwards that a strict reader refuses, or that the client did not send. */
  readonly dirty: readonly DirtyForward[];
  /** Forwards with a field that is for one connection only. */
  readonly unclean: readonly DirtyForward[];
  /** Answers at the client that are malformed, or another request's. */
  readonly dirtyAnswers: readonly DirtyForward[];
  /** Payloads that got at least one final answer. */
  readonly answered: number;
  /** Payloads whose connection was closed, or that were left waiting for more, without an answer. */
  readonly unanswered: number;
  /** Last final answers by status. */
  readonly byStatus: Readonly<Record<string, number>>;
  /** Well-formed requests that reached the origin, and bytes. */
  readonly forwarded: number;
  readonly forwardedBytes: number;
  readonly seconds: number;
}

/**
 * A connection on which nothing came for so long has said what it had to say, ms: when as many answers came as can be
 * expected, and when they did not (the proxy waits for the rest of a message that never ends).
 */
const QUIET_MS = 40;
const WAITING_MS = 3_000;
const CONNECTION_MS_MAX = 10_000;

export interface SmugglingOptions {
  readonly port: number;
  readonly origin: RecordingOrigin;
  readonly vectors: readonly Vector[];
  /** How each vector is sent. */
  readonly deliveries: (vector: Vector) => readonly Delivery[];
  readonly connections: number;
}

export async function runSmuggling(options: SmugglingOptions): Promise<SmugglingReport> {
  const { port, origin, vectors } = options;
  const startedMs = performance.now();
  const dirtyAnswers: DirtyForward[] = [];
  const byStatus: Record<string, number> = {};
  let payloads = 0;
  let answered = 0;
  const queue = vectors.values();
  const work = async (): Promise<void> => {
    for (const vector of queue) {
      for (const delivery of options.deliveries(vector)) {
        const bytes = delivery === "after" ? `${warmUp(vector.id)}${vector.bytes}` : vector.bytes;
        const permitted = permittedOf(bytes);
        origin.permitted.set(vector.id, permitted);
        payloads += 1;
        const heard = await exchange(
          port,
          piecesOf(bytes, vector.id, delivery),
          permitted.requests.length + (permitted.isFaulty ? 1 : 0),
        );
        const { responses, fault } = readResponses(
          heard.text,
          (index) => permitted.requests[index]?.[1].method === "HEAD",
          heard.isClosed,
        );
        const finals = responses.filter(({ status }) => status >= 200);
        const last = finals.at(-1);
        if (last === undefined) byStatus["none"] = (byStatus["none"] ?? 0) + 1;
        else {
          answered += 1;
          byStatus[last.status] = (byStatus[last.status] ?? 0) + 1;
        }
        const say = (rule: string): void => {
          dirtyAnswers.push({ id: vector.id, rule, bytes: JSON.stringify(heard.text.slice(0, 600)) });
        };
        if (fault !== undefined) say(`malformed answer: ${fault}`);
        if (finals.length > permitted.requests.length + 1) say("more answers than requests");
        for (const response of finals) {
          const echo = response.fields.find(([name]) => name.toLowerCase() === "x-echo")?.[1];
          if (echo !== undefined && echo !== "none" && !echo.startsWith(segment(vector.id, "")))
            say(`the answer to another request: ${echo}`);
        }
      }
    }
  };
  await Promise.all(Array.from({ length: options.connections }, work));
  return {
    payloads,
    dirty: origin.dirty,
    unclean: origin.unclean,
    dirtyAnswers,
    answered,
    unanswered: payloads - answered,
    byStatus,
    forwarded: origin.forwarded,
    forwardedBytes: origin.bytesRead,
    seconds: Math.round((performance.now() - startedMs) / 100) / 10,
  };
}

const warmUp = (id: number): string => `GET /${segment(id, "w")} HTTP/1.1\r\nHost: edge.test\r\n\r\n`;

function piecesOf(bytes: string, id: number, delivery: Delivery): readonly string[] {
  if (delivery !== "split") return [bytes];
  // Two places that move through the bytes from vector to vector (Knuth's multiplicative hash).
  const one = (Math.imul(id + 1, 2_654_435_761) >>> 0) % bytes.length;
  const other = (Math.imul(id + 1, 40_503) >>> 0) % bytes.length;
  const [from, to] = one < other ? [one, other] : [other, one];
  return [bytes.slice(0, from), bytes.slice(from, to), bytes.slice(to)].filter((piece) => piece !== "");
}

/** Sends the pieces and hears until the connection closes or is quiet. Never rejects. */
function exchange(
  port: number,
  pieces: readonly string[],
  answersExpected: number,
): Promise<{ readonly text: string; readonly isClosed: boolean }> {
  return new Promise((resolve) => {
    let text = "";
    let turns = 0;
    let idle: NodeJS.Timeout | undefined;
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const finish = (isClosed: boolean): void => {
      clearTimeout(idle);
      clearTimeout(limit);
      socket.destroy();
      resolve({ text, isClosed });
    };
    const limit = setTimeout(() => finish(false), CONNECTION_MS_MAX);
    const hear = (): void => {
      clearTimeout(idle);
      const turn = (turns += 1);
      const answers = text.match(/HTTP\/1\.1 [2-5]/g)?.length ?? 0;
      // What came while this process did not run is heard before the time counts as over.
      idle = setTimeout(
        () => setImmediate(() => (turn === turns ? finish(false) : undefined)),
        answers >= answersExpected && answersExpected > 0 ? QUIET_MS : WAITING_MS,
      );
    };
    socket.on("error", () => {});
    socket.on("close", () => finish(true));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      hear();
    });
    const send = (index: number): void => {
      const piece = pieces[index];
      if (piece === undefined) {
        hear();
        return;
      }
      socket.write(Buffer.from(piece, "latin1"), () => setImmediate(() => send(index + 1)));
    };
    socket.on("connect", () => send(0));
  });
}
