/** Servers of a deployment, certified as control certifies them, for tests that run no control. */
import { createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { loadControlServer } from "#control";
import { type NodeCredentials, type ServerId, type TopologyDocument } from "#kit";
import { systemClock } from "#kit/io";
import { NodeTrust } from "#transport";
import { nodeNameIn, nodeRequestMessage } from "../../control/core/node-register.ts";
import type { NodeCertificateRequest } from "../../control/core/wire.ts";

export interface TestAuthority {
  credentials(topology: TopologyDocument, serverId: string): Promise<NodeCredentials>;
  trust(topology: TopologyDocument, serverId: string): Promise<NodeTrust>;
}

/** `stateDirectory`: where its key is kept, if another one is to have it too; `validMs` of what it signs, negative: it has run out. */
export async function testAuthority(
  options: { readonly stateDirectory?: string; readonly validMs?: number } = {},
): Promise<TestAuthority> {
  const { NodeAuthority } = await loadControlServer();
  const authority = await NodeAuthority.open({
    stateDirectory: undefined,
    token: "of-tests-alone-0123456789",
    clock: systemClock,
    ...options,
  });
  const credentials = async (topology: TopologyDocument, serverId: string): Promise<NodeCredentials> => {
    const keyPem = newKey();
    // A test asks for one name as often as it likes.
    await authority.change(serverId as ServerId, "forget");
    const name = nodeNameIn([topology], serverId as ServerId);
    const answer = await authority.issue(serverId as ServerId, requestBy(serverId, keyPem), name);
    if (answer.verdict !== "issued") throw new Error(answer.verdict);
    return { ...answer.certificate, keyPem };
  };
  const trust = async (topology: TopologyDocument, serverId: string): Promise<NodeTrust> => {
    const made = new NodeTrust();
    made.set(await credentials(topology, serverId));
    return made;
  };
  return { credentials, trust };
}

/** A server that takes its certificate for good after its end: it shows what it would keep to itself. */
export function deluded(credentials: NodeCredentials): NodeTrust {
  const trust = new NodeTrust();
  trust.set({ ...credentials, notAfterEpochMs: credentials.notAfterEpochMs + 3_600_000 });
  return trust;
}

export function newKey(namedCurve = "P-256"): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve });
  return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
}

/** A request for a certificate; `signedBy`: another key than the one that it names. */
export function requestBy(serverId: string, keyPem: string, signedBy = keyPem): NodeCertificateRequest {
  const publicKey = createPublicKey(keyPem).export({ type: "spki", format: "der" }).toString("base64");
  const message = Buffer.from(nodeRequestMessage(serverId as ServerId, publicKey));
  return { publicKey, signature: sign("sha256", message, signedBy).toString("base64") };
}
