/**
 * The authority of the deployment's servers: signs their certificates, and remembers which key speaks for which of them. Its key lies
 * beside the store, sealed under control's token, so that a copy of what is on the disk is no authority.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
  X509Certificate,
} from "node:crypto";
import { join } from "node:path";
import {
  type Clock,
  formatNodeUri,
  IsochroneError,
  type NodeCertificate,
  type NodeName,
  object,
  type ServerId,
  string,
} from "#kit";
import { LastKnownGood, seal, unseal } from "#kit/io";
import {
  type NodeEntry,
  nodeEntries,
  NodeRegister,
  nodeRequestMessage,
  type NodeVerdict,
  nodeVerdicts,
} from "../core/node-register.ts";
import type { NodeCertificateRequest } from "../core/wire.ts";
import { certificateOf, type CertificateParts, toBeSigned } from "../core/x509.ts";

const HOUR_MS = 3_600_000;
/** How long a server is known that control does not want any more; two thirds of it is how long control may be away. */
const CERTIFICATE_VALID_MS = 24 * HOUR_MS;
/** Clocks may be wrong by as much. */
const DATED_BACK_MS = HOUR_MS;
const AUTHORITY_VALID_MS = 10 * 365 * 24 * HOUR_MS;
const AUTHORITY_NAME = "isochrone servers";

const AUTHORITY_FILE = "node-authority.json";
const authorityFile = object({ sealedKey: string({ max: 8_192 }), certificatePem: string({ max: 8_192 }) });
const SEALED_FOR = { purpose: "isochrone node authority key v1", boundTo: AUTHORITY_NAME } as const;

export interface NodeAuthorityOptions {
  /** Undefined: memory alone, for tests. */
  readonly stateDirectory: string | undefined;
  /** Control's own: opens the key that is kept. */
  readonly token: string;
  /** What the token was before: a key that is sealed under it is sealed anew. */
  readonly previousToken?: string | undefined;
  readonly clock: Clock;
  readonly validMs?: number;
}

export class NodeAuthority {
  readonly #clock: Clock;
  readonly #validMs: number;
  readonly #key: KeyObject;
  readonly #keyId: Uint8Array;
  readonly #certificatePem: string;
  readonly #register: NodeRegister;
  readonly #save: (entries: readonly NodeEntry[]) => Promise<void>;
  /** Requests by what became of them. */
  readonly counters = Object.fromEntries(nodeVerdicts.map((one) => [one, 0])) as Record<NodeVerdict, number>;

  private constructor(
    options: NodeAuthorityOptions,
    { keyPem, certificatePem }: { readonly keyPem: string; readonly certificatePem: string },
    entries: readonly NodeEntry[],
    save: (entries: readonly NodeEntry[]) => Promise<void>,
  ) {
    this.#clock = options.clock;
    this.#validMs = options.validMs ?? CERTIFICATE_VALID_MS;
    this.#key = createPrivateKey(keyPem);
    this.#keyId = keyIdOf(createPublicKey(this.#key).export({ type: "spki", format: "der" }));
    this.#certificatePem = certificatePem;
    this.#register = new NodeRegister(entries);
    this.#save = save;
  }

  /**
   * Reads it, or makes one at the first start. Rejects with IsochroneError when a file is there that is none or was sealed under another
   * token: nothing is made anew then.
   */
  static async open(options: NodeAuthorityOptions): Promise<NodeAuthority> {
    const { stateDirectory, clock, token, previousToken } = options;
    if (stateDirectory === undefined)
      return new NodeAuthority(options, makeAuthority(clock), [], () => Promise.resolve());
    const unusable = (name: string, reason: string): IsochroneError =>
      new IsochroneError(
        `Cannot use ${JSON.stringify(join(stateDirectory, name))}: it ${reason}; put a copy back, or remove it: servers then go without links and relays until each has asked for its next certificate, 11 hours at most`,
        { code: "authority-unusable", source: "configuration", retry: "never" },
      );
    const file = <T>(name: string, parse: (value: unknown) => T) =>
      new LastKnownGood(join(stateDirectory, name), parse, {
        onDamaged: ({ reason }) => {
          throw unusable(name, reason);
        },
      });
    const sealed = (keyPem: string) => seal(keyPem, SEALED_FOR, Buffer.from(token));
    const opened = (sealedKey: string, by: string) => unseal(sealedKey, SEALED_FOR, Buffer.from(by));
    const kept = file(AUTHORITY_FILE, (value) => authorityFile.parse(value));
    const register = file("node-register.json", (value) => nodeEntries.parse(value));
    const found = kept.load();
    let pair: { readonly keyPem: string; readonly certificatePem: string };
    if (found === undefined) {
      pair = makeAuthority(clock);
      const { keyPem, certificatePem } = pair;
      await kept.save({ sealedKey: sealed(keyPem), certificatePem });
    } else {
      const { sealedKey, certificatePem } = found;
      try {
        pair = { keyPem: opened(sealedKey, token), certificatePem };
      } catch {
        try {
          pair = { keyPem: opened(sealedKey, previousToken ?? token), certificatePem };
        } catch {
          throw unusable(
            AUTHORITY_FILE,
            "was sealed under another ISOCHRONE_CONTROL_TOKEN; start once with that one in ISOCHRONE_CONTROL_TOKEN_BEFORE",
          );
        }
        await kept.save({ sealedKey: sealed(pair.keyPem), certificatePem });
      }
    }
    return new NodeAuthority(options, pair, register.load() ?? [], async (entries) => {
      await register.save(entries);
    });
  }

