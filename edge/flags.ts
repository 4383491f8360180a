/** The flags of `isochrone edge`: what they are called, what they mean, and the one line about each that is wrong. */
import { isIP } from "node:net";
import { parseArgs } from "node:util";
import {
  type CompressionPolicy,
  DICTIONARY_PATTERN,
  NO_PREFETCH,
  type OriginTarget,
  parseBytes,
  type PrefetchPolicy,
} from "#kit";
import { readCountries } from "#kit/io";
import { edgeDefaults, type EdgeSettings, IO_URING, type IoUring, type LinkUdp } from "./config.ts";
import { EVICTION_POLICIES, type EvictionPolicyName } from "./core/eviction/policies.ts";
import type { TlsOptions } from "./io/tls/serve-tls.ts";
import type { UnknownName } from "./io/tls/tls-front.ts";

export const HELP = `Usage: isochrone edge --listen ADDRESS:PORT --origin URL [options]
       isochrone edge --listen ADDRESS:PORT --node SERVER --control URL --state DIR

A caching HTTP reverse proxy. Alone it needs no configuration: any Host is served from one origin, the origin's own
Cache-Control decides what is stored, and what was stored is served when the origin is down.
As a node (edge or parent, as the topology says) it follows the documents of a deployment.

Alone:
  --origin URL         http://HOST[:PORT] or https://HOST[:PORT]
  --negative-ttl SECONDS  keep errors (404, 410, 5xx) that state no lifetime for so long, 0 (default) .. 3600
  --compression WORD   on (default): text goes out in br, zstd or gzip to who takes it; off: as the origin sent it
  --dictionary PATTERN paths such as '/app/*.js' whose contents browsers keep as dictionaries (RFC 9842), so that the next
                       version travels as its difference; may be repeated
  --prefetch WORD      on: what pages, style sheets, playlists and manifests name is asked for before clients do, and a
                       page that was seen before is announced by 103 Early Hints over HTTP/2; off (default)
  --access-log FILE    one JSON object a request; client addresses cut to /24 or /48, no query strings. Each of
                       several workers writes FILE.worker-0, FILE.worker-1, ...
  --admin ADDRESS:PORT health and metrics: /livez /readyz /metrics
  --tls-certificate FILE     chain in PEM, the server's own certificate first; with --tls-key, once for each certificate.
                             Read again when changed and at SIGHUP. The first is the default
  --tls-key FILE             its private key in PEM
Node:
  --node SERVER        the server's id in the topology
  --control URL        the control process; may be away: documents are kept in DIR
  --link WORD          on (default): the link protocol is spoken with the servers of the deployment that speak it too;
                       off: HTTP/1.1 alone
  --link-udp WORD      where packets get lost, small answers go by UDP with repairs: auto (default), each process
                       on the first free port from that of --listen on; FROM-TO: on ports of that range, twice as many as
                       workers, so that --replace finds some; off. A firewall between the servers has to let them in
  --countries FILE     lines PREFIX,COUNTRY such as 192.0.2.0/24,DE: what rules on countries go by; read at the start
  --test-scripts DIR   script tests of traffic policies that fall to this server may run the programs in DIR
  --state DIR          the server's own directory: documents, purges, access records
Both:
  --listen ADDRESS:PORT  port 0 takes a free one
  --memory SIZE        memory store, such as 256MiB (default)
  --disk DIR           keep objects on disk too; they survive a restart
  --disk-size SIZE     disk store, such as 10GiB (default)
  --io-uring WORD      read and answer clear HTTP/1.1 through io_uring (Linux 6.1 and newer, package koffi), a third less CPU
                       a hit: auto (default) where a try at the start succeeds, else a warning says why and nothing else
                       changes; on: without it the server does not start; off. ISOCHRONE_IO_URING says it where no flag does
  --http2-direct WORD  on (default): the frames of HTTP/2 are spoken here, a hit costs a fraction; off: by node:http2
  --workers N          processes that share the port, 1..64 (default 1)
  --eviction POLICY    what leaves memory first: w-tinylfu-scaled (default), w-tinylfu, s3-fifo or lru
  --tls-listen ADDRESS:PORT  speak TLS there too, HTTP/2 and HTTP/1.1; a node with the certificates of its deployment
  --alt-svc VALUE            announced in answers over TLS, such as 'h3=":443"; ma=86400' (deploy/http3)
  --trusted-proxy ADDRESS    of a proxy in front whose X-Forwarded-For tells the client; may be repeated
  --tls-unknown-name WORD    what clients get that name no server which we have a certificate of: default (the first
                             one; usual alone) or refuse (an alert; usual for a node)
  --run DIR            where the server's own sockets are (default: isochrone-UID in the system's temporary directory)
  --replace            the server that runs on --listen starts this program with these arguments and hands it its
                       sockets; it drains when the new one serves, and goes on when that fails (exit code 1)
  --help

Examples:
  isochrone edge --listen 127.0.0.1:8080 --origin http://127.0.0.1:9000
  isochrone edge --listen 127.0.0.1:8080 --origin https://www.example.com --memory 1GiB --disk /var/cache/isochrone --workers 4
  ISOCHRONE_CONTROL_TOKEN=... ISOCHRONE_PEER_KEY=... isochrone edge --listen 127.10.1.1:8080 --node fra-1 --control http://127.10.0.1:8080 --state state/fra-1
`;

