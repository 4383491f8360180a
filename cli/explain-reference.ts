/** `isochrone explain REFERENCE`: what each server knows of a request that could not be answered. */
import { formatReference, type KnownFault, parseReference } from "#edge";
import { askAdmin } from "./up/admin.ts";
import { requireRunningWorld } from "./runtime.ts";
import { messageOf, UsageError } from "./usage.ts";
import type { WorldDescription } from "./world.ts";

const TIMEOUT_MS = 5_000;
/** Servers that are asked at once. */
const ASKED_MAX = 16;

interface Asked {
  readonly serverId: string;
  readonly fault: KnownFault | null;
  readonly error?: string;
}

/** Prints what was found; exit code 1 when no server remembers the request. */
export async function explainReference(
  text: string,
  options: { readonly state: string | undefined; readonly isJson: boolean },
): Promise<number> {
  const reference = parseReference(text);
  if (reference === undefined) throw new UsageError(`${JSON.stringify(text)} is no reference`);
  const running = requireRunningWorld(options.state);
  const world = (await askAdmin(running.adminSocket, "/world")) as WorldDescription;
  const servers = world.sites
    .filter(({ role }) => role === "edge" || role === "parent")
    .flatMap((site) => site.servers)
    // The one that is named first: the others are asked because all tiers know the request by the same id.
    .sort((a, b) => Number(b.id === reference.server) - Number(a.id === reference.server));
  const asked: Asked[] = [];
  for (let at = 0; at < servers.length; at += ASKED_MAX)
    asked.push(
      ...(await Promise.all(
        servers
          .slice(at, at + ASKED_MAX)
          .map((server) => ask(server, formatReference(reference), running.token)),
      )),
    );
  const faults = asked.flatMap(({ fault }) => fault ?? []);
  // From the client on: each tier began a little later than the one that asked it.
  faults.sort((a, b) => Number(a.peer !== null) - Number(b.peer !== null) || a.at - b.at);
  const silent = asked.filter(({ error }) => error !== undefined);
  if (options.isJson)
    console.log(
      JSON.stringify(
        { reference: text, faults, silent: silent.map(({ serverId, error }) => ({ serverId, error })) },
        null,
        2,
      ),
    );
  else {
    for (const fault of faults) console.log(`${describe(fault)}\n`);
    if (faults.length === 0)
      console.log(`No server remembers ${text}: each keeps its last 1,000 failures while it runs.`);
    for (const { serverId, error } of silent) console.error(`${serverId} does not answer: ${error}`);
  }
  return faults.length > 0 ? 0 : 1;
}

async function ask(
  server: { readonly id: string; readonly address: string; readonly port: number },
  reference: string,
  token: string,
): Promise<Asked> {
  try {
    const response = await fetch(
      `http://${server.address}:${server.port}/.isochrone/explain?ref=${encodeURIComponent(reference)}`,
      { headers: { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(TIMEOUT_MS) },
    );
    const body = await response.text();
    if (!response.ok) return { serverId: server.id, fault: null, error: `status ${response.status}` };
    return { serverId: server.id, fault: (JSON.parse(body) as Asked).fault };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return { serverId: server.id, fault: null, error: messageOf(cause) };
  }
}

function describe(fault: KnownFault): string {
  const who = fault.peer ?? `a client${fault.clientAddress === null ? "" : ` of ${fault.clientAddress}`}`;
  const lines = [
    `${fault.server}: ${fault.status} for ${fault.method} ${fault.url}, ${new Date(fault.at).toISOString()}, after ${fault.durationMs.toFixed(0)} ms`,
    `  why       ${fault.code}${fault.message === "" ? "" : `: ${fault.message}`}`,
    `  asked by  ${who}`,
    `  property  ${fault.propertyId ?? "-"}`,
  ];
  if (fault.cacheStatus !== null) lines.push(`  cache     ${fault.cacheStatus}`);
  if (fault.traceId !== null) lines.push(`  trace     ${fault.traceId}`);
  return lines.join("\n");
}
