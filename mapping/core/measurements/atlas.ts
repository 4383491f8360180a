/**
 * Results of RIPE Atlas: ping and traceroute, IPv4 and IPv6, in the JSON of firmware 4460 and later ("RIPE Atlas Docs: Result
 * Format", https://atlas.ripe.net/docs/apis/result-format/). Fields that are not used are not looked at, because each firmware adds
 * some; those that are used are checked, and a result with a wrong one is refused whole.
 */
import { type EpochMs, epochMs, type IpFamily, ParseError, type Path } from "#kit";
import { addressAt, listAt, objectAt, wholeAt } from "./json-fields.ts";
import { JsonReader } from "./json-reader.ts";
import { type MeasurementMethod, type PathSample, RTT_MS_MAX } from "./sample.ts";

/** What became of one packet. `late`: answered after the agent had stopped waiting; `error`: it could not even be sent. */
export type AtlasReply =
  | { readonly outcome: "answered"; readonly from: string | null; readonly rttMs: number }
  | { readonly outcome: "lost" | "late" | "error" };

interface AtlasResultBase {
  readonly probeId: number;
  readonly measurementId: number;
  readonly at: EpochMs;
  readonly method: MeasurementMethod;
  readonly family: IpFamily;
  /** The probe's address as the controller saw it; null when it is left out. */
  readonly from: string | null;
  /** Null: the target's name could not be resolved, so nothing was measured. */
  readonly to: string | null;
}

export interface AtlasPing extends AtlasResultBase {
  readonly type: "ping";
  /** In the order of sending; duplicates are left out. */
  readonly packets: readonly AtlasReply[];
}

export interface AtlasHop {
  /** 1..255; 255 is the last try when nothing answered for long. */
  readonly hop: number;
  readonly replies: readonly AtlasReply[];
}

export interface AtlasTraceroute extends AtlasResultBase {
  readonly type: "traceroute";
  readonly hops: readonly AtlasHop[];
}

export type AtlasResult = AtlasPing | AtlasTraceroute;

const PACKETS_MAX = 256;
const HOPS_MAX = 256;
const REPLIES_MAX = 64;
/** Year 2100: a later time is a broken clock. */
const EPOCH_SECONDS_MAX = 4_102_444_800;
const ID_MAX = 0x7fff_ffff;

/** @throws ParseError with path, value and expectation; also for the result of another kind of measurement */
export function parseAtlasResult(value: unknown): AtlasResult {
  const result = objectAt(value, []);
  const { type } = result;
  if (type !== "ping" && type !== "traceroute")
    throw new ParseError(["type"], type, '"ping" or "traceroute"');
  const family = result["af"];
  if (family !== 4 && family !== 6) throw new ParseError(["af"], family, "4 or 6");
  const to = addressAt(result, "dst_addr", [], family);
  const base: AtlasResultBase = {
    probeId: wholeAt(result, "prb_id", 1, ID_MAX),
    measurementId: wholeAt(result, "msm_id", 1, ID_MAX),
    at: epochMs(wholeAt(result, "timestamp", 0, EPOCH_SECONDS_MAX) * 1_000),
    method: methodOf(result["proto"]),
    family,
    // Of the family in which the probe talks to its controller, which need not be that of the measurement.
    from: addressAt(result, "from", []),
    to,
  };
  const list = listAt(result["result"], ["result"], type === "ping" ? PACKETS_MAX : HOPS_MAX);
  if (type === "ping") {
    const packets = list.flatMap((one, index) => replyOf(one, ["result", index], family) ?? []);
    return { ...base, type, packets };
  }
  return { ...base, type, hops: list.flatMap((one, index) => hopOf(one, ["result", index], family)) };
}

/**
 * Round trips to the target itself. Of a traceroute: what the target answered; one that never reached it says nothing, since a
 * firewall that drops its packets is no loss of the path. Late and unsent packets say nothing of the travel time.
 */
export function atlasSamples(result: AtlasResult): PathSample[] {
  const { to, from, at, method } = result;
  if (to === null) return [];
  const replies =
    result.type === "ping"
      ? result.packets
      : result.hops.flatMap((hop) =>
          hop.replies.some((reply) => reply.outcome === "answered" && reply.from === to) ? hop.replies : [],
        );
  return replies.flatMap((reply): PathSample[] => {
    if (reply.outcome !== "answered" && reply.outcome !== "lost") return [];
    if (reply.outcome === "answered" && result.type === "traceroute" && reply.from !== to) return [];
    const rttMs = reply.outcome === "answered" ? reply.rttMs : null;
    return [{ source: "atlas", method, agent: String(result.probeId), from, to, at, rttMs }];
  });
}

/** A traceroute of 255 hops with MPLS labels in every answer stays far below, characters. */
const RESULT_CHARACTERS_MAX = 1_048_576;

/** Reads results one a line, or as the JSON array that the Atlas API answers; those of other measurements are `other-type`. */
export class AtlasReader extends JsonReader<AtlasResult> {
  constructor(onResult: (result: AtlasResult) => void) {
    super(
      parseAtlasResult,
      RESULT_CHARACTERS_MAX,
      onResult,
      ({ path, value }) => path[0] === "type" && typeof value === "string",
    );
  }
}

/** Undefined for a duplicate: its first copy is in the list already. */
function replyOf(value: unknown, path: Path, family: IpFamily): AtlasReply | undefined {
  const reply = objectAt(value, path);
  if (reply["dup"] !== undefined && reply["dup"] !== 0) return undefined;
  if (reply["x"] !== undefined) {
    if (reply["x"] !== "*") throw new ParseError([...path, "x"], reply["x"], '"*"');
    return { outcome: "lost" };
  }
  if (reply["error"] !== undefined) return { outcome: "error" };
  if (reply["late"] !== undefined) return { outcome: "late" };
  const { rtt } = reply;
  // What a router or the target said instead of an answer ("N", "H", 10): it came back, and timed nothing to the target.
  if (rtt === undefined && reply["err"] !== undefined) return { outcome: "error" };
  if (typeof rtt !== "number" || !(rtt >= 0 && rtt <= RTT_MS_MAX))
    throw new ParseError([...path, "rtt"], rtt, `a number from 0 to ${RTT_MS_MAX} (ms)`);
  return { outcome: "answered", from: addressAt(reply, "from", path, family), rttMs: rtt };
}

/** None for a hop at which nothing could be sent. */
function hopOf(value: unknown, path: Path, family: IpFamily): AtlasHop[] {
  const hop = objectAt(value, path);
  const number = wholeAt(hop, "hop", 1, 255, path);
  if (hop["error"] !== undefined) return [];
  const replies = listAt(hop["result"], [...path, "result"], REPLIES_MAX);
  return [
    {
      hop: number,
      replies: replies.flatMap((one, index) => replyOf(one, [...path, "result", index], family) ?? []),
    },
  ];
}

function methodOf(proto: unknown): MeasurementMethod {
  switch (proto) {
    case "ICMP":
      return "icmp";
    case "UDP":
      return "udp";
    case "TCP":
      return "tcp";
    default:
      throw new ParseError(["proto"], proto, '"ICMP", "UDP" or "TCP"');
  }
}
