/**
 * Goal: the edge is a correct HTTP cache, whatever else it does at the same time. Method: the public suite (http-cache-tests) and
 * what it lacks, all tests under way at once in an order that a seed settles, beside 400 requests that wait, against `isochrone edge --origin` as a process. Each
 * required and optimal test passes or stands below with the reason; `check` tests ask what a cache does and have no wrong answer.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ownTests } from "../conformance/http-cache/own-tests.ts";
import {
  type CacheTest,
  holdRequests,
  packagedTests,
  runSuite,
  SuiteOrigin,
  type Verdict,
} from "../conformance/http-cache/suite.ts";
import { type IsochroneProcess, startIsochrone } from "../tools/processes.ts";

const REFUSAL =
  "It asks that an answer of the origin be passed on which the origin has not given: it closed the connection. own-stale-close-* ask the same with an answer that can be given";

/** Tests that do not pass, and why they need not. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  "stale-close-must-revalidate": REFUSAL,
  "stale-close-proxy-revalidate": REFUSAL,
  "stale-close-no-cache": REFUSAL,
  "stale-close-s-maxage=2": REFUSAL,
  "conditional-lm-fresh-no-lm":
    "It wants 304 for a stored answer whose Date is later than If-Modified-Since: without Last-Modified, Date is compared (RFC 9111, 4.3.2), so it counts as modified",
  "partial-store-partial-reuse-partial":
    "It wants the client's own range asked for (bytes=-5): an edge that owns a key asks for a slice, from which it learns what the object is",
  "partial-store-partial-complete":
    "It wants a part without any validator to be completed: only parts with the same strong validator may be put together (RFC 9111, 3.4)",
};

/** Another order each day, and any one again. */
const seed = Number(process.env["ISOCHRONE_SEED"] ?? Math.floor(Date.now() / 86_400_000));

const IN_FLIGHT = 400;

let origin: SuiteOrigin;
let edge: IsochroneProcess;
let tests: readonly CacheTest[];

beforeAll(async () => {
  [origin, tests] = await Promise.all([SuiteOrigin.start(), packagedTests()]);
  tests = [...tests, ...ownTests];
  edge = await startIsochrone(["edge", "--listen", "127.0.0.1:0", "--origin", origin.url]);
});
afterAll(async () => {
  await edge.stop();
  await origin.stop();
});

/** What a required or optimal test is expected to come to does not come: its ids, with what was seen. */
function wrong(
  asked: readonly CacheTest[],
  results: ReadonlyMap<string, { readonly verdict: Verdict; readonly message: string }>,
): readonly string[] {
  return asked
    .filter(({ id, kind }) => kind !== "check" && (results.get(id)?.verdict === "pass") === id in EXCEPTIONS)
    .map(({ id, kind = "required" }) => {
      const result = results.get(id);
      return id in EXCEPTIONS
        ? `${id} passes now: it is no exception any more`
        : `${kind} ${id}: ${result?.verdict} ${result?.message}`;
    });
}

test("every required and optimal test passes, or is a known exception", async () => {
  const edgeUrl = /http:\/\/[\d.]+:\d+/.exec(edge.readyLine)?.[0] ?? "";
  const run = (asked: readonly CacheTest[]) => runSuite(asked, { edgeUrl, originUrl: origin.url, seed });
  // Meanwhile, from before the first test until after the last one, this many requests of others wait for their answers.
  const others = holdRequests(IN_FLIGHT, { edgeUrl, originUrl: origin.url });
  const all = await run(tests);
  const { statuses, atOrigin } = await others.release();
  expect([statuses.filter((status) => status === 200).length, atOrigin]).toEqual([IN_FLIGHT, 4]);
  const failed = wrong(tests, all);
  const count = (kind: string, passed: boolean) =>
    tests.filter(
      (one) => (one.kind ?? "required") === kind && (!passed || all.get(one.id)?.verdict === "pass"),
    ).length;
  console.log(
    `seed ${seed}: ${["required", "optimal", "check"].map((kind) => `${kind} ${count(kind, true)} of ${count(kind, false)}`).join(", ")}`,
  );
  // A machine that stalls for a second makes answers older and sheds requests (a stale answer covers that): what is wrong, not
  // only slow, is so again at the same load.
  const again = failed.length === 0 ? undefined : await run(tests);
  const stillWrong = again === undefined ? [] : wrong(tests, again).map((line) => line.split(":", 1)[0]);
  expect(failed.filter((line) => stillWrong.includes(line.split(":", 1)[0]))).toEqual([]);
  expect(tests.filter(({ id }) => !id.startsWith("own-"))).toHaveLength(350);
}, 60_000);
