import { PerformanceObserver } from "node:perf_hooks";
import { collectDefaultMetrics, Registry } from "prom-client";
import { expect, test } from "vitest";
import { collectGarbageMetrics, collectProcessMetrics } from "#kit/io";

test("tells what the package's own default metrics tell, by the same names, types and labels", async () => {
  const [ours, theirs] = [new Registry(), new Registry()];
  collectProcessMetrics(ours);
  collectDefaultMetrics({ register: theirs });
  const shapes = async (registry: Registry) =>
    (await registry.getMetricsAsJSON())
      .map(({ name, type, help }) => `${name} ${String(type)} ${help}`)
      .toSorted();
  expect(await shapes(ours)).toEqual(await shapes(theirs));
});

test("counts the CPU that is used, as user's, system's and their sum", async () => {
  const registry = new Registry();
  collectProcessMetrics(registry);
  const used = process.cpuUsage();
  do Math.sqrt(Math.random());
  while (process.cpuUsage(used).user < 20_000);
  const text = await registry.metrics();
  const value = (name: string): number => Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
  expect(value("process_cpu_user_seconds_total")).toBeGreaterThanOrEqual(0.02);
  expect(value("process_cpu_seconds_total")).toBeCloseTo(
    value("process_cpu_user_seconds_total") + value("process_cpu_system_seconds_total"),
    9,
  );
});

test("counts every collection of garbage, once for all registries", async () => {
  const [one, other] = [new Registry(), new Registry()];
  collectGarbageMetrics(one);
  collectGarbageMetrics(other);
  const counted = async (registry: Registry): Promise<number> => {
    const found = await registry.getSingleMetric("nodejs_gc_duration_seconds")?.get();
    const values = (found?.values ?? []) as readonly {
      readonly metricName?: string;
      readonly value: number;
    }[];
    return values
      .filter(({ metricName }) => metricName === "nodejs_gc_duration_seconds_count")
      .reduce((sum, { value }) => sum + value, 0);
  };
  let seen = 0;
  const observer = new PerformanceObserver((list) => {
    seen += list.getEntries().length;
  });
  observer.observe({ entryTypes: ["gc"] });
  const before = await counted(one);
  // Several in one turn of the loop.
  const kept: unknown[] = [];
  for (let n = 0; n < 3_000_000; n++) kept[n % 1_000] = [n, n];
  await expect
    .poll(async () => seen > 1 && (await counted(one)) - before === seen, { timeout: 10_000 })
    .toBe(true);
  observer.disconnect();
  expect(await counted(other)).toBe(await counted(one));
});
