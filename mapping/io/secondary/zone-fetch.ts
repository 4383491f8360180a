/** One look after a secondary zone at one primary: is there a later serial, and if so the zone, as changes or whole. Over TCP alone. */
import { randomInt } from "node:crypto";
import { connect, type Socket } from "node:net";
import { type DomainName, type ZoneData, zoneDataOf, type ZoneRecord, compareSerials } from "#kit";
import { systemClock } from "#kit/io";
import { dnsTypes } from "../../core/dns/constants.ts";
import type { DnsRecord } from "../../core/dns/message.ts";
import type { Primary } from "../../core/zone/secondary.ts";
import {
  changedRecords,
  soaTimersOf,
  transferQuery,
  type TransferRead,
  TransferReader,
} from "../../core/zone/transfer-in.ts";
import { type TsigKey, TsigSigner, TsigVerifier } from "../../core/zone/tsig.ts";
import { hmac } from "../tsig-keys.ts";

/** What a primary may cost; of a zone beyond it none is taken. */
export interface FetchLimits {
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly connectMs: number;
  /** Without an octet. */
  readonly idleMs: number;
  /** For one answer as a whole. */
  readonly totalMs: number;
}
/** As much as a document of control may hold, with room for what compression spares. */
export const fetchLimits: FetchLimits = {
  recordsMax: 200_000,
  bytesMax: 64 * 1024 * 1024,
  connectMs: 5_000,
  idleMs: 10_000,
  totalMs: 300_000,
};

export interface FetchRequest {
  readonly origin: DomainName;
  readonly primary: Primary;
  readonly key: TsigKey | undefined;
  /** What is here; its records are asked for only when changes have come. */
  readonly held:
    | { readonly soa: DnsRecord; readonly serial: number; readonly zone: () => ZoneData }
    | undefined;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
}

export type Fetched =
  | { readonly kind: "up-to-date" }
  /** `why`: of IXFR, where it was of no use. */
  | { readonly kind: "zone"; readonly form: "axfr" | "ixfr"; readonly zone: ZoneData; readonly why?: string }
  | { readonly kind: "failed"; readonly why: string };

/** Never rejects. */
export async function fetchZone(request: FetchRequest): Promise<Fetched> {
  const { held, origin } = request;
  const told = await ask(request, dnsTypes.SOA);
  if (told.kind !== "serial") return failed(told, "SOA");
  const order = held === undefined ? 1 : compareSerials(told.serial, held.serial);
  if (order === 0) return { kind: "up-to-date" };
  // RFC 1982 section 3.2: nobody can say which of two is later that are half the circle apart.
  if (order === undefined || order < 0)
    return { kind: "failed", why: `its serial ${told.serial} is before ${held?.serial}, which is here` };
  let why: string | undefined;
  if (held !== undefined) {
    const read = await ask(request, dnsTypes.IXFR);
    if (read.kind === "serial")
      return { kind: "failed", why: `it says serial ${told.serial}, then ${read.serial}` };
    // RFC 1995 section 4: who has no changes to tell sends the zone whole.
    if (read.kind === "whole") return zoneOf(origin, read.records, held.serial, "axfr");
    if (read.kind === "changes") {
      const changed = changedRecords(held.zone(), read.changes);
      if (!("why" in changed)) {
        const zone = zoneOf(origin, changed.records, held.serial, "ixfr");
        if (zone.kind === "zone") return zone;
        why = zone.kind === "failed" ? zone.why : undefined;
      } else why = changed.why;
    } else if (read.kind === "refused" && read.mayAskWhole) why = read.why;
    else return failed(read, "IXFR");
  }
  const whole = await ask(request, dnsTypes.AXFR);
  if (whole.kind !== "whole") return failed(whole, "AXFR");
  const fetched = zoneOf(origin, whole.records, held?.serial, "axfr");
  return fetched.kind === "zone" && why !== undefined ? { ...fetched, why } : fetched;
}

type Answer = Exclude<TransferRead, { kind: "more" }> | { readonly kind: "broken"; readonly why: string };

function failed(answer: Answer, type: string): Fetched {
  const why = "why" in answer ? answer.why : `an answer of kind ${answer.kind}`;
  return { kind: "failed", why: `${type}: ${why}` };
}

