/**
 * Which key speaks for which server. The first key that asks for a name with the deployment's token has it from then on, so that who
 * learns the token later cannot take the name of a server that is there; an operator lets another key have it, or nobody any more.
 */
import {
  array,
  id,
  integer,
  type NodeName,
  object,
  oneOf,
  type Parsed,
  type ServerId,
  string,
  type TopologyDocument,
} from "#kit";

/** SHA-256 of a public key (SubjectPublicKeyInfo), as hexadecimal digits. */
const keyFingerprint = () =>
  string({ max: 64, pattern: /^[0-9a-f]{64}$/, expected: "64 hexadecimal digits" });

export const nodeEntry = object({
  serverId: id<ServerId>(),
  fingerprint: keyFingerprint(),
  state: oneOf(["enrolled", "revoked"]),
  enrolledAtEpochMs: integer(),
  /** Of the newest certificate that it was given. */
  notAfterEpochMs: integer(),
});
export type NodeEntry = Parsed<typeof nodeEntry>;

/** More than servers in any topology: who is no server of one gets no entry. */
const NODES_MAX = 100_000;

export const nodeEntries = array(nodeEntry, { max: NODES_MAX, uniqueBy: ({ serverId }) => serverId });

/** What became of a request for a certificate. */
export const nodeVerdicts = ["issued", "unknown-server", "other-key", "revoked", "not-proven"] as const;
export type NodeVerdict = (typeof nodeVerdicts)[number];

/** What the asking server signs to show that the key is its own. Saying it again gets nobody else anything, so no time stands in it. */
export function nodeRequestMessage(serverId: ServerId, publicKey: string): string {
  return `isochrone node certificate v1\n${serverId}\n${publicKey}`;
}

/** The name of a server in the topologies in force; undefined when none has it. */
export function nodeNameIn(
  topologies: readonly TopologyDocument[],
  serverId: ServerId,
): NodeName | undefined {
  for (const { name, clusters } of topologies)
    for (const { clusterId, role, servers } of clusters)
      if (servers.some((server) => server.serverId === serverId))
        return { topology: name, role, clusterId, serverId };
  return undefined;
}

export class NodeRegister {
  readonly #entries: Map<ServerId, NodeEntry>;

  constructor(entries: readonly NodeEntry[] = []) {
    this.#entries = new Map(entries.map((entry) => [entry.serverId, entry]));
  }

  get entries(): readonly NodeEntry[] {
    return [...this.#entries.values()];
  }

  /** Whether a key may have a certificate for a server of a topology in force now. */
  judge(serverId: ServerId, fingerprint: string): Exclude<NodeVerdict, "not-proven" | "unknown-server"> {
    const entry = this.#entries.get(serverId);
    if (entry === undefined) return "issued";
    if (entry.state === "revoked") return "revoked";
    return entry.fingerprint === fingerprint ? "issued" : "other-key";
  }

  /** Writes down that a key was given a certificate. True: it has the name from now on, and had it not before. */
  handleIssued(serverId: ServerId, fingerprint: string, now: number, notAfterEpochMs: number): boolean {
    const before = this.#entries.get(serverId);
    const enrolledAtEpochMs = before?.enrolledAtEpochMs ?? now;
    this.#entries.set(serverId, {
      serverId,
      fingerprint,
      state: "enrolled",
      enrolledAtEpochMs,
      notAfterEpochMs,
    });
    return before === undefined;
  }

  /** False: it is not known. What it has runs out. */
  revoke(serverId: ServerId): boolean {
    const entry = this.#entries.get(serverId);
    if (entry === undefined) return false;
    this.#entries.set(serverId, { ...entry, state: "revoked" });
    return true;
  }

  /** The next key that asks has the name. False: it was not known. */
  forget(serverId: ServerId): boolean {
    return this.#entries.delete(serverId);
  }
}
