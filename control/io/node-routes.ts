/** Which key speaks for which server: `GET /v1/nodes`, `POST /v1/nodes/SERVER/certificate`, `/revoke`, `/forget`. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { id, type NodeName, type ServerId } from "#kit";
import type { Logger } from "#kit/io";
import { controlSettings } from "../config.ts";
import type { NodeVerdict } from "../core/node-register.ts";
import { nodeCertificateRequest } from "../core/wire.ts";
import { allow, type BodyReader, nodeOf, sendJson } from "./http.ts";
import type { NodeAuthority } from "./node-authority.ts";
import { notFound, Refusal } from "./refusal.ts";

export interface NodeRoutesOptions {
  /** Undefined, in tests: no server is given a certificate. */
  readonly authority: NodeAuthority | undefined;
  readonly logger: Logger;
  readonly bodies: BodyReader;
  /** The name of a server in the topologies in force. */
  readonly nameOf: (serverId: ServerId) => NodeName | undefined;
}

export async function routeNodes(
  { authority, logger, bodies, nameOf }: NodeRoutesOptions,
  request: IncomingMessage,
  response: ServerResponse,
  rest: readonly string[],
): Promise<void> {
  if (authority === undefined) throw notFound("authority for servers here");
  const [serverText, action, ...more] = rest;
  if (serverText === undefined) {
    allow(request, "GET");
    return sendJson(response, 200, JSON.stringify(authority.entries));
  }
  const isAction = action === "certificate" || action === "revoke" || action === "forget";
  if (!isAction || more.length > 0) throw notFound("such resource below /v1/nodes");
  allow(request, "POST");
  const serverId = serverSegment(serverText);
  if (action !== "certificate") {
    if (!(await authority.change(serverId, action)))
      throw notFound(`server ${JSON.stringify(serverId)} with a key`);
    logger.warn(`node-${action}`, { serverId, node: nodeOf(request) });
    return sendJson(response, 200, "{}");
  }
  const wanted = await bodies.read(request, controlSettings.smallBodyBytesMax, nodeCertificateRequest);
  const answer = await authority.issue(serverId, wanted, nameOf(serverId));
  if (answer.verdict !== "issued") {
    logger.warn("node-certificate-refused", { serverId, reason: answer.verdict, node: nodeOf(request) });
    throw new Refusal(403, { error: refusalTexts[answer.verdict](serverId), code: answer.verdict });
  }
  if (answer.isNew) logger.info("node-enrolled", { serverId, address: request.socket.remoteAddress });
  sendJson(response, 200, JSON.stringify(answer.certificate));
}

function serverSegment(text: string): ServerId {
  try {
    return id<ServerId>().parse(text);
  } catch {
    throw notFound(`server ${JSON.stringify(text.slice(0, 80))}`);
  }
}

const refusalTexts = {
  "unknown-server": (id) => `No topology in force has a server ${JSON.stringify(id)}`,
  "other-key": (id) =>
    `Another key has the name ${JSON.stringify(id)}: if its machine was set up anew, let the new key have it with "isochrone node forget ${id}"`,
  revoked: (id) =>
    `${JSON.stringify(id)} was revoked; "isochrone node forget ${id}" lets it have a certificate again`,
  "not-proven": () => "The request is not signed by its P-256 key",
} satisfies Record<Exclude<NodeVerdict, "issued">, (id: ServerId) => string>;
