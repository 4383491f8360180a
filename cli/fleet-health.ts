/** What the reports of all servers tell of certificates and origins, put together. */
import type { CertificateState, ServerId, ServerReport } from "#kit";
import { formatTable } from "./table.ts";

interface CertificateTrouble {
  readonly serverId: ServerId;
  readonly state: CertificateState;
  readonly notAfterEpochMs: number | null;
  readonly problem: string | null;
}

interface OriginTrouble {
  readonly origin: string;
  readonly server: string;
  /** Why it is not asked. */
  readonly reason: string;
  readonly seenBy: readonly ServerId[];
}

export interface FleetHealth {
  readonly certificates: {
    /** Servers with one that is well. */
    readonly valid: number;
    /** When the first of those ends; null: there is none. */
    readonly firstEndEpochMs: number | null;
    /** Not well, or not renewed at the last try. */
    readonly troubled: readonly CertificateTrouble[];
  };
  readonly origins: readonly OriginTrouble[];
}

export function fleetHealth(reports: readonly ServerReport[]): FleetHealth {
  let valid = 0;
  let firstEndEpochMs: number | null = null;
  const troubled: CertificateTrouble[] = [];
  const origins = new Map<string, OriginTrouble & { readonly seenBy: ServerId[] }>();
  for (const { serverId, certificate, originsBarred = [] } of reports) {
    if (certificate !== undefined) {
      const { state, notAfterEpochMs = null, problem = null } = certificate;
      if (state === "valid") {
        valid++;
        firstEndEpochMs = Math.min(firstEndEpochMs ?? Infinity, notAfterEpochMs ?? Infinity);
      }
      if (state !== "valid" || problem !== null) troubled.push({ serverId, state, notAfterEpochMs, problem });
    }
    for (const { origin, server, reason } of originsBarred) {
      const key = `${origin} ${server} ${reason}`;
      const known = origins.get(key);
      if (known === undefined) origins.set(key, { origin, server, reason, seenBy: [serverId] });
      else known.seenBy.push(serverId);
    }
  }
  return { certificates: { valid, firstEndEpochMs, troubled }, origins: [...origins.values()] };
}

/** Servers that are named when many see the same. */
const NAMED_MAX = 4;

export function formatHealth({ certificates, origins }: FleetHealth): string {
  const { valid, firstEndEpochMs, troubled } = certificates;
  const lines = [
    `certificates: ${valid} valid${firstEndEpochMs === null ? "" : `, the first ends at ${dateOf(firstEndEpochMs)}`}`,
  ];
  for (const { serverId, state, notAfterEpochMs, problem } of troubled)
    lines.push(
      `certificate of ${serverId}: ${state}${notAfterEpochMs === null ? "" : ` (ends ${dateOf(notAfterEpochMs)})`}${problem === null ? "" : `; not renewed: ${problem}`}`,
    );
  if (origins.length === 0) lines.push("origins: all are asked");
  else
    lines.push(
      formatTable(
        ["origin", "server", "not asked because", "seen by"],
        origins.map(({ origin, server, reason, seenBy }) => [
          origin,
          server,
          reason,
          seenBy.length <= NAMED_MAX ? seenBy.join(" ") : `${seenBy.length} servers`,
        ]),
      ),
    );
  return lines.join("\n");
}

function dateOf(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
