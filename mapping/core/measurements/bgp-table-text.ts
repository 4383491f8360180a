/**
 * A router's table as "show ip bgp" prints it (Cisco IOS, Quagga, FRRouting; RouteViews keeps years of them), one path a line in columns:
 *
 *     *  3.0.0.0          206.157.77.11          165             0 1673 701 703 80 i
 *     *>                  144.228.240.93           4             0 1239 701 703 80 i
 *     *> 2001:db8:100::/40
 *                         2001:db8::1              0             0 3333 {64500,64501} i
 *
 * A network that stands above already is left blank; a line that became too long goes on in the next one, under the same columns.
 */
import { epochMs, formatAddress, type IpAddress, type IpPrefix, maskAddress, parseAddress } from "#kit";
import { BgpRecordError, type BgpSink, type BgpSkipReason } from "./bgp.ts";
import { asNumber, asPathOf, prefixOf, wrong } from "./bgp-text.ts";
import { ReadTally } from "./tally.ts";
import { LineRecords } from "./text-records.ts";

const LINE_CHARACTERS_MAX = 65_536;
/** The heading of the columns; what stands in front of "Network" is the width of the status codes. */
const HEADING = /^( {1,8})Network +Next Hop +(?:Metric +)?(?:LocPrf +)?(?:Weight +)?Path$/;
/** "local AS 65000", and "BGP router identifier 192.0.2.1, local AS number 65000". */
const LOCAL_AS = /\blocal AS (?:number )?([0-9.]{1,11})\b/i;
/** Valid, best, multipath, backup, internal, RIB failure, and what validation says of the origin. */
const IN_USE = /^[ *>=#mbxfcairNVI]*$/;
/** Suppressed, damped, history, stale, removed: nobody is routed by it now. */
const NOT_IN_USE = /^[ *>=#mbxfcairNVI]*[sdhSR][ *>=#mbxfcairNVIsdhSR]*$/;
/** What follows a table. */
const FOOT = /^(?:Displayed|Total number of prefixes) +[0-9]/;
const PATH = /^(.*?) *([ie?])$/;

interface Columns {
  readonly network: number;
  readonly path: number;
}

/** What a line began and the next one goes on with. */
interface Begun {
  readonly status: string;
  readonly nextHop: IpAddress | undefined;
}

/** Bounded memory: one line at a time. Times are not told by such a table: routes are of the epoch, 0. */
export class BgpTableTextReader {
  readonly tally = new ReadTally<BgpSkipReason>();
  readonly #lines: LineRecords;
  readonly #sink: BgpSink;
  #columns: Columns | undefined;
  #localAs: number | undefined;
  /** That of the lines above; undefined: what stood there could not be read. */
  #prefix: IpPrefix | undefined;
  #begun: Begun | undefined;

  constructor(sink: BgpSink) {
    this.#sink = sink;
    this.#lines = new LineRecords(
      LINE_CHARACTERS_MAX,
      {
        record: (line, number) => {
          try {
            if (this.#line(line)) this.tally.take();
          } catch (error) {
            if (!(error instanceof BgpRecordError)) throw error;
            this.#begun = undefined;
            this.tally.skip(error.reason, `line ${number}`, error.message);
          }
        },
        unreadable: (reason, number) => {
          // The network that it may have named is not that of the lines before.
          this.#prefix = undefined;
          this.#begun = undefined;
          this.tally.skip(reason, `line ${number}`, `more than ${LINE_CHARACTERS_MAX} characters`);
        },
      },
      true,
    );
  }

  read(chunk: Uint8Array): void {
    this.#lines.read(chunk);
  }

  end(): void {
    this.#lines.end();
    if (this.#begun === undefined) return;
    this.#begun = undefined;
    this.tally.skip("cut-off", "the last line", "a path that goes on in a line that is not there");
  }

  /** Whether the line ended a path. */
  #line(line: string): boolean {
    const heading = HEADING.exec(line);
    if (heading !== null) {
      this.#columns = { network: (heading[1] as string).length, path: line.lastIndexOf("Path") };
      this.#prefix = this.#begun = undefined;
      return false;
    }
    if (this.#columns === undefined) {
      const localAs = LOCAL_AS.exec(line)?.[1];
      if (localAs !== undefined) this.#localAs = asNumber(localAs);
      return false;
    }
    if (FOOT.test(line)) {
      this.#columns = this.#begun = undefined;
      return false;
    }
    return this.#path(line, this.#columns);
  }

  #path(line: string, columns: Columns): boolean {
    const status = line.slice(0, columns.network);
    const begun = status.trim() === "" ? this.#begun : undefined;
    if (begun === undefined && this.#begun !== undefined)
      this.tally.skip("cut-off", "a line", "a path whose second line is missing");
    this.#begun = undefined;
    const isNamed = line[columns.network] !== " " && line.length > columns.network;
    // Until it is read nothing below may take the network above for its own.
    if (isNamed) this.#prefix = undefined;
    if (begun === undefined && !(IN_USE.test(status) || NOT_IN_USE.test(status)))
      throw wrong("the status codes", status, "codes such as *> or *");
    const words = line.slice(columns.network, columns.path).split(" ").filter(Boolean);
    if (isNamed) {
      if (begun !== undefined) throw wrong("a network", line, "the rest of the line above");
      this.#prefix = networkOf(words.shift() as string);
    }
    let nextHop = begun?.nextHop;
    if (nextHop === undefined && words.length > 0) nextHop = nextHopOf(words.shift() as string);
    if (line.length <= columns.path) {
      if (words.length > 0) throw wrong("a line", line, "an AS path at the end");
      this.#begun = { status: begun?.status ?? status, nextHop };
      return false;
    }
    return this.#route(begun?.status ?? status, nextHop, words, line, columns);
  }

  #route(
    status: string,
    nextHop: IpAddress | undefined,
    figures: readonly string[],
    line: string,
    columns: Columns,
  ): boolean {
    const found = PATH.exec(line.slice(columns.path));
    if (line[columns.path - 1] !== " " || found === null)
      throw wrong("the path", line.slice(columns.path - 1), "AS numbers under their heading, then i, e or ?");
    if (figures.length > 3 || !figures.every((one) => /^[0-9]{1,10}$/.test(one)))
      throw wrong("metric, preference and weight", figures.join(" "), "numbers");
    const { asPath, originAs } = asPathOf(found[1] as string);
    if (this.#prefix === undefined)
      throw new BgpRecordError(
        "malformed",
        "no network stands in this line, and none that could be read above",
      );
    if (nextHop === undefined) throw wrong("the next hop", "", "an IP address");
    if (!IN_USE.test(status)) throw new BgpRecordError("other-type", "a path that is not in use");
    // A path that begins with a set, or is the router's own.
    const peerAs = asPath[0] ?? originAs[0] ?? this.#localAs;
    if (peerAs === undefined)
      throw new BgpRecordError("no-peer", "a route of the router's own, whose AS the table does not tell");
    this.#sink.route({
      prefix: this.#prefix,
      asPath,
      originAs,
      peerAs,
      peerAddress: formatAddress(nextHop),
      pathId: null,
      at: epochMs(0),
    });
    return true;
  }
}

/** Without a length it is that of the address's class (RFC 791 section 3.2), as routers leave it out. */
function networkOf(text: string): IpPrefix {
  if (text.includes("/")) return prefixOf(text);
  const address = parseAddress(text);
  if (address?.family !== 4)
    throw wrong("the network", text, "ADDRESS/LENGTH, or an IPv4 network of a class");
  const first = address.words[0] as number;
  const high = first >>> 24;
  const prefixLength = first === 0 ? 0 : high < 128 ? 8 : high < 192 ? 16 : 24;
  const masked = maskAddress(address, prefixLength);
  if (masked.words[0] !== first || high >= 224)
    throw wrong("the network", text, "a length, or the address of a whole network of its class");
  return { address: masked, prefixLength };
}

/** FRRouting may put the peer's name behind it. */
function nextHopOf(text: string): IpAddress {
  const address = parseAddress(text.replace(/\([^()]*\)$/, ""));
  if (address === undefined) throw wrong("the next hop", text, "an IP address");
  return address;
}