/** Bad usage: one line, exit code 2. */
export class UsageError extends Error {}

/** Rejects what is no flag with a UsageError. */
export function parseFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      options: {
        listen: { type: "string" },
        origin: { type: "string" },
        memory: { type: "string" },
        eviction: { type: "string" },
        disk: { type: "string" },
        "disk-size": { type: "string" },
        "negative-ttl": { type: "string" },
        compression: { type: "string" },
        dictionary: { type: "string", multiple: true },
        prefetch: { type: "string" },
        "io-uring": { type: "string" },
        "http2-direct": { type: "string" },
        workers: { type: "string" },
        admin: { type: "string" },
        "access-log": { type: "string" },
        "tls-listen": { type: "string" },
        "tls-certificate": { type: "string", multiple: true },
        "tls-key": { type: "string", multiple: true },
        "tls-unknown-name": { type: "string" },
        "alt-svc": { type: "string" },
        link: { type: "string" },
        "link-udp": { type: "string" },
        countries: { type: "string" },
        "test-scripts": { type: "string" },
        "trusted-proxy": { type: "string", multiple: true },
        run: { type: "string" },
        replace: { type: "boolean" },
        node: { type: "string" },
        control: { type: "string" },
        state: { type: "string" },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}; see --help`);
  }
}

export type Flags = ReturnType<typeof parseFlags>["values"];

/** The defaults with what the flags say of them. */
export function settingsOf(flags: Flags): EdgeSettings {
  return {
    ...edgeDefaults,
    altSvc: altSvcOf(flags["alt-svc"]),
    countries: flags.countries === undefined ? undefined : readCountries(flags.countries),
    testScripts: flags["test-scripts"],
    trustedProxies: (flags["trusted-proxy"] ?? []).map(proxyAddressOf),
    memoryBytes: bytesOf("memory", flags.memory, edgeDefaults.memoryBytes, MEBIBYTE),
    evictionPolicy: evictionOf(flags.eviction),
    ioUring: ioUringOf(flags["io-uring"]),
    http2Direct: isOn("http2-direct", flags["http2-direct"], edgeDefaults.http2Direct),
    link: isOn("link", flags.link, edgeDefaults.link),
    linkUdp: linkUdpOf(flags["link-udp"]),
    diskBytes: bytesOf("disk-size", flags["disk-size"], edgeDefaults.diskBytes, MEBIBYTE),
  };
}

function isOn(flag: string, word: string | undefined, whenAbsent: boolean): boolean {
  if (word === undefined) return whenAbsent;
  if (word === "on" || word === "off") return word === "on";
  throw new UsageError(`--${flag}: got ${JSON.stringify(word)}, expected on or off`);
}

function linkUdpOf(value: string | undefined): LinkUdp {
  if (value === undefined || value === "auto" || value === "off") return value ?? edgeDefaults.linkUdp;
  const [, from, to] = (/^([0-9]{1,5})-([0-9]{1,5})$/.exec(value) ?? []).map(Number);
  if (from !== undefined && to !== undefined && from >= 1 && from <= to && to <= 65_535) return { from, to };
  throw new UsageError(
    `--link-udp: got ${JSON.stringify(value)}, expected auto, off or a range of ports such as 40000-40007`,
  );
}

function ioUringOf(flag: string | undefined): IoUring {
  const word = flag ?? process.env["ISOCHRONE_IO_URING"] ?? edgeDefaults.ioUring;
  const known = IO_URING.find((name) => name === word);
  if (known !== undefined) return known;
  const where = flag === undefined ? "ISOCHRONE_IO_URING" : "--io-uring";
  throw new UsageError(`${where}: got ${JSON.stringify(word)}, expected ${IO_URING.join(", ")}`);
}

/** `min` and `max` belong to it. */
export function wholeNumberOf(
  flag: string,
  value: string | undefined,
  { whenAbsent, min, max }: { readonly whenAbsent: number; readonly min: number; readonly max: number },
): number {
  if (value === undefined) return whenAbsent;
  const number = Number(value);
  if (Number.isInteger(number) && number >= min && number <= max) return number;
  throw new UsageError(
    `--${flag}: got ${JSON.stringify(value)}, expected a whole number from ${min} to ${max}`,
  );
}

/** A node takes from its deployment what these say to an edge alone. */
export function refuseAloneFlags(flags: Flags): void {
  for (const flag of [
    "negative-ttl",
    "compression",
    "dictionary",
    "prefetch",
    "access-log",
    "admin",
    "tls-certificate",
    "tls-key",
  ] as const)
    if (flags[flag] !== undefined)
      throw new UsageError(`--${flag} belongs to --origin; a node does not take it`);
}

/** What these say means nothing to an edge alone: it has no deployment, whose rules, servers and documents they are about. */
export function refuseNodeFlags(flags: Flags): void {
  for (const flag of ["control", "state", "countries", "test-scripts", "link", "link-udp"] as const)
    if (flags[flag] !== undefined)
      throw new UsageError(`--${flag} belongs to --node; an edge alone does not take it`);
}

/** What an edge alone compresses. */
export function compressionOf(flags: Flags): CompressionPolicy {
  const word = flags.compression ?? "on";
  if (word !== "on" && word !== "off")
    throw new UsageError(`--compression: got ${JSON.stringify(word)}, expected on or off`);
  const dictionaries = flags.dictionary ?? [];
  for (const pattern of dictionaries)
    if (!DICTIONARY_PATTERN.test(pattern))
      throw new UsageError(`--dictionary: got ${JSON.stringify(pattern)}, expected a path such as /app/*.js`);
  if (word === "off" && dictionaries.length > 0) throw new UsageError("--dictionary needs --compression on");
  return { isEnabled: word === "on", dictionaries };
}

/** What an edge alone asks for beforehand. */
export function prefetchOf(flags: Flags): PrefetchPolicy {
  const word = flags.prefetch ?? "off";
  if (word !== "on" && word !== "off")
    throw new UsageError(`--prefetch: got ${JSON.stringify(word)}, expected on or off`);
  const isEnabled = word === "on";
  return { ...NO_PREFETCH, isEnabled, hasEarlyHints: isEnabled };
}

