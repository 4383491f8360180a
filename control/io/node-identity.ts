/**
 * The certificate by which this server proves itself to others of ours: asked of control with a key that is made here and never leaves,
 * kept on the disk, renewed long before it ends. Without control this server goes on with what it has.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  X509Certificate,
} from "node:crypto";
import { join } from "node:path";
import {
  type Clock,
  judgeNode,
  type NodeCertificate,
  nodeCertificate,
  type NodeCredentials,
  type NodeName,
  object,
  optional,
  type ServerId,
  type ServerReport,
  string,
  type TopologyDocument,
} from "#kit";
import { LastKnownGood, type Logger, seal, type SealPurpose, unseal } from "#kit/io";
import { certificateState, isSameName, nextRequestAt } from "../core/certificate-renewal.ts";
import { nodeNameIn, nodeRequestMessage } from "../core/node-register.ts";
import type { NodeCertificateRequest } from "../core/wire.ts";

/** Timers of Node end at 2^31 ms; looking again costs nothing. */
const TIMER_MS_MAX = 3_600_000;

const identityFile = object({ sealedKey: string({ max: 8_192 }), certificate: optional(nodeCertificate) });

export interface NodeIdentityOptions {
  readonly serverId: ServerId;
  readonly stateDirectory: string;
  /** The peer key: what lies on the disk is of no use without. */
  readonly sealingKey: Uint8Array;
  /** As `ControlClient.nodeCertificate`. */
  readonly ask: (serverId: ServerId, request: NodeCertificateRequest) => Promise<NodeCertificate>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of what is on the disk, and of each new certificate. */
  readonly onChange: (credentials: NodeCredentials) => void;
  readonly random?: () => number;
}