function zoneOf(
  origin: DomainName,
  records: readonly ZoneRecord[],
  heldSerial: number | undefined,
  form: "axfr" | "ixfr",
): Fetched {
  const read = zoneDataOf(origin, records);
  if (!read.ok) {
    const { name, type, expected } = read.problem;
    return { kind: "failed", why: `the zone is refused: ${name} ${type}, expected ${expected}` };
  }
  const { serial } = soaTimersOf(read.zone);
  const order = heldSerial === undefined ? 1 : (compareSerials(serial, heldSerial) ?? -1);
  if (order <= 0) return { kind: "failed", why: `it sends serial ${serial}, and ${heldSerial} is here` };
  return { kind: "zone", form, zone: read.zone };
}

/** One question on a connection of its own. Never rejects. */
function ask(
  { origin, primary, key, held, limits, signal }: FetchRequest,
  type: typeof dnsTypes.SOA | typeof dnsTypes.AXFR | typeof dnsTypes.IXFR,
): Promise<Answer> {
  const id = randomInt(65_536);
  const plain = transferQuery(id, origin, type, type === dnsTypes.IXFR ? held?.soa : undefined);
  const signer = key && new TsigSigner(key, hmac, new Uint8Array());
  const query = signer?.sign(plain, epochSeconds()) ?? plain;
  const verifier = key && signer && new TsigVerifier(key, hmac, signer.lastMac);
  const reader = new TransferReader({
    id,
    origin,
    type,
    verifier,
    recordsMax: limits.recordsMax,
    ...(type === dnsTypes.IXFR && held !== undefined && { heldSerial: held.serial }),
  });
  return new Promise((resolve) => {
    const socket = connect({ host: primary.address, port: primary.port, noDelay: true });
    const end = (answer: Answer): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.destroy();
      resolve(answer);
    };
    const broken = (why: string): void => end({ kind: "broken", why });
    const abort = (): void => broken("this server ends");
    let timer = setTimeout(broken, limits.connectMs, `no connection within ${limits.connectMs} ms`);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort);
    socket.setTimeout(limits.idleMs, () => broken(`silence for ${limits.idleMs} ms`));
    socket.once("error", (error) => broken(error.message));
    socket.once("close", () => broken("the connection ended before the answer did"));
    socket.once("connect", () => {
      clearTimeout(timer);
      timer = setTimeout(broken, limits.totalMs, `no end within ${limits.totalMs} ms`);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
    eachMessage(socket, limits.bytesMax, broken, (bytes) => {
      const read = reader.handleMessage(bytes, epochSeconds());
      if (read.kind === "more") return true;
      end(read);
      return false;
    });
  });
}

/** RFC 1035 section 4.2.2. @param take whether to go on */
function eachMessage(
  socket: Socket,
  bytesMax: number,
  broken: (why: string) => void,
  take: (bytes: Uint8Array) => boolean,
): void {
  let pieces: Buffer[] = [];
  let pending = 0;
  let total = 0;
  socket.on("data", (piece: Buffer) => {
    total += piece.length;
    if (total > bytesMax) return broken(`more than ${bytesMax} octets`);
    pieces.push(piece);
    pending += piece.length;
    // A message has at most 65,537 octets with its length; small pieces are joined once there is a whole one.
    if (pending < 2 || (pieces.length > 1 && pending < lengthOf(pieces) + 2)) return;
    let bytes = pieces.length === 1 ? piece : Buffer.concat(pieces);
    while (bytes.length >= 2 && bytes.length >= bytes.readUInt16BE(0) + 2) {
      const end = bytes.readUInt16BE(0) + 2;
      if (!take(bytes.subarray(2, end))) return;
      bytes = bytes.subarray(end);
    }
    pieces = bytes.length === 0 ? [] : [bytes];
    pending = bytes.length;
  });
}

/** Of the first message, whose first two octets may be in two pieces. */
function lengthOf(pieces: readonly Buffer[]): number {
  const [first, second] = pieces as readonly [Buffer, Buffer];
  return first.length > 1 ? first.readUInt16BE(0) : ((first[0] as number) << 8) | (second[0] as number);
}

function epochSeconds(): number {
  return Math.floor(systemClock.epoch() / 1_000);
}
