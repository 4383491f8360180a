/** What a probe agent measures: a list in a file, one target a line. */
import { formatAddress, parseAddress } from "#kit";

export const probeKinds = ["icmp", "tcp", "http", "trace"] as const;
export type ProbeKind = (typeof probeKinds)[number];

export interface ProbeTarget {
  readonly kind: ProbeKind;
  /** As it was written: it names the target in records. */
  readonly text: string;
  /** Host name, or address in canonical text. Never begins with a hyphen: it becomes an argument of a program. */
  readonly host: string;
  /** 0 for `icmp` and `trace`. */
  readonly port: number;
  /** With `http`: path and query; and whether TLS is spoken. */
  readonly path: string;
  readonly isTls: boolean;
}

export const PROBE_TARGETS_MAX = 1_000;
const LINE_CHARACTERS_MAX = 2_048;
/** Of RFC 1123 section 2.1, underscores allowed. */
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;

/** A line of the list was refused; the message has its number, what was found and what was expected. */
export class ProbeTargetError extends Error {}

/** Blank lines and those that begin with # are left out. Throws {@link ProbeTargetError}. */
export function parseProbeTargets(text: string): ProbeTarget[] {
  const targets = text.split("\n").flatMap((raw, index) => {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) return [];
    const target = line.length > LINE_CHARACTERS_MAX ? undefined : targetOf(line);
    if (target === undefined)
      throw new ProbeTargetError(
        `line ${index + 1}: got ${JSON.stringify(line.slice(0, 80))}, expected "icmp HOST", "tcp HOST:PORT", "http URL" or "trace HOST"`,
      );
    return [target];
  });
  if (targets.length === 0 || targets.length > PROBE_TARGETS_MAX)
    throw new ProbeTargetError(`got ${targets.length} targets, expected 1 to ${PROBE_TARGETS_MAX}`);
  return targets;
}

function targetOf(line: string): ProbeTarget | undefined {
  const [kind, rest = "", ...more] = line.split(/[ \t]+/);
  if (more.length > 0) return undefined;
  const plain = { text: `${kind} ${rest}`, port: 0, path: "", isTls: false };
  if (kind === "icmp" || kind === "trace") {
    const host = hostOf(rest);
    return host === undefined ? undefined : { ...plain, kind, host };
  }
  if (kind === "tcp") {
    const parts = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(rest);
    const host = hostOf(parts?.[1] ?? parts?.[2] ?? "");
    const port = Number(parts?.[3]);
    return host === undefined || !(port >= 1 && port <= 65_535) ? undefined : { ...plain, kind, host, port };
  }
  if (kind !== "http" || !URL.canParse(rest)) return undefined;
  const url = new URL(rest);
  const isTls = url.protocol === "https:";
  const host = hostOf(url.hostname.replace(/^\[(.*)\]$/, "$1"));
  if (
    (!isTls && url.protocol !== "http:") ||
    host === undefined ||
    url.username !== "" ||
    url.password !== ""
  )
    return undefined;
  const port = url.port === "" ? (isTls ? 443 : 80) : Number(url.port);
  return { ...plain, kind, host, port, path: `${url.pathname}${url.search}`, isTls };
}

function hostOf(text: string): string | undefined {
  const address = parseAddress(text);
  if (address !== undefined) return formatAddress(address);
  // Only digits and points, and no address: "10.1" means different things to different programs.
  return HOST_NAME.test(text) && !/^[0-9.]+$/.test(text) ? text.toLowerCase() : undefined;
}
