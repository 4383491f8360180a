/** The command line of `isochrone dns`, parsed strictly. */
import { join } from "node:path";
import { getServers } from "node:dns";
import { parseArgs } from "node:util";
import { id, type ServerId } from "#kit";
import { type AddressCut, addressCutDefault } from "../core/dns/query-log/query-record.ts";
import type { TlsSetting } from "./dns-server.ts";
import { LISTEN_ADDRESS_EXPECTED, type ListenAddress, parseListenAddress } from "#kit/io";

interface Common {
  readonly listen: ListenAddress;
  readonly reusePort: boolean;
  readonly isPlainUdp: boolean;
  /** Processes that serve; 1: this one. */
  readonly workers: number;
  /** Where queries that end a worker are kept; undefined: in the log alone. */
  readonly crashFile: string | undefined;
  /** Answers of one kind to one client network, a second, over UDP without a cookie; 0: no limit. */
  readonly rateLimitPerSecond: number;
  /** Octets a second beyond those received, for all UDP clients without cookie together; 0: no limit. */
  readonly surplusBytesPerSecond: number;
  /** DNS over TLS (RFC 7858); undefined: none. */
  readonly tls: TlsSetting | undefined;
  /** Countries of client addresses, for policies. */
  readonly countriesFile: string | undefined;
  readonly queryLog: {
    readonly path: string | undefined;
    /** One query in so many; 0: none. */
    readonly oneIn: number;
    readonly cut: AddressCut;
  };
}
/** One of a deployment's name servers: documents come from control. */
export interface NodeOptions extends Common {
  readonly mode: "node";
  readonly serverId: ServerId;
  readonly admin: ListenAddress;
  readonly controlUrl: string;
  readonly stateDirectory: string;
  /** How much later documents come into force; 0: at once. */
  readonly inputDelaySeconds: number;
  /** File with the keys of who may fetch zones. */
  readonly tsigKeysFile: string | undefined;
  /** Where the programs of script tests lie; undefined: none is run. */
  readonly testScripts: string | undefined;
  readonly mayAskPrivatePrimaries: boolean;
  /** Who resolves names outside. */
  readonly resolvers: readonly ListenAddress[];
}
/** A name server by itself: everything comes from a world file. */
export interface AloneOptions extends Common {
  readonly mode: "alone";
  readonly worldFile: string;
  readonly admin: ListenAddress | undefined;
  /** Ask the edge servers' /livez; without it all are taken to be up. */
  readonly mayProbe: boolean;
  /** Its zones are signed with keys made for this run. */
  readonly isSigned: boolean;
}
export type DnsOptions = NodeOptions | AloneOptions;

/** The command line is wrong; the message is one line. */
export class OptionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "OptionError";
  }
}

export const dnsHelp = `Usage: isochrone dns --world WORLD --listen ADDRESS:PORT [--admin ADDRESS:PORT] [--probe]
       isochrone dns --node SERVER --listen ADDRESS:PORT --admin ADDRESS:PORT --control URL --state DIR

Authoritative name server over UDP and TCP. It answers A and AAAA of properties by the map, for the
client subnet of the query (RFC 7871) or else for the resolver, with an exact scope.

With --world it works alone: zones, servers and properties come from the world file, and the map
from measurements that are sampled from the world's links inside of the process.
With --node it is one of a deployment: topology, properties and map come from control and are kept
in DIR, so that it boots and serves with control dead; it probes every edge server itself.

  --listen ADDRESS:PORT  DNS over UDP and TCP; [ADDRESS]:PORT for IPv6
  --admin ADDRESS:PORT   HTTP: /livez /readyz /metrics, and with the token /.isochrone/where and status
  --world FILE           a world file, or "demo" or "small"
  --probe                with --world: ask every edge server's /livez
  --sign                 with --world: sign its zones (DNSSEC) with keys made for this run; their DS go to stderr
  --node SERVER          the name server's id in the topology
  --control URL          http://ADDRESS:PORT of control
  --state DIR            where the last known good documents are kept
  --tsig-keys FILE       with --node: keys (TSIG) of who may fetch zones and is told of changes, and of the primaries
                         that secondary zones are fetched from; a JSON file of
                         [{"name": "key.example", "algorithm": "hmac-sha256", "secret": "BASE64"}]
  --input-delay SECONDS  with --node: documents come into force so much later (at most twice as much), and queries are
                         REFUSED while any other name server of the topology answers; 3600 for an hour
  --countries FILE       lines PREFIX,COUNTRY such as 192.0.2.0/24,DE: what geographic policies go by, as edges' rules do
  --resolver ADDRESS:PORT  with --node: who resolves the names outside that ALIAS records lead to; may be repeated
                         (default: the system's resolvers)
  --private-primaries    with --node: secondary zones may be fetched from private and other special addresses
  --test-scripts DIR     with --node: script tests of policies may run the programs in DIR
  --reuse-port           share the port with other processes of the same user
  --workers N            processes that share the port; one that dies is started again (default 1). SIGHUP
                         replaces each by a new one that goes on with its sockets, what runs in one process too
  --crash-file FILE      with --workers: queries that ended a worker, one JSON object each with the packet in hex;
                         the other workers drop them for ten minutes (with --node: DIR/crash-queries.ndjson)
  --rate-limit N         answers of one kind a second to one client network (/24, /56) over UDP; who shows a
                         cookie (RFC 7873) has no limit; 0: none for all (default 500)
  --surplus-limit N      octets a second that all who have shown neither a cookie nor a TCP handshake for an hour get beyond
                         what they send; then answers over UDP are cut to TC; 0: none (default 8000000)
  --tls-listen ADDRESS:PORT  DNS over TLS too (RFC 7858; its port is 853), with
  --tls-certificate FILE     the chain in PEM, the server's own certificate first, and
  --tls-key FILE             its private key; both are read again at SIGHUP. With --node neither is wanted: then it is the certificate
                         that "isochrone certificate push" has put in force for the name server's name, a new one at once
  --query-log FILE       one JSON object for each query that is looked at; each of several workers writes
                         FILE.worker-0, FILE.worker-1, ...
  --query-sample N       look at one query in N, for the log and for \`isochrone queries\`; 0: at none (default 100)
  --query-prefix A,B     bits of IPv4 and IPv6 addresses that are kept of them (default 24,56)
  --plain-udp            one system call for each datagram instead of batches (Linux, package koffi)

Environment: ISOCHRONE_CONTROL_TOKEN, the bearer token for control (--node) and for /.isochrone/;
ISOCHRONE_PEER_KEY, which opens the keys of signed zones and of certificates (--node).

Examples:
  isochrone dns --world demo --listen 127.0.0.1:5300
  dig @127.0.0.1 -p 5300 www.shop.example +subnet=198.18.0.0/24
  isochrone dns --node lon-dns-2 --input-delay 3600 --listen 192.0.2.2:53 --admin 192.0.2.2:8080 \\
    --control http://192.0.2.9:8080 --state /var/lib/isochrone/dns
  isochrone dns --node lon-dns-1 --listen 192.0.2.1:53 --admin 192.0.2.1:8080 \\
    --control http://192.0.2.9:8080 --state /var/lib/isochrone/dns`;

