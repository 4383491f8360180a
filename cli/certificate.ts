/** `isochrone certificate`: server certificates of a deployment, from files to every edge. */
import { parseArgs } from "node:util";
import { type ControlClient, ControlError } from "#control";
import { makeCertificateDocument } from "#edge";
import { type CertificateDocument, certificateDocument, id } from "#kit";
import { readFileIfThere, systemClock } from "#kit/io";
import { peerKeyFromEnvironment } from "#transport";
import { authorName } from "./author.ts";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone certificate ACTION [options]

  push ID --chain FILE --key FILE   checks the pair, seals the key, puts it in force at every edge, and for DNS over TLS at the
                                    name servers that it names
  withdraw ID                       served no more, from the next handshake on
  list                              every certificate: names, fingerprint, version

The private key is sealed (AES-256-GCM under a key derived from ISOCHRONE_PEER_KEY) before it leaves this machine: control
never holds it. FILE in PEM; the chain begins with the server's own certificate.
Options: --control URL, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR, --json
Exit code: 0 done, 1 control refused or is not there, 2 bad usage or bad file.

Example:
  isochrone certificate push shop --chain fullchain.pem --key privkey.pem`;

const FILE_BYTES_MAX = 65_536;

interface Flags {
  readonly chain?: string | undefined;
  readonly key?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      chain: { type: "string" },
      key: { type: "string" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [action, subject, ...more] = positionals;
  const run = actionOf(action, subject, more, values);
  try {
    await withControl(values, run);
    return 0;
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

function actionOf(
  action: string | undefined,
  subject: string | undefined,
  more: readonly string[],
  flags: Flags,
): (client: ControlClient) => Promise<void> {
  if (action === "list" && subject === undefined) return (client) => list(client, flags.json ?? false);
  if ((action === "push" || action === "withdraw") && subject !== undefined && more.length === 0) {
    const certificateId = id().parse(subject, ["ID"]);
    if (action === "withdraw") return (client) => withdraw(client, certificateId);
    if (flags.chain === undefined || flags.key === undefined)
      throw new UsageError("certificate push needs --chain FILE and --key FILE; see --help");
    // Read and sealed before control is spoken to: a bad pair is the user's to mend.
    const made = makeCertificateDocument(
      certificateId,
      read(flags.chain),
      read(flags.key),
      peerKeyFromEnvironment(),
      systemClock.epoch(),
    );
    if (made.warning !== undefined)
      process.stderr.write(
        `warning: the certificate is ${WARNINGS[made.warning]} (${new Date(made.notAfter).toISOString()})\n`,
      );
    return (client) => push(client, made.document, flags.json ?? false);
  }
  throw new UsageError("expected push ID, withdraw ID, or list; see --help");
}

const WARNINGS = {
  expired: "expired",
  "not-yet-valid": "not valid yet",
  "expires-soon": "about to expire",
} as const;

function read(path: string): string {
  const data = readFileIfThere(path, FILE_BYTES_MAX);
  if (data === undefined) throw new UsageError(`No file ${JSON.stringify(path)}`);
  return data.toString("utf8");
}

async function push(client: ControlClient, document: CertificateDocument, isJson: boolean): Promise<void> {
  const { certificateId } = document;
  const newest = (await client.versions("certificate", certificateId)).at(-1);
  const summary = await client.put("certificate", certificateId, document, {
    expectedVersion: newest?.version ?? 0,
    note: document.fingerprint,
    author: authorName(),
    activate: true,
  });
  if (isJson) console.log(JSON.stringify(summary, null, 2));
  else
    console.log(`${certificateId}: version ${summary.version} is active (${document.hostnames.join(", ")})`);
}

async function withdraw(client: ControlClient, certificateId: string): Promise<void> {
  const found = await client.document("certificate", certificateId);
  if (found === undefined)
    throw new UsageError(
      `There is no certificate ${JSON.stringify(certificateId)}; "isochrone certificate list" lists them`,
      1,
    );
  const newest = (await client.versions("certificate", certificateId)).at(-1);
  const document = certificateDocument.parse(found.body);
  const summary = await client.put(
    "certificate",
    certificateId,
    { ...document, isActive: false },
    {
      expectedVersion: newest?.version ?? 0,
      note: "withdrawn",
      author: authorName(),
      activate: true,
    },
  );
  console.log(`${certificateId}: version ${summary.version} withdraws it`);
}

async function list(client: ControlClient, isJson: boolean): Promise<void> {
  const rows: (readonly (string | number)[])[] = [];
  const found: unknown[] = [];
  for (const { id: certificateId, activeVersion } of await client.documents("certificate")) {
    if (activeVersion === null) continue;
    const record = await client.document("certificate", certificateId, activeVersion);
    if (record === undefined) continue;
    const { hostnames, fingerprint, isActive } = certificateDocument.parse(record.body);
    found.push({ certificateId, version: activeVersion, hostnames, fingerprint, isActive });
    rows.push([
      certificateId,
      activeVersion,
      isActive ? "served" : "withdrawn",
      hostnames.join(" "),
      fingerprint.slice(0, 23),
    ]);
  }
  if (isJson) console.log(JSON.stringify(found, null, 2));
  else console.log(formatTable(["certificate", "version", "state", "names", "sha-256"], rows));
}
