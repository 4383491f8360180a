/** Servers' certificates over real sockets: asked of control, kept, renewed, refused; and what the other end believes. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { ControlClient, loadControlServer, NodeIdentity, type NodeIdentityOptions } from "#control";
import type { EpochMs, NodeCredentials, ServerId } from "#kit";
import { systemClock } from "#kit/io";
import { dial, type NodePeer, NodeTrust } from "#transport";
import { deluded, newKey, requestBy, testAuthority } from "../tools/node-credentials.ts";
import { findProgram } from "../bench/tools/program.ts";
import { logger, peerKey, serverId, topologyOf, until } from "./transport-support.ts";

const { ControlServer, MemoryStore, NodeAuthority } = await loadControlServer();

const token = "test-token-0123456789";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const topology = topologyOf([
  { id: "fra", role: "edge", ports: [1] },
  { id: "nyc", role: "relay", ports: [2, 3] },
]);

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-nodes-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function startControl(directory?: string) {
  const authority = await NodeAuthority.open({ stateDirectory: directory, token, clock: systemClock });
  const store = new MemoryStore({ logId: "nodes" });
  const server = new ControlServer({ store, authority, token, clock: systemClock, logger });
  const url = await server.listen("127.0.0.1", 0);
  const client = clientOf(url);
  await client.put("topology", "lab", topology, { expectedVersion: 0 });
  let isOpen = true;
  const close = async () => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  cleanups.push(close);
  return { authority, url, client, close };
}

function clientOf(url: string): ControlClient {
  const client = new ControlClient({ url, token, nodeId: "test", logger, dial });
  cleanups.push(() => client.close());
  return client;
}

function identityOf(client: ControlClient, directory: string, more: Partial<NodeIdentityOptions> = {}) {
  const taken: NodeCredentials[] = [];
  const identity = new NodeIdentity({
    serverId: serverId("fra-1"),
    stateDirectory: directory,
    sealingKey: peerKey,
    ask: async (id, request) => await client.nodeCertificate(id, request),
    clock: systemClock,
    logger,
    onChange: (credentials) => taken.push(credentials),
    ...more,
  });
  cleanups.push(() => identity.close());
  return { identity, taken };
}

describe("control", () => {
  test("certifies the first key of a server, by what it can prove alone", async () => {
    const directory = newDirectory();
    const { client, authority } = await startControl(directory);
    const [key, other] = [newKey(), newKey()];
    const fra = serverId("fra-1");
    const refused = async (
      code: string,
      id: ServerId,
      request: Parameters<typeof client.nodeCertificate>[1],
    ) => await expect(client.nodeCertificate(id, request)).rejects.toMatchObject({ code, status: 403 });
    await refused("unknown-server", serverId("who-1"), requestBy("who-1", key));
    await refused("not-proven", fra, requestBy("fra-1", key, other));
    // Signed for another server.
    await refused("not-proven", fra, requestBy("nyc-1", key));
    await refused("not-proven", fra, requestBy("fra-1", newKey("P-384")));
    await refused("not-proven", fra, { publicKey: "AAAA", signature: "AAAA" });
    const { name, notBeforeEpochMs, notAfterEpochMs } = await client.nodeCertificate(
      fra,
      requestBy("fra-1", key),
    );
    expect(name).toEqual({ topology: "lab", role: "edge", clusterId: "fra", serverId: "fra-1" });
    expect(notAfterEpochMs - notBeforeEpochMs).toBe(25 * 3_600_000);
    await refused("other-key", fra, requestBy("fra-1", other));
    await client.nodeCertificate(fra, requestBy("fra-1", key));
    expect(await client.nodes()).toMatchObject([{ serverId: "fra-1", state: "enrolled" }]);
    await client.changeNode(fra, "revoke");
    await refused("revoked", fra, requestBy("fra-1", key));
    // Known to the next process, and the authority is the same.
    const again = await NodeAuthority.open({ stateDirectory: directory, token, clock: systemClock });
    expect(again.entries).toEqual(authority.entries);
    expect(again.entries).toMatchObject([{ state: "revoked" }]);
    await client.changeNode(fra, "forget");
    await client.nodeCertificate(fra, requestBy("fra-1", other));
    await expect(client.changeNode(serverId("nyc-1"), "revoke")).rejects.toMatchObject({ code: "not-found" });
    expect(authority.counters).toEqual({
      issued: 3,
      "unknown-server": 1,
      "other-key": 1,
      revoked: 1,
      "not-proven": 4,
    });
    for (const file of ["node-authority.json", "node-register.json"])
      expect(statSync(join(directory, file)).mode & 0o777).toBe(0o600);
  });

  test("takes no request without the deployment's token, and makes no new authority over a damaged file", async () => {
    const directory = newDirectory();
    const { url } = await startControl(directory);
    const answer = await fetch(`${url}/v1/nodes/fra-1/certificate`, { method: "POST", body: "{}" });
    expect(answer.status).toBe(401);
    const path = join(directory, "node-authority.json");
    expect(readFileSync(path, "utf8")).not.toContain("PRIVATE KEY");
    await expect(
      NodeAuthority.open({ stateDirectory: directory, token: `${token}0`, clock: systemClock }),
    ).rejects.toMatchObject({
      code: "authority-unusable",
      message: expect.stringMatching(/another ISOCHRONE.*_TOKEN_BEFORE/),
    });
    // Told the former token once, it goes on by the new one; servers notice nothing.
    const open = (token: string, previousToken?: string) =>
      NodeAuthority.open({ stateDirectory: directory, token, previousToken, clock: systemClock });
    const certificate = () => /-----BEGIN CERT.*?"/.exec(readFileSync(path, "utf8"))?.[0];
    const before = certificate();
    expect(before).toMatch(/END CERT/);
    await expect(open(`${token}0`, `${token}1`)).rejects.toMatchObject({ code: "authority-unusable" });
    await open(`${token}0`, token);
    await open(`${token}0`);
    await expect(open(token)).rejects.toMatchObject({ code: "authority-unusable" });
    await open(token, `${token}0`);
    expect(certificate()).toBe(before);
    writeFileSync(path, readFileSync(path).subarray(0, -9));
    await expect(
      NodeAuthority.open({ stateDirectory: directory, token, clock: systemClock }),
    ).rejects.toMatchObject({ code: "authority-unusable" });
  });

  test("OpenSSL holds the chain for valid, for both ends", async ({ skip }) => {
    const program = findProgram("openssl");
    if (program === undefined) return skip("openssl is not installed");
    const directory = newDirectory();
    const { certificatePem, authorityPem } = await (await testAuthority()).credentials(topology, "nyc-1");
    writeFileSync(join(directory, "leaf.pem"), certificatePem);
    writeFileSync(join(directory, "ca.pem"), authorityPem);
    for (const purpose of ["sslclient", "sslserver"])
      expect(
        execFileSync(
          program,
          ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", "leaf.pem"],
          {
            cwd: directory,
          },
        ).toString(),
      ).toBe("leaf.pem: OK\n");
  });
});

describe("a server", () => {
  test("asks, keeps what it is given, and goes on with it while control is away", async () => {
    const directory = newDirectory();
    const control = await startControl(newDirectory());
    const first = identityOf(control.client, directory);
    await first.identity.start();
    expect(first.identity.status).toMatchObject({ state: "none" });
    first.identity.handleTopology(topology);
    await until(() => first.taken.length === 1);
    await until(() => first.identity.counters.renewed === 1);
    expect(first.identity.status).toEqual({
      state: "valid",
      notAfterEpochMs: first.taken[0]?.notAfterEpochMs,
    });
    first.identity.close();
    expect(statSync(join(directory, "node-identity.json")).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(directory, "node-identity.json"), "utf8")).not.toContain("PRIVATE KEY");
    await control.close();
    const second = identityOf(control.client, directory);
    await second.identity.start();
    second.identity.handleTopology(topology);
    expect(second.taken).toEqual(first.taken);
    expect(second.identity.counters).toEqual({ renewed: 0, failed: 0 });
  });

  test("renews when it is due, tries on while control refuses, and says so", async () => {
    const control = await startControl();
    let aheadMs = 0;
    const clock = { ...systemClock, epoch: () => (systemClock.epoch() + aheadMs) as EpochMs };
    const directory = newDirectory();
    const { identity, taken } = identityOf(control.client, directory, { clock });
    await identity.start();
    identity.handleTopology(topology);
    await until(() => taken.length === 1);
    identity.close();
    await control.client.changeNode(serverId("fra-1"), "revoke");
    // Thirteen hours later.
    aheadMs = 13 * 3_600_000;
    const later = identityOf(control.client, directory, { clock, random: () => 0 });
    await later.identity.start();
    later.identity.handleTopology(topology);
    await until(() => later.identity.counters.failed >= 2);
    expect(later.identity.status).toMatchObject({ state: "late" });
    expect(later.identity.status.problem).toMatch(/revoked/);
    expect(later.taken).toHaveLength(1);
    await control.client.changeNode(serverId("fra-1"), "forget");
    await until(() => later.taken.length === 2, 20_000);
    expect(later.identity.status.problem).toBeUndefined();
    aheadMs = 50 * 3_600_000;
    expect(later.identity.status.state).toBe("expired");
  });

  test("asks for nothing while no topology names it, and at once when one does", async () => {
    const control = await startControl();
    const { identity, taken } = identityOf(control.client, newDirectory());
    await identity.start();
    const without = topologyOf([{ id: "nyc", role: "relay", ports: [2, 3] }]);
    for (let n = 0; n < 3; n++) identity.handleTopology(without);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(identity.counters).toEqual({ renewed: 0, failed: 0 });
    identity.handleTopology(topology);
    identity.handleTopology(topology);
    await until(() => identity.counters.renewed === 1);
    expect(taken).toHaveLength(1);
    expect(control.authority.counters.issued).toBe(1);
  });

  test("asks anew when the topology has it otherwise; a damaged or foreign file is not used", async () => {
    const control = await startControl();
    const directory = newDirectory();
    const { identity, taken } = identityOf(control.client, directory);
    await identity.start();
    identity.handleTopology(topology);
    await until(() => identity.counters.renewed === 1);
    const moved = topologyOf([{ id: "fra", role: "parent", ports: [1] }]);
    await control.client.put("topology", "lab", moved, { expectedVersion: 1 });
    identity.handleTopology(moved);
    await until(() => taken.length === 2);
    expect(taken[1]?.name.role).toBe("parent");
    await until(() => identity.counters.renewed === 2);
    identity.close();
    const copy = newDirectory();
    writeFileSync(join(copy, "node-identity.json"), readFileSync(join(directory, "node-identity.json")));
    const otherKey = identityOf(control.client, copy, { sealingKey: Buffer.alloc(16, 9) });
    await otherKey.identity.start();
    expect(otherKey.taken).toEqual([]);
    const foreign = identityOf(control.client, directory, { serverId: serverId("nyc-1") });
    await foreign.identity.start();
    expect(foreign.taken).toEqual([]);
    writeFileSync(join(directory, "node-identity.json"), "nonsense");
    const damaged = identityOf(control.client, directory);
    await damaged.identity.start();
    expect(damaged.taken).toEqual([]);
  });
});

/** A server of ours that tells whom it was asked by. */
async function listening(trust: NodeTrust) {
  const seen: (NodePeer | string)[] = [];
  const server = createServer(trust.serverOptions(["test/1"]));
  trust.bind(server, ["test/1"]);
  server.on("secureConnection", (socket) => {
    socket.on("error", () => {});
    seen.push(trust.peerOf(socket, ["edge"]));
    socket.on("data", (bytes) => socket.write(bytes));
  });
  server.on("tlsClientError", () => seen.push("refused"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const sockets: TLSSocket[] = [];
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  /** Resolves with the connection once the server has answered, or with what ended it. */
  const ask = async (options: object): Promise<TLSSocket | Error> => {
    const socket = connect({ port, host: "127.0.0.1", ...options });
    sockets.push(socket);
    const ended = new Promise<Error>((resolve) => {
      socket.once("error", resolve);
      socket.once("close", () => resolve(new Error("closed")));
    });
    socket.write("hello");
    return await Promise.race([once(socket, "data").then(() => socket), ended]);
  };
  return { ask, seen };
}

describe("trust", () => {
  const nyc = { serverId: serverId("nyc-1"), roles: ["relay"] } as const;

  test("both ends are known by name; a renewal leaves what is open", async () => {
    const authority = await testAuthority();
    const [edge, relay] = [
      await authority.trust(topology, "fra-1"),
      await authority.trust(topology, "nyc-1"),
    ];
    const { ask, seen } = await listening(relay);
    const first = (await ask(edge.clientOptions(nyc, ["test/1"]) ?? {})) as TLSSocket;
    expect(first).not.toBeInstanceOf(Error);
    expect(seen[0]).toMatchObject({ name: { serverId: "fra-1", role: "edge" } });
    relay.set(await authority.credentials(topology, "nyc-1"));
    edge.set(await authority.credentials(topology, "fra-1"));
    first.write("still");
    const [bytes] = (await once(first, "data")) as [Buffer];
    expect(bytes.toString()).toBe("still");
    const second = (await ask(edge.clientOptions(nyc, ["test/1"]) ?? {})) as TLSSocket;
    expect(second.getPeerX509Certificate()?.serialNumber).not.toBe(
      first.getPeerX509Certificate()?.serialNumber,
    );
  });

  test("refused: no certificate, another authority's, one that ran out, another server, role or deployment", async () => {
    const stateDirectory = newDirectory();
    const authority = await testAuthority({ stateDirectory });
    const relay = await authority.trust(topology, "nyc-1");
    const edge = await authority.trust(topology, "fra-1");
    const { ask, seen } = await listening(relay);
    const options = edge.clientOptions(nyc, ["test/1"]) ?? {};
    const stranger = await (await testAuthority()).trust(topology, "fra-1");
    const expiring = await testAuthority({ stateDirectory, validMs: -60_000 });
    const late = deluded(await expiring.credentials(topology, "fra-1"));
    expect((await expiring.trust(topology, "fra-1")).clientOptions(nyc, ["test/1"])).toBeUndefined();
    expect(await ask({ ...options, key: undefined, cert: undefined })).toBeInstanceOf(Error);
    // It believes whoever answers, so that the server's refusal is what is seen.
    for (const one of [stranger, late])
      expect(await ask({ ...one.clientOptions(nyc, ["test/1"]), rejectUnauthorized: false })).toBeInstanceOf(
        Error,
      );
    expect(seen).toEqual(["refused", "refused", "refused"]);
    // By the same authority and in time, and still not who may be there.
    const other = await authority.trust({ ...topology, name: "other" as typeof topology.name }, "fra-1");
    const asRelay = await authority.trust(topology, "nyc-2");
    await ask({ ...other.clientOptions(nyc, ["test/1"]), checkServerIdentity: () => undefined });
    await ask({ ...asRelay.clientOptions(nyc, ["test/1"]) });
    expect(seen.slice(3)).toEqual(["other-topology", "other-role"]);
    // The client's side of it.
    const wrong = async (more: object, expected: object = nyc) =>
      await ask({ ...edge.clientOptions({ ...nyc, ...expected }, ["test/1"]), ...more });
    expect(await wrong({}, { serverId: "nyc-2" })).toMatchObject({ message: /other-server/ });
    expect(await wrong({}, { roles: ["parent"] })).toMatchObject({ message: /other-role/ });
    expect(await wrong({ ca: undefined })).toBeInstanceOf(Error);
    const impostor = await listening(stranger);
    expect(await impostor.ask(options)).toBeInstanceOf(Error);
    expect(new NodeTrust().clientOptions(nyc, ["test/1"])).toBeUndefined();
  });
});