  /** Who has a key, and what of it. */
  get entries(): readonly NodeEntry[] {
    return this.#register.entries;
  }

  /**
   * A certificate for a server, when the key that asks may have it; else why not.
   *
   * @param name of the server, in a topology in force; undefined: none has it
   */
  async issue(
    serverId: ServerId,
    request: NodeCertificateRequest,
    name: NodeName | undefined,
  ): Promise<
    | { readonly verdict: "issued"; readonly certificate: NodeCertificate; readonly isNew: boolean }
    | { readonly verdict: Exclude<NodeVerdict, "issued"> }
  > {
    const refused = (verdict: Exclude<NodeVerdict, "issued">) => {
      this.counters[verdict]++;
      return { verdict };
    };
    const publicKey = provenKey(serverId, request);
    if (publicKey === undefined) return refused("not-proven");
    if (name === undefined) return refused("unknown-server");
    const fingerprint = createHash("sha256").update(publicKey).digest("hex");
    const verdict = this.#register.judge(serverId, fingerprint);
    if (verdict !== "issued") return refused(verdict);
    this.counters.issued++;
    const now = this.#clock.epoch();
    // Certificates tell whole seconds.
    const notBeforeEpochMs = Math.floor((now - DATED_BACK_MS) / 1_000) * 1_000;
    const notAfterEpochMs = Math.floor((now + this.#validMs) / 1_000) * 1_000;
    const isNew = this.#register.handleIssued(serverId, fingerprint, now, notAfterEpochMs);
    await this.#save(this.#register.entries);
    const certificatePem = signed(
      {
        issuer: AUTHORITY_NAME,
        subject: serverId,
        notBefore: timeText(notBeforeEpochMs),
        notAfter: timeText(notAfterEpochMs),
        publicKey,
        keyId: keyIdOf(publicKey),
        authorityKeyId: this.#keyId,
        uri: formatNodeUri(name),
      },
      this.#key,
    );
    const certificate = {
      name,
      certificatePem,
      authorityPem: this.#certificatePem,
      notBeforeEpochMs,
      notAfterEpochMs,
    };
    return { verdict, certificate, isNew };
  }

  /**
   * `revoke`: no more certificates for it, what it has runs out; `forget`: the next key that asks has its name. Resolves with false when it
   * is not known.
   */
  async change(serverId: ServerId, action: "revoke" | "forget"): Promise<boolean> {
    const isKnown = this.#register[action](serverId);
    if (isKnown) await this.#save(this.#register.entries);
    return isKnown;
  }
}

/** The public key of a request, if it is one of P-256 and the request is signed by it; DER in the one form that we write. */
function provenKey(
  serverId: ServerId,
  { publicKey, signature }: NodeCertificateRequest,
): Uint8Array | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(publicKey, "base64"), format: "der", type: "spki" });
    if (key.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1")
      return undefined;
    const message = Buffer.from(nodeRequestMessage(serverId, publicKey));
    if (!verify("sha256", message, key, Buffer.from(signature, "base64"))) return undefined;
    return key.export({ type: "spki", format: "der" });
  } catch {
    // No key at all.
    return undefined;
  }
}

function makeAuthority(clock: Clock): { readonly keyPem: string; readonly certificatePem: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const now = clock.epoch();
  const certificatePem = signed(
    {
      issuer: AUTHORITY_NAME,
      subject: AUTHORITY_NAME,
      notBefore: timeText(now - DATED_BACK_MS),
      notAfter: timeText(now + AUTHORITY_VALID_MS),
      publicKey: spki,
      keyId: keyIdOf(spki),
      authorityKeyId: keyIdOf(spki),
      uri: undefined,
    },
    privateKey,
  );
  return { keyPem: privateKey.export({ type: "pkcs8", format: "pem" }) as string, certificatePem };
}

function signed(parts: Omit<CertificateParts, "serial">, key: KeyObject): string {
  const body = toBeSigned({ serial: Buffer.concat([Buffer.from([1]), randomBytes(15)]), ...parts });
  return new X509Certificate(certificateOf(body, sign("sha256", body, key))).toString();
}

/** 160 bits of a hash of the key (RFC 7093, section 2). */
function keyIdOf(spki: Uint8Array): Uint8Array {
  return createHash("sha256").update(spki).digest().subarray(0, 20);
}

function timeText(epochMs: number): string {
  return new Date(epochMs).toISOString().replaceAll(/[-:T]|\.\d+/g, "");
}
