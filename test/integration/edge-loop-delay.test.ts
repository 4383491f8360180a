/** A process that is late: by its own work, which sheds, and because it does not get the processor, which does not. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { edgeDefaults } from "#edge";
import {
  type ClientResponse,
  fetchFrom,
  keepLoopBusy,
  startEdge,
  TestOrigin,
  until,
} from "./edge-support.ts";
import { startIsochrone } from "../tools/processes.ts";

const origin = new TestOrigin();
beforeEach(() => origin.start());
afterEach(() => origin.stop());

test("a process that is late by its own work sheds what is not stored, and takes it again when that is done", async () => {
  const edge = await startEdge(origin, { loopDelayTargetMs: 2 });
  let count = 0;
  const isShed = async (): Promise<boolean> => {
    const { status, cacheStatus } = await fetchFrom(edge.port, `/${count++}`);
    expect(status === 503).toBe(cacheStatus.includes("server-busy"));
    return status === 503;
  };
  try {
    {
      using _busy = keepLoopBusy();
      await until(isShed, "a request to be shed");
      expect(await edge.metric("loop_work_ms")).toBeGreaterThan(1);
    }
    await until(async () => {
      await isShed();
      return edge.running.edge.gate.control.loopDelay.share === 0;
    }, "the share that is shed to fall to nothing");
    expect(await isShed()).toBe(false);
  } finally {
    await edge.running.stop();
  }
});

test("a process that is late because it is kept from the processor sheds nothing", async () => {
  const edge = await startIsochrone([
    "edge",
    ..."--listen 127.0.0.1:0 --admin 127.0.0.1:0 --origin".split(" "),
    `http://127.0.0.1:${origin.port}`,
  ]);
  const [port = 0, adminPort = 0] = Array.from(
    edge.readyLine.matchAll(/(?:edge|admin) http:\/\/127\.0\.0\.1:(\d+)/g),
    (match) => Number(match[1]),
  );
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  /** As where too many compete: it has the processor for a few milliseconds of each 200, in which no timer of 20 ms is on time. */
  const starve = async (): Promise<void> => {
    edge.signal("SIGSTOP");
    await pause(190);
    edge.signal("SIGCONT");
    await pause(8);
  };
  const metricsOf = async (): Promise<(name: string) => number> => {
    const { body } = await fetchFrom(adminPort, "/metrics");
    const text = body.toString();
    return (name) => Number(new RegExp(`^isochrone_edge_${name} (\\S+)$`, "m").exec(text)?.[1]);
  };
  try {
    let count = 0;
    const ask = (): Promise<ClientResponse> => fetchFrom(port, `/${count++}`);
    // What it does first takes it long.
    for (let n = 0; n < 50; n++) await ask();
    await metricsOf();
    const answers: Promise<ClientResponse>[] = [];
    for (let cycle = 0; cycle < 40; cycle++) {
      if (cycle % 2 === 0) answers.push(ask());
      await starve();
    }
    const valueOf = await metricsOf();
    expect(valueOf("loop_delay_ms")).toBeGreaterThanOrEqual(edgeDefaults.loopDelayTargetMs);
    expect(valueOf("loop_work_ms")).toBeLessThan(edgeDefaults.loopDelayTargetMs);
    const shed = (await Promise.all(answers)).filter(({ status }) => status !== 200);
    expect(shed.map(({ cacheStatus }) => cacheStatus)).toEqual([]);
  } finally {
    edge.signal("SIGCONT");
    await edge.stop();
  }
}, 60_000);
