/** `/.isochrone/where` of a name server's admin surface: why a client gets the answer that it gets. */
import type { WhereRefusal, WhereResult } from "../core/where.ts";
import type { AdminAnswer } from "./admin-server.ts";

/** Answers `?name=NAME&address=ADDRESS`, with `&resolver=1` for a resolver that tells nothing of its clients: 200 with the report, of the map's or of a policy's answer, 400 what was asked wrongly, 404 unknown, 503 no documents yet. */
export function wherePage(
  query: URLSearchParams,
  where: (name: string, address: string, isResolver: boolean) => WhereResult,
): AdminAnswer {
  const name = query.get("name");
  const address = query.get("address");
  const resolver = query.get("resolver") ?? "0";
  if (name === null || address === null || (resolver !== "0" && resolver !== "1")) {
    const error =
      "name and address are needed: /.isochrone/where?name=NAME&address=ADDRESS, &resolver=0 or 1";
    return { status: 400, body: { error } };
  }
  const result = where(name, address, resolver === "1");
  if (result.ok) return { status: 200, body: result.report };
  if (result.reason === "policy") return { status: 200, body: result.policy };
  const { reason, message } = result;
  return { status: statusOfRefusal(reason), body: { error: message, reason } };
}

function statusOfRefusal(reason: WhereRefusal): number {
  if (reason === "bad-name" || reason === "bad-address") return 400;
  return reason === "no-documents" ? 503 : 404;
}
