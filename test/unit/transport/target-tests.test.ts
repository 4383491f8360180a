/** Edges as agents of policies' tests: who they are, what they may ask, and what an answer of DNS says. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nameFromText, type PolicyDocument, policyDocument, type TopologyDocument } from "#kit";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { EDGE_AGENTS_MAX, EdgeAgents, edgeAgentsOf } from "../../../transport/core/target-tests/agents.ts";
import { dnsAnswerIsWell, dnsQuestion } from "../../../transport/core/target-tests/dns-question.ts";
import { groundOf, permittedPolicy } from "../../../transport/core/target-tests/permission.ts";

const topologyOf = (clusters: readonly (readonly [cluster: string, region: string, role?: string])[]) =>
  ({
    clusters: clusters.map(([clusterId, regionId, role = "edge"], n) => ({
      clusterId,
      regionId,
      role,
      servers: [1, 2].map((m) => ({ serverId: `${clusterId}-${m}`, address: `10.1.${n}.${m}`, port: 8_080 })),
    })),
  }) as unknown as TopologyDocument;

describe("the edges that test a policy", () => {
  const many = topologyOf(
    Array.from({ length: 40 }, (_, n) => [`c${n}`, `r${n % 8}`] as const).concat([
      ["p1", "r9", "parent"],
      ["n1", "r8", "nameserver"],
    ] as never),
  );
  const clusterOf = (serverId: string) => serverId.slice(0, serverId.indexOf("-"));
  const regionOf = (serverId: string) =>
    many.clusters.find(({ clusterId }) => clusterId === clusterOf(serverId))?.regionId;

  test("are few, edges alone, of a cluster and a region each", () => {
    for (let n = 0; n < 200; n++) {
      const agents = edgeAgentsOf(`policy-${n}`, many);
      expect(agents).toHaveLength(EDGE_AGENTS_MAX);
      expect(new Set(agents.map(regionOf)).size).toBe(EDGE_AGENTS_MAX);
      expect(agents.every((agent) => agent.startsWith("c"))).toBe(true);
    }
  });
  test("share the work, and one that goes moves its own policies alone", () => {
    const policies = Array.from({ length: 2_000 }, (_, n) => `policy-${n}`);
    const counts = new Map<string, number>();
    for (const policy of policies)
      for (const agent of edgeAgentsOf(policy, many)) counts.set(agent, (counts.get(agent) ?? 0) + 1);
    const mean = (policies.length * EDGE_AGENTS_MAX) / 80;
    expect(counts.size).toBe(80);
    expect(Math.max(...counts.values())).toBeLessThan(1.5 * mean);
    const without = { clusters: many.clusters.filter(({ clusterId }) => clusterId !== "c7") };
    for (const policy of policies) {
      const before = edgeAgentsOf(policy, many);
      if (before.some((agent) => clusterOf(agent) === "c7")) continue;
      expect(edgeAgentsOf(policy, without)).toEqual(before);
    }
  });
  test("are found once for each policy by one topology", () => {
    let looks = 0;
    const agents = new EdgeAgents({
      get clusters() {
        looks++;
        return many.clusters;
      },
    });
    for (let round = 0; round < 3; round++)
      for (const policy of ["x", "y"]) expect(agents.of(policy)).toEqual(edgeAgentsOf(policy, many));
    expect(looks).toBe(2);
  });
  test("of two regions come from both; with none there are none", () => {
    const small = topologyOf([
      ["a", "x"],
      ["b", "x"],
      ["c", "y"],
    ]);
    const agents = edgeAgentsOf("shop", small);
    expect(agents.map(clusterOf).toSorted()).toEqual(["a", "b", "c"]);
    expect(new Set(agents.slice(0, 2).map((agent) => (clusterOf(agent) === "c" ? "y" : "x"))).size).toBe(2);
    expect(edgeAgentsOf("shop", topologyOf([["n", "x", "nameserver"]]))).toEqual([]);
  });
});

describe("what an agent may test", () => {
  const policyOf = (address: string, tests: readonly object[]): PolicyDocument =>
    policyDocument.parse({
      policyId: "shop",
      customerId: "acme",
      names: ["www.shop.test"],
      targets: [{ targetId: "fra", addresses: [address] }],
      rule: "fra",
      tests,
    });
  const tcp = { testId: "t", kind: "tcp", port: 443 };
  const publicGround = groundOf(
    {
      clusters: [{ role: "edge", servers: [{ address: "8.8.4.4", port: 8_080 }] }],
    } as unknown as TopologyDocument,
    undefined,
  );
  const judged = (address: string, tests: readonly object[] = [tcp], ground = publicGround) => {
    const refusals: string[] = [];
    const permitted = permittedPolicy(policyOf(address, tests), ground, ({ what }) => refusals.push(what));
    return { addresses: permitted?.targets[0]?.addresses, refusals };
  };

  test.each([
    ["10.0.0.1", "private"],
    ["127.0.0.1", "private"],
    ["::1", "private"],
    ["fd12::1", "private"],
    ["169.254.169.254", "link-local"],
    ["fd00:ec2::254", "link-local"],
    ["::ffff:169.254.169.254", "link-local"],
    ["0.0.0.0", "unspecified"],
    ["224.0.0.1", "multicast"],
  ])("%s is not asked: %s", (address, reason) => {
    const { addresses, refusals } = judged(address);
    expect(addresses).toEqual([]);
    expect(refusals).toEqual([`target fra: ${address} is not tested (${reason})`]);
  });
  test("a public address is, and a private one where the topology allows it", () => {
    expect(judged("8.8.8.8")).toEqual({ addresses: ["8.8.8.8"], refusals: [] });
    const own = groundOf(topologyOf([["a", "x"]]), undefined);
    expect(judged("10.9.9.9", [tcp], own).addresses).toEqual(["10.9.9.9"]);
    expect(judged("192.168.1.1", [tcp], own).addresses).toEqual(["192.168.1.1"]);
    expect(judged("127.0.0.1", [tcp], own).addresses).toEqual([]);
    const stated = groundOf({ ...topologyOf([["a", "x"]]), privateOrigins: ["10.9.0.0/16"] }, undefined);
    expect(judged("10.9.9.9", [tcp], stated).addresses).toEqual(["10.9.9.9"]);
    expect(judged("10.8.9.9", [tcp], stated).addresses).toEqual([]);
  });
  test("a server of ours is not asked at its own port", () => {
    const http = { testId: "h", kind: "http", host: "www.shop.test", port: 8_080 };
    expect(judged("8.8.4.4", [http]).refusals).toEqual(["target fra: 8.8.4.4 is not tested (own-server)"]);
    expect(judged("8.8.4.4").addresses).toEqual(["8.8.4.4"]);
  });
  test("without a directory of scripts nothing is said of a policy that has one", () => {
    const script = { testId: "s", kind: "script", script: "look" };
    expect(judged("8.8.8.8", [tcp, script])).toEqual({
      addresses: undefined,
      refusals: ["test s: scripts are not permitted here (--test-scripts)"],
    });
    expect(judged("8.8.8.8", [script], { ...publicGround, scriptsDirectory: "/x" }).addresses).toEqual([
      "8.8.8.8",
    ]);
  });
});

describe("an answer of DNS", () => {
  const name = nameFromText("www.shop.test")!;
  const question = { id: 7, name, type: dnsTypes.A };
  const asked = readMessage(dnsQuestion(7, name, dnsTypes.A));
  if (!asked.ok) throw new Error("our own question cannot be read");
  const { message } = asked;
  const reply = (more: { header?: object; answers?: boolean; type?: number } = {}): Uint8Array =>
    writeMessage({
      ...message,
      header: { ...message.header, isResponse: true, ...more.header },
      answers:
        more.answers === false
          ? []
          : [
              {
                name,
                type: more.type ?? dnsTypes.A,
                class: 1,
                ttlSeconds: 5,
                data: { kind: "address", address: { family: 4, words: [0x0102_0304] } },
              },
            ],
    })!;

  test("is asked for as our own codec reads it", () => {
    expect(message.header).toMatchObject({ id: 7, isResponse: false, isRecursionDesired: true });
    expect(message.questions).toMatchObject([
      { type: dnsTypes.A, class: 1, name: { text: "www.shop.test" } },
    ]);
  });
  test.each([
    ["a record of the type", reply(), true],
    ["none", reply({ answers: false }), false],
    ["SERVFAIL", reply({ header: { rcode: rcodes.SERVFAIL } }), false],
    ["a cut answer", reply({ header: { isTruncated: true }, answers: false }), true],
    ["another id", reply({ header: { id: 8 } }), undefined],
    ["a question", dnsQuestion(7, name, dnsTypes.A), undefined],
    ["another question", (() => reply())().with(14, 0x78), undefined],
    ["half of the header", reply().subarray(0, 6), undefined],
    ["a record that is cut off", reply().subarray(0, 40), false],
  ])("%s", (_, bytes, expected) => {
    expect(dnsAnswerIsWell(bytes, question)).toBe(expected);
  });
  test("never throws, and never ends well with another id", () => {
    const whole = reply();
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }),
        fc.nat(whole.length),
        (edits, length) => {
          const bytes = Uint8Array.from(whole);
          for (const [at, octet] of edits) bytes[at] = octet;
          const verdict = dnsAnswerIsWell(bytes.subarray(0, length), question);
          if (length > 1 && (bytes[0] !== 0 || bytes[1] !== 7)) expect(verdict).toBeUndefined();
        },
      ),
    );
  });
});