export class NodeIdentity {
  readonly #o: NodeIdentityOptions;
  readonly #file: LastKnownGood<{
    readonly sealedKey: string;
    readonly certificate?: NodeCertificate | undefined;
  }>;
  #keyPem = "";
  #credentials: NodeCredentials | undefined;
  #topology: TopologyDocument | undefined;
  #problem: string | undefined;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #isAsking = false;
  #isClosed = false;
  /** All only grow. */
  readonly counters = { renewed: 0, failed: 0 };

  constructor(options: NodeIdentityOptions) {
    this.#o = options;
    this.#file = new LastKnownGood(
      join(options.stateDirectory, "node-identity.json"),
      (value) => identityFile.parse(value),
      { onDamaged: ({ reason }) => options.logger.error("node-identity-damaged", { reason }) },
    );
  }

  /** Takes what the disk holds, or makes a key. Asks control when a topology names this server. */
  async start(): Promise<void> {
    const kept = this.#file.load();
    const keyPem = kept && this.#opened(kept.sealedKey);
    if (kept !== undefined && keyPem !== undefined) {
      this.#keyPem = keyPem;
      if (kept.certificate !== undefined) this.#take({ ...kept.certificate, keyPem });
    } else {
      const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      this.#keyPem = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
      // On the disk before control hears of it: it is the only key that has this name from then on.
      await this.#save(undefined);
    }
    this.#plan();
  }

  async #save(certificate: NodeCertificate | undefined): Promise<void> {
    const { serverId, sealingKey } = this.#o;
    const sealedKey = seal(this.#keyPem, sealedFor(serverId), sealingKey);
    await this.#file.save({ sealedKey, ...(certificate && { certificate }) });
  }

  #opened(sealedKey: string): string | undefined {
    const { serverId, sealingKey, logger } = this.#o;
    try {
      const keyPem = unseal(sealedKey, sealedFor(serverId), sealingKey);
      createPrivateKey(keyPem);
      return keyPem;
    } catch {
      logger.error("node-identity-damaged", {
        reason: `sealed with another ISOCHRONE_PEER_KEY or of another server; a new key is made, for which "isochrone node forget ${serverId}" makes room`,
      });
      return undefined;
    }
  }

  /** What control would certify may have changed. */
  handleTopology(topology: TopologyDocument): void {
    const before = this.#name;
    this.#topology = topology;
    const name = this.#name;
    if (name === undefined || (before !== undefined && isSameName(before, name))) return;
    this.#failures = 0;
    this.#plan();
  }

  get credentials(): NodeCredentials | undefined {
    return this.#credentials;
  }

  /** For the server's report. */
  get status(): NonNullable<ServerReport["certificate"]> {
    return {
      state: certificateState(this.#credentials, this.#o.clock.epoch()),
      ...(this.#credentials && { notAfterEpochMs: this.#credentials.notAfterEpochMs }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
    };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** As the topology has this server; undefined: it has not, and control would not certify it. */
  get #name(): NodeName | undefined {
    return this.#topology && nodeNameIn([this.#topology], this.#o.serverId);
  }

  /** What is held, if it is for this server as the topology has it. */
  get #held(): NodeCredentials | undefined {
    const name = this.#name;
    return name && this.#credentials && isSameName(name, this.#credentials.name)
      ? this.#credentials
      : undefined;
  }

  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#isClosed || this.#keyPem === "" || this.#name === undefined || this.#isAsking) return;
    const { clock, random = Math.random } = this.#o;
    const now = clock.epoch();
    const waitMs = nextRequestAt(this.#held, this.#failures, now, random()) - now;
    const isDue = waitMs <= 0;
    this.#timer = setTimeout(
      () => (waitMs > TIMER_MS_MAX ? this.#plan() : void this.#ask()),
      isDue ? 0 : Math.min(waitMs, TIMER_MS_MAX),
    ).unref();
  }

  async #ask(): Promise<void> {
    const { serverId, logger } = this.#o;
    this.#isAsking = true;
    try {
      const publicKey = createPublicKey(this.#keyPem).export({ type: "spki", format: "der" });
      const text = publicKey.toString("base64");
      const message = Buffer.from(nodeRequestMessage(serverId, text));
      const signature = sign("sha256", message, this.#keyPem).toString("base64");
      const certificate = await this.#o.ask(serverId, { publicKey: text, signature });
      const credentials = { ...certificate, keyPem: this.#keyPem };
      checkCertificate(credentials, serverId);
      if (this.#isClosed) return;
      await this.#save(certificate);
      this.#take(credentials);
      this.#failures = 0;
      this.#problem = undefined;
      this.counters.renewed++;
      logger.info("node-certificate-renewed", {
        notAfter: new Date(credentials.notAfterEpochMs).toISOString(),
        fingerprint: createHash("sha256").update(publicKey).digest("hex"),
      });
    } catch (error) {
      this.#failures++;
      this.counters.failed++;
      this.#problem = (error instanceof Error ? error.message : String(error)).slice(0, 200);
      const { state } = this.status;
      const level = state === "valid" ? "info" : "warn";
      logger[level]("node-certificate-not-renewed", {
        state,
        failures: this.#failures,
        reason: this.#problem,
      });
    } finally {
      this.#isAsking = false;
      this.#plan();
    }
  }

  #take(credentials: NodeCredentials): void {
    try {
      checkCertificate(credentials, this.#o.serverId);
    } catch (error) {
      this.#o.logger.error("node-identity-damaged", { reason: (error as Error).message });
      return;
    }
    this.#credentials = credentials;
    this.#o.onChange(credentials);
  }
}

/** Bound to the server: a copy of another one's file does not open. */
function sealedFor(serverId: ServerId): SealPurpose {
  return { purpose: "isochrone node key v1", boundTo: serverId };
}

/** Throws Error when it is not this server's own, by this key and this authority. */
function checkCertificate(credentials: NodeCredentials, serverId: ServerId): void {
  const { certificatePem, authorityPem, keyPem, name } = credentials;
  const certificate = new X509Certificate(certificatePem);
  const authority = new X509Certificate(authorityPem);
  const expected = { topology: name.topology, roles: [name.role], serverId };
  if (!certificate.checkPrivateKey(createPrivateKey(keyPem)))
    throw new Error("the certificate is for another key");
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey))
    throw new Error("the certificate is not by the authority that came with it");
  if ("refusal" in judgeNode(certificate.subjectAltName, expected))
    throw new Error(`the certificate is for ${certificate.subjectAltName ?? "nobody"}`);
}
