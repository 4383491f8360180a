/** `isochrone token`: keys and client certificates for a property's document, and tokens. */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { certificateWarning, makeAccessKey, makeClientCertificate, makeToken } from "#edge";
import { type EpochMs, id, parseDurationMs } from "#kit";
import { readFileIfThere, systemClock } from "#kit/io";
import { peerKeyFromEnvironment } from "#transport";
import { refuseFlags, UsageError } from "./usage.ts";

const help = `Usage: isochrone token key PROPERTY KEY [--secret FILE]
       isochrone token certificate PROPERTY --chain FILE --private-key FILE
       isochrone token sign PATH --key KEY --secret FILE [--for DURATION] [--acl] [--json]

key   Prints an entry for access.keys or originAuth.keys of the property's document. The secret is sealed (AES-256-GCM under a key derived from
      ISOCHRONE_PEER_KEY), so control never holds it. Without --secret one is made and printed, once.
certificate
      Prints clientCertificate, to be put into originAuth of the property's document: what its https origins are shown that ask for a client
      certificate. FILE in PEM, the holder's own certificate first, the key without a passphrase; it is sealed in the same way. Who the
      origins will see, and what is wrong with it, goes to standard error. A new one is another version of the document.
sign  Prints a token for PATH that ends after --for (30s, 15m, 1h ...; default 1h, at most 366d). With --acl it opens every path
      that PATH, which then ends in "*", is the beginning of. It is sent as the query parameter or the cookie that the
      property's access.parameter names (isochrone-token), to paths for which a rule says requireToken.

A secret's FILE holds 16 to 256 visible characters; blanks around them do not count. Exit code: 0 done, 2 bad usage or bad file.

Anybody can sign; this is the token for /file.zip:
  TEXT="exp=$(( $(date +%s) + 3600 ))~kid=k1"
  HMAC=$(printf '%s~path=/file.zip' "$TEXT" | openssl dgst -sha256 -hmac "$(cat k1.secret)" -r | cut -d' ' -f1)
  echo "$TEXT~hmac=$HMAC"

Examples:
  isochrone token key shop-www k1 --secret k1.secret
  curl "http://www.shop.example/file.zip?isochrone-token=$(isochrone token sign /file.zip --key k1 --secret k1.secret)"
  isochrone token certificate shop-www --chain cdn.pem --private-key cdn.key > client-certificate.json
  isochrone token sign '/video/7/*' --acl --key k1 --secret k1.secret --for 6h`;

const FILE_BYTES_MAX = 1_024;
const PEM_BYTES_MAX = 65_536;
const DURATION_MS_DEFAULT = 3_600_000;
const DURATION_MS_MAX = 366 * 86_400_000;
const SECRET_BYTES = 32;

interface Flags {
  readonly secret?: string | undefined;
  readonly key?: string | undefined;
  readonly chain?: string | undefined;
  readonly "private-key"?: string | undefined;
  readonly for?: string | undefined;
  readonly acl?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const flagsOf: Readonly<Record<string, readonly string[]>> = {
  key: ["secret"],
  certificate: ["chain", "private-key"],
  sign: ["key", "secret", "for", "acl", "json"],
};

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      secret: { type: "string" },
      key: { type: "string" },
      chain: { type: "string" },
      "private-key": { type: "string" },
      for: { type: "string" },
      acl: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return await Promise.resolve(0);
  }
  const [action, subject, keyId, ...more] = positionals;
  const taken = flagsOf[action ?? ""];
  if (taken !== undefined) refuseFlags(`token ${action}`, values, Object.keys(values), taken);
  if (action === "key" && subject !== undefined && keyId !== undefined && more.length === 0)
    printKey(subject, keyId, values.secret);
  else if (action === "certificate" && subject !== undefined && keyId === undefined)
    printCertificate(subject, values);
  else if (action === "sign" && subject !== undefined && keyId === undefined) printToken(subject, values);
  else throw new UsageError("expected key PROPERTY KEY, certificate PROPERTY, or sign PATH; see --help");
  return 0;
}

function printKey(property: string, keyId: string, file: string | undefined): void {
  const propertyId = id().parse(property, ["PROPERTY"]);
  const made = file === undefined ? randomBytes(SECRET_BYTES).toString("base64url") : undefined;
  const secret = made ?? readSecret(file ?? "");
  try {
    const key = makeAccessKey(propertyId, keyId, secret, peerKeyFromEnvironment());
    console.log(JSON.stringify(made === undefined ? key : { secret: made, key }, null, 2));
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(`--secret: ${error.message}`);
    throw error;
  }
}

function printCertificate(property: string, { chain, "private-key": key }: Flags): void {
  const propertyId = id().parse(property, ["PROPERTY"]);
  if (chain === undefined || key === undefined)
    throw new UsageError("token certificate needs --chain FILE and --private-key FILE; see --help");
  const [chainPem, keyPem] = [chain, key].map((file) => readFile(file, PEM_BYTES_MAX)) as [string, string];
  const { clientCertificate, about } = makeClientCertificate(
    propertyId,
    chainPem,
    keyPem,
    peerKeyFromEnvironment(),
    chain,
  );
  console.log(JSON.stringify({ clientCertificate }, null, 2));
  const { subject, issuer, notBefore, notAfter, isForClients } = about;
  console.error(
    `Belongs into originAuth of property ${propertyId}. Its https origins are shown ${subject}, issued by ${issuer}, good until ${new Date(notAfter).toISOString()}; the issuer is whom they have to trust.`,
  );
  const warnings = {
    expired: "it has expired",
    "not-yet-valid": "it is not valid yet",
    "expires-soon": "it ends within a week",
  };
  const warning = certificateWarning({ notBefore, notAfter }, systemClock.epoch());
  if (warning !== undefined) console.error(`Warning: ${warnings[warning]}.`);
  if (!isForClients)
    console.error(
      "Warning: its extended key usage does not allow clients (clientAuth); most origins will refuse it.",
    );
}

function printToken(path: string, flags: Flags): void {
  const isAcl = flags.acl ?? false;
  if (!(isAcl ? /^\/[!-)+-}]*\*$/ : /^\/[!-~]*$/).test(path) || /[?#]/.test(path))
    throw new UsageError(
      `expected a path in visible ASCII without query${isAcl ? ', without "~" and with one "*", at its end' : ""}, got ${JSON.stringify(path)}; see --help`,
    );
  if (flags.key === undefined || flags.secret === undefined)
    throw new UsageError("token sign needs --key KEY and --secret FILE; see --help");
  const durationMs = flags.for === undefined ? DURATION_MS_DEFAULT : parseDurationMs(flags.for);
  if (durationMs === undefined || durationMs < 1_000 || durationMs > DURATION_MS_MAX)
    throw new UsageError(
      `--for: got ${JSON.stringify(flags.for)}, expected a duration from 1s to 366d such as 15m`,
    );
  const keyId = id().parse(flags.key, ["--key"]);
  const expiresAt = (systemClock.epoch() + durationMs) as EpochMs;
  const token = makeToken(readSecret(flags.secret), keyId, expiresAt, isAcl ? { acl: path } : { path });
  console.log(
    flags.json
      ? JSON.stringify({ token, keyId, path, expiresAtEpochMs: Math.floor(expiresAt / 1_000) * 1_000 })
      : token,
  );
}

function readSecret(file: string): string {
  return readFile(file, FILE_BYTES_MAX).trim();
}

function readFile(file: string, bytesMax: number): string {
  const data = readFileIfThere(file, bytesMax);
  if (data === undefined) throw new UsageError(`No file ${JSON.stringify(file)}`);
  return data.toString("utf8");
}
