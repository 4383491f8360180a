/** What a worker's passed-on request tells the owner of its key about the client: that it sends no more, and that it has gone. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EdgeMetrics, type SiblingParts, Siblings } from "#edge";
import { createLogger, systemClock } from "#kit/io";
import { Stop } from "#transport";
import { ownerOf, shardOf } from "../../edge/core/worker-plan.ts";
import { until } from "./edge-support.ts";

type Handled = Parameters<SiblingParts["handle"]>[0];
type Answered = Awaited<ReturnType<SiblingParts["handle"]>>;

let directory: string;
let workers: Siblings[] = [];
const handled: Handled[] = [];
const answers: ((answer: Answered) => void)[] = [];
const ANSWER: Answered = {
  status: 204,
  fields: [["X-From", "owner"]],
  body: undefined,
  bodyBytes: undefined,
  record: { outcome: "uri-miss", status: undefined, propertyId: undefined, upstream: undefined },
};

const pathOf = (number: number): string => join(directory, `worker-${number}`);
/** What the owner alone needs of the parts is to handle; nothing here is copied or coded. */
const parts = {
  handle: async (inbound: Handled) => {
    handled.push(inbound);
    return await new Promise<Answered>((resolve) => answers.push(resolve));
  },
  store: { memory: { lookup: () => [] } },
} as unknown as SiblingParts;

function worker(number: number): Siblings {
  return new Siblings({
    place: { number, workers: 2, port: 0, path: pathOf(number), mayOpenDisk: true, ticketSecret: "" },
    clock: systemClock,
    logger: createLogger({ role: "edge", id: "test" }, { level: "silent" }),
    metrics: new EdgeMetrics(),
    invalidateElsewhere: async () => {},
    prefetchedElsewhere: async () => {},
  });
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-siblings-"));
  workers = [worker(0), worker(1)];
  await workers[1]?.listen(parts);
  workers[0]?.setView({ living: [0, 1], paths: { 0: pathOf(0), 1: pathOf(1) } });
});
afterEach(async () => {
  for (const one of workers) await one.close();
  rmSync(directory, { recursive: true, force: true });
  handled.length = answers.length = 0;
});

/** A client's request for a key that the other worker owns. */
function ask(): {
  readonly gone: AbortController;
  readonly leaving: Stop;
  readonly answer: Promise<Answered | undefined> | undefined;
} {
  const gone = new AbortController();
  const leaving = new Stop();
  const key = Array.from({ length: 100 }, (_, n) => `key-${n}`).find((one) => ownerOf(shardOf(one), 2) === 1);
  const inbound = {
    head: { method: "GET", scheme: "http", host: "a", target: "/", fields: [] },
    httpVersion: "1.1",
    remoteAddress: "192.0.2.1",
    hop: { tier: undefined, isOwner: false },
    requestId: "one",
    receivedAt: systemClock.epoch(),
    startedAt: systemClock.monotonic(),
    signal: gone.signal,
    leaving,
  } as unknown as Handled;
  return { gone, leaving, answer: workers[0]?.ask(inbound, { key } as never) };
}

test("the owner hears that a client sends no more, and answers it all the same", async () => {
  const { leaving, answer } = ask();
  const other = ask();
  await until(() => handled.length === 2, "the owner has both requests");
  expect(handled.map((one) => one.leaving?.aborted)).toEqual([false, false]);
  leaving.abort(undefined);
  await until(() => handled.filter((one) => one.leaving?.aborted).length === 1, "it hears of one");
  expect(handled.some(({ signal }) => signal.aborted)).toBe(false);
  for (const resolve of answers) resolve(ANSWER);
  expect((await answer)?.fields).toEqual(ANSWER.fields);
  expect((await other.answer)?.status).toBe(204);
  // Who leaves after the answer is nobody's news.
  other.leaving.abort(undefined);
  const third = ask();
  await until(() => handled.length === 3, "the owner has the third");
  expect(handled.filter((one) => one.leaving?.aborted)).toHaveLength(1);
  answers[2]?.(ANSWER);
  await third.answer;
});

test("a client that has gone has left as well", async () => {
  const { gone, answer } = ask();
  await until(() => handled.length === 1, "the owner has the request");
  gone.abort();
  expect(await answer).toBeUndefined();
  await until(() => handled[0]?.signal.aborted === true && handled[0]?.leaving?.aborted === true, "it hears");
});