/** Throws {@link OptionError}, or the error of node:util parseArgs. "help": `--help` was given. */
export function parseDnsOptions(argv: readonly string[]): DnsOptions | "help" {
  const { values } = parseArgs({
    args: [...argv],
    allowPositionals: false,
    options: {
      help: { type: "boolean", short: "h" },
      listen: { type: "string" },
      admin: { type: "string" },
      world: { type: "string" },
      probe: { type: "boolean" },
      sign: { type: "boolean" },
      node: { type: "string" },
      control: { type: "string" },
      state: { type: "string" },
      "reuse-port": { type: "boolean" },
      "plain-udp": { type: "boolean" },
      "rate-limit": { type: "string" },
      "surplus-limit": { type: "string" },
      "tls-listen": { type: "string" },
      "tls-certificate": { type: "string" },
      "tls-key": { type: "string" },
      "query-log": { type: "string" },
      "query-sample": { type: "string" },
      "query-prefix": { type: "string" },
      workers: { type: "string" },
      "tsig-keys": { type: "string" },
      "crash-file": { type: "string" },
      "input-delay": { type: "string" },
      countries: { type: "string" },
      resolver: { type: "string", multiple: true },
      "private-primaries": { type: "boolean" },
      "test-scripts": { type: "string" },
    },
  });
  if (values.help === true) return "help";
  const isNode = values.node !== undefined;
  if (isNode === (values.world !== undefined)) {
    throw new OptionError("give either --world FILE (alone) or --node SERVER (in a deployment); see --help");
  }
  const common = {
    listen: listenOf("--listen", required("--listen", values.listen)),
    reusePort: values["reuse-port"] ?? false,
    isPlainUdp: values["plain-udp"] ?? false,
    rateLimitPerSecond: wholeNumber(
      "--rate-limit",
      values["rate-limit"],
      0,
      RATE_LIMIT_PER_SECOND_MAX,
      RATE_LIMIT_PER_SECOND,
    ),
    surplusBytesPerSecond: wholeNumber(
      "--surplus-limit",
      values["surplus-limit"],
      0,
      SURPLUS_BYTES_MAX,
      SURPLUS_BYTES,
    ),
    workers: wholeNumber("--workers", values.workers, 1, WORKERS_MAX, 1),
    crashFile:
      values["crash-file"] ??
      (values.state === undefined ? undefined : join(values.state, "crash-queries.ndjson")),
    tls: tlsOf(values["tls-listen"], values["tls-certificate"], values["tls-key"], isNode),
    countriesFile: values.countries,
    queryLog: {
      path: values["query-log"],
      oneIn: wholeNumber("--query-sample", values["query-sample"], 0, QUERY_SAMPLE_MAX, QUERY_SAMPLE),
      cut: cutOf(values["query-prefix"]),
    },
  };
  if (common.queryLog.path !== undefined && common.queryLog.oneIn === 0)
    throw new OptionError(
      "--query-log with --query-sample 0 would stay empty; give 1 for all queries, or leave one out",
    );
  if (isNode) {
    if (values.probe !== undefined)
      throw new OptionError("--probe belongs to --world: a node always probes; leave it out");
    if (values.sign !== undefined)
      throw new OptionError(
        '--sign belongs to --world: a node has its keys from control, see "isochrone dnssec"',
      );
    return {
      mode: "node",
      ...common,
      serverId: serverIdOf(required("--node", values.node)),
      admin: listenOf("--admin", required("--admin", values.admin)),
      controlUrl: urlOf(required("--control", values.control)),
      stateDirectory: required("--state", values.state),
      tsigKeysFile: values["tsig-keys"],
      inputDelaySeconds: wholeNumber("--input-delay", values["input-delay"], 0, INPUT_DELAY_SECONDS_MAX, 0),
      resolvers:
        values.resolver === undefined
          ? systemResolvers()
          : values.resolver.map((one) => listenOf("--resolver", one)),
      mayAskPrivatePrimaries: values["private-primaries"] ?? false,
      testScripts: values["test-scripts"],
    };
  }
  for (const name of [
    "control",
    "state",
    "tsig-keys",
    "input-delay",
    "resolver",
    "private-primaries",
    "test-scripts",
  ] as const) {
    if (values[name] !== undefined)
      throw new OptionError(`--${name} belongs to --node: a name server alone needs none; leave it out`);
  }
  return {
    mode: "alone",
    ...common,
    worldFile: required("--world", values.world),
    admin: values.admin === undefined ? undefined : listenOf("--admin", values.admin),
    mayProbe: values.probe ?? false,
    isSigned: values.sign ?? false,
  };
}

