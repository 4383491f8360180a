/** Tests of policies' targets as an agent makes them, over sockets. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { policyDocument, type TopologyDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { TargetTester } from "#transport";
import { waitFor } from "../tools/processes.ts";

test("results that come together are told together", async () => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  let told = 0;
  const tester = new TargetTester({
    clock: systemClock,
    logger: createLogger({ role: "test", id: "tester" }, { level: "silent" }),
    scriptsDirectory: undefined,
    onResult: () => void told++,
  });
  const targets = Array.from({ length: 25 }, (_, n) => ({ targetId: `t${n}`, addresses: ["127.0.0.1"] }));
  tester.setTopology({ clusters: [], privateOrigins: ["127.0.0.0/8"] } as unknown as TopologyDocument);
  tester.setPolicies(
    Array.from({ length: 10 }, (_, n) =>
      policyDocument.parse({
        policyId: `p${n}`,
        customerId: `c${n}`,
        names: [`p${n}.shop.test`],
        targets,
        rule: { method: "all", among: targets.map(({ targetId }) => targetId) },
        tests: [{ testId: "t", kind: "tcp", port, intervalMs: 1_000, timeoutMs: 1_000 }],
      }),
    ),
  );
  try {
    await waitFor(() => tester.counters.ok >= 500, { timeoutMs: 30_000, what: "500 results" });
    expect(told).toBeGreaterThan(0);
    expect(told).toBeLessThan(tester.counters.ok / 2);
  } finally {
    tester.close();
    server.close();
  }
});
