/**
 * BGP tables and updates as `bgpdump -m` prints them, one route a line:
 * `TABLE_DUMP2|1277971199|B|202.249.2.169|2497|1.9.0.0/16|2497 2914 4788|IGP|...`.
 */
import { epochMs, formatAddress, maskAddress, parseAddress, addressBits, type IpPrefix } from "#kit";
import { AS_NUMBER_MAX, BgpRecordError, type BgpSink, type BgpSkipReason } from "./bgp.ts";
import { ReadTally } from "./tally.ts";
import { LineRecords } from "./text-records.ts";

/** A path of hundreds of prepended numbers with long communities fits. */
const LINE_CHARACTERS_MAX = 65_536;
const FORMATS: readonly string[] = ["TABLE_DUMP", "TABLE_DUMP2", "BGP4MP", "BGP4MP_ET"];
const NUMBER = /^[0-9]{1,10}$/;
/** Seconds, or with `bgpdump -M` and extended timestamps a fraction behind them. */
const TIME = /^[0-9]{1,10}(?:\.[0-9]{1,6})?$/;

/** Bounded memory: one line at a time. */
export class BgpTextReader {
  readonly tally = new ReadTally<BgpSkipReason>();
  readonly #lines: LineRecords;

  constructor(sink: BgpSink) {
    this.#lines = new LineRecords(LINE_CHARACTERS_MAX, {
      record: (line, number) => {
        try {
          readLine(line, sink);
          this.tally.take();
        } catch (error) {
          if (!(error instanceof BgpRecordError)) throw error;
          this.tally.skip(error.reason, `line ${number}`, error.message);
        }
      },
      unreadable: (reason, number) =>
        this.tally.skip(reason, `line ${number}`, `more than ${LINE_CHARACTERS_MAX} characters`),
    });
  }

  read(chunk: Uint8Array): void {
    this.#lines.read(chunk);
  }

  end(): void {
    this.#lines.end();
  }
}

function readLine(line: string, sink: BgpSink): void {
  const [format = "", time = "", kind = "", peer = "", peerAs = "", prefixText = "", path = ""] = line.split(
    "|",
    7,
  );
  if (!FORMATS.includes(format)) throw wrong("the format", format, `one of ${FORMATS.join(", ")}`);
  if (!TIME.test(time)) throw wrong("the time", time, "epoch seconds");
  if (kind === "STATE") throw new BgpRecordError("other-type", "a change of a session's state");
  if (kind !== "B" && kind !== "A" && kind !== "W") throw wrong("the kind", kind, "B, A, W or STATE");
  const at = epochMs(Number(time) * 1_000);
  const address = parseAddress(peer);
  if (address === undefined) throw wrong("the peer's address", peer, "an IP address");
  const common = {
    prefix: prefixOf(prefixText),
    peerAddress: formatAddress(address),
    peerAs: asNumber(peerAs),
    at,
  };
  if (kind === "W") sink.withdrawal?.(common);
  else sink.route({ ...common, ...asPathOf(path), pathId: null });
}

/** bgpdump masks nothing: bits behind the prefix are left to whoever reads. */
export function prefixOf(text: string): IpPrefix {
  const slash = text.indexOf("/");
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  const prefixLength = NUMBER.test(lengthText) ? Number(lengthText) : Number.NaN;
  if (address === undefined || !(prefixLength <= addressBits(address.family)))
    throw wrong("the prefix", text, "ADDRESS/LENGTH");
  return { address: maskAddress(address, prefixLength), prefixLength };
}

/** `2497 2914 {4788,9930}`: numbers in order, an AS_SET in braces; confederations in parentheses or brackets. */
export function asPathOf(text: string): { asPath: number[]; originAs: number[] } {
  const asPath: number[] = [];
  let originAs: number[] = [];
  let isInConfederation = false;
  for (const word of text.split(" ")) {
    if (word === "") continue;
    if (word.startsWith("{") && word.endsWith("}")) {
      const members = word.slice(1, -1);
      originAs = members === "" ? [] : members.split(",").map(asNumber);
      continue;
    }
    const opens = word.startsWith("(") || word.startsWith("[");
    isInConfederation ||= opens;
    if (!isInConfederation) {
      asPath.push(asNumber(word));
      originAs = asPath.slice(-1);
    } else if (word.endsWith(")") || word.endsWith("]")) isInConfederation = false;
  }
  if (isInConfederation) throw wrong("the AS path", text, "its confederation to be closed");
  return { asPath, originAs };
}

/** asplain or asdot (RFC 5396). */
export function asNumber(text: string): number {
  const dotted = /^([0-9]{1,5})\.([0-9]{1,5})$/.exec(text);
  const high = Number(dotted?.[1] ?? 0);
  const low = Number(dotted?.[2] ?? 0);
  const value = dotted ? high * 65_536 + low : NUMBER.test(text) ? Number(text) : Number.NaN;
  if (!(value <= AS_NUMBER_MAX && high <= 65_535 && low <= 65_535))
    throw wrong("an AS number", text, `0 to ${AS_NUMBER_MAX}`);
  return value;
}

export function wrong(what: string, found: string, expected: string): BgpRecordError {
  return new BgpRecordError(
    "malformed",
    `${what}: got ${JSON.stringify(found.slice(0, 80))}, expected ${expected}`,
  );
}