/** A public resolver asks for one name from one network this often at most without cookies; a forger gets no more of us. */
const RATE_LIMIT_PER_SECOND = 500;
const RATE_LIMIT_PER_SECOND_MAX = 1_000_000;

/** 64 Mbit/s: some 100,000 answers of two addresses a second, before who has no cookie is asked to come over TCP once an hour. */
const SURPLUS_BYTES = 8_000_000;
const SURPLUS_BYTES_MAX = 1_000_000_000;

/** As the system's own look-ups ask them. */
function systemResolvers(): readonly ListenAddress[] {
  return getServers().map((text) => parseListenAddress(text) ?? { host: text, port: 53 });
}

const WORKERS_MAX = 64;
const INPUT_DELAY_SECONDS_MAX = 86_400;
/** Of 400,000 queries a second 4,000 are looked at, which costs a hundredth of the time. */
const QUERY_SAMPLE = 100;
const QUERY_SAMPLE_MAX = 1_000_000;

function tlsOf(
  listen: string | undefined,
  certificateFile: string | undefined,
  keyFile: string | undefined,
  hasControl: boolean,
): TlsSetting | undefined {
  if (listen === undefined && certificateFile === undefined && keyFile === undefined) return undefined;
  const at = listenOf("--tls-listen", required("--tls-listen", listen));
  if (hasControl && certificateFile === undefined && keyFile === undefined) return at;
  return {
    ...at,
    files: {
      certificateFile: required("--tls-certificate", certificateFile),
      keyFile: required("--tls-key", keyFile),
    },
  };
}

function cutOf(text: string | undefined): AddressCut {
  if (text === undefined) return addressCutDefault;
  const [, ipv4, ipv6] = /^(\d{1,2}),(\d{1,3})$/.exec(text) ?? [];
  if (ipv4 === undefined || ipv6 === undefined || Number(ipv4) > 32 || Number(ipv6) > 128)
    throw new OptionError(
      `--query-prefix: got ${JSON.stringify(text)}, expected bits of IPv4 and of IPv6 such as 24,56`,
    );
  return { ipv4: Number(ipv4), ipv6: Number(ipv6) };
}

function wholeNumber(
  name: string,
  text: string | undefined,
  min: number,
  max: number,
  whenAbsent: number,
): number {
  if (text === undefined) return whenAbsent;
  const value = Number(text);
  if (text !== "" && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new OptionError(
    `${name}: got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`,
  );
}

function required(name: string, value: string | undefined): string {
  if (value === undefined || value === "") throw new OptionError(`${name} is missing; see --help`);
  return value;
}

function listenOf(name: string, text: string): ListenAddress {
  const address = parseListenAddress(text);
  if (address === undefined)
    throw new OptionError(`${name}: got ${JSON.stringify(text)}, expected ${LISTEN_ADDRESS_EXPECTED}`);
  return address;
}

function urlOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "") {
    throw new OptionError(`--control: got ${JSON.stringify(text)}, expected http://ADDRESS:PORT`);
  }
  return url.origin;
}

function serverIdOf(text: string): ServerId {
  try {
    return id<ServerId>().parse(text);
  } catch {
    throw new OptionError(
      `--node: got ${JSON.stringify(text)}, expected a server id of the topology such as lon-dns-1`,
    );
  }
}