/** TLS of an edge alone; undefined: none. @param ticketSecret the same in all workers */
export function tlsOf(flags: Flags, ticketSecret: Uint8Array): TlsOptions | undefined {
  const certificates = flags["tls-certificate"] ?? [];
  const keys = flags["tls-key"] ?? [];
  if (flags["tls-listen"] === undefined) {
    if (certificates.length + keys.length > 0 || flags["tls-unknown-name"] !== undefined)
      throw new UsageError("--tls-certificate, --tls-key and --tls-unknown-name need --tls-listen");
    return undefined;
  }
  const listen = endpointOf("tls-listen", flags["tls-listen"]);
  if (certificates.length === 0 || certificates.length !== keys.length)
    throw new UsageError(
      `--tls-listen needs as many --tls-certificate as --tls-key, at least one; got ${certificates.length} and ${keys.length}`,
    );
  return {
    host: listen.host,
    port: listen.port,
    pairs: certificates.map((certificateFile, index) => ({ certificateFile, keyFile: keys[index] ?? "" })),
    unknownName: unknownNameOf(flags, "default"),
    ticketSecret,
  };
}

/** What clients get that name no server of ours. */
export function unknownNameOf(flags: Flags, whenAbsent: UnknownName): UnknownName {
  const word = flags["tls-unknown-name"] ?? whenAbsent;
  if (word !== "default" && word !== "refuse")
    throw new UsageError(`--tls-unknown-name: got ${JSON.stringify(word)}, expected default or refuse`);
  return word;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export function endpointOf(flag: string, value: string | undefined): Endpoint {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+)):([0-9]{1,5})$/i.exec(value ?? "");
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new UsageError(
      `--${flag}: got ${value === undefined ? "nothing" : JSON.stringify(value)}, expected ADDRESS:PORT such as 127.0.0.1:8080`,
    );
  return { host: match[1] ?? match[2] ?? "", port };
}

