/**
 * Who a server of ours is, as its certificate says it: a URI among its subject's alternative names (RFC 5280, section 4.2.1.6),
 * `isochrone://TOPOLOGY/ROLE/CLUSTER/SERVER`. No host name and no address stand there: those change, and anybody may have them.
 */
import { type ClusterId, id, type ServerId } from "./ids.ts";
import { type Role, roles } from "./documents/topology.ts";
import { integer, object, oneOf, type Parsed, string } from "./schema.ts";

const PEM_CHARACTERS_MAX = 8_192;

const nodeName = object({
  topology: id(),
  role: oneOf(roles),
  clusterId: id<ClusterId>(),
  serverId: id<ServerId>(),
});
export type NodeName = Parsed<typeof nodeName>;

const certificateFields = {
  name: nodeName,
  certificatePem: string({ max: PEM_CHARACTERS_MAX }),
  /** Of control: the one authority for servers. */
  authorityPem: string({ max: PEM_CHARACTERS_MAX }),
  notBeforeEpochMs: integer(),
  notAfterEpochMs: integer(),
};

/** What control gives: the key never leaves its server. */
export const nodeCertificate = object(certificateFields);
export type NodeCertificate = Parsed<typeof nodeCertificate>;

/** What a server of ours shows to others, and whom it believes. Plain data: it crosses IPC and lies on the disk. */
export const nodeCredentials = object({ ...certificateFields, keyPem: string({ max: PEM_CHARACTERS_MAX }) });
export type NodeCredentials = Parsed<typeof nodeCredentials>;

const ids = String.raw`[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?`;
const SAN = new RegExp(`^URI:isochrone://(${ids})/(${roles.join("|")})/(${ids})/(${ids})$`);

export function formatNodeUri({ topology, role, clusterId, serverId }: NodeName): string {
  return `isochrone://${topology}/${role}/${clusterId}/${serverId}`;
}

/** Why a certificate is not the one that is expected. */
export const nodeRefusals = ["no-name", "other-topology", "other-role", "other-server"] as const;
export type NodeRefusal = (typeof nodeRefusals)[number];

export interface NodeExpectation {
  readonly topology: string;
  readonly roles: readonly Role[];
  /** Undefined: any. */
  readonly serverId?: ServerId | undefined;
}

/**
 * Whether a certificate, whose chain and dates hold, is that of a server which may be at the other end.
 * @param subjectAltName as Node writes it, such as `URI:isochrone://lab/relay/nyc/nyc-1`; exactly one name, or it is nobody
 */
export function judgeNode(
  subjectAltName: string | undefined,
  expected: NodeExpectation,
): { readonly name: NodeName } | { readonly refusal: NodeRefusal } {
  const parts = SAN.exec(subjectAltName ?? "");
  if (parts === null) return { refusal: "no-name" };
  const [, topology = "", role = "", clusterId = "", serverId = ""] = parts;
  const name = { topology, role, clusterId, serverId } as NodeName;
  if (topology !== expected.topology) return { refusal: "other-topology" };
  if (!expected.roles.includes(name.role)) return { refusal: "other-role" };
  if (expected.serverId !== undefined && expected.serverId !== name.serverId)
    return { refusal: "other-server" };
  return { name };
}