export function originOf(value: string): OriginTarget {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (
    !url ||
    !/^https?:$/.test(url.protocol) ||
    url.pathname !== "/" ||
    url.search !== "" ||
    url.username !== ""
  )
    throw new UsageError(
      `--origin: got ${JSON.stringify(value)}, expected http://HOST[:PORT] or https://HOST[:PORT] without a path`,
    );
  const isTls = url.protocol === "https:";
  return {
    scheme: isTls ? "https" : "http",
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (isTls ? 443 : 80) : Number(url.port),
    // A name on the Internet serves its own host only; an address serves whatever is asked.
    ...(isTls && { hostHeader: url.host }),
  };
}

const MEBIBYTE = 2 ** 20;

function bytesOf(flag: string, value: string | undefined, whenAbsent: number, min: number): number {
  if (value === undefined) return whenAbsent;
  const bytes = parseBytes(value);
  if (bytes === undefined || bytes < min)
    throw new UsageError(
      `--${flag}: got ${JSON.stringify(value)}, expected a size of at least ${min} bytes such as 256MiB`,
    );
  return bytes;
}

function altSvcOf(value: string | undefined): string | undefined {
  // RFC 7838, section 3: at least one alternative, protocol="host:port".
  if (value === undefined || /^[a-z0-9%-]+="[^"\\]*:[0-9]{1,5}"[\x20-\x7e]*$/i.test(value)) return value;
  throw new UsageError(`--alt-svc: got ${JSON.stringify(value)}, expected such as 'h3=":443"; ma=86400'`);
}

function proxyAddressOf(value: string): string {
  if (isIP(value) !== 0) return value;
  throw new UsageError(`--trusted-proxy: got ${JSON.stringify(value)}, expected an IPv4 or IPv6 address`);
}

function evictionOf(value: string | undefined): EvictionPolicyName {
  const policy = EVICTION_POLICIES.find((name) => name === (value ?? EVICTION_POLICIES[0]));
  if (policy === undefined)
    throw new UsageError(
      `--eviction: got ${JSON.stringify(value)}, expected one of ${EVICTION_POLICIES.join(", ")}`,
    );
  return policy;
}
