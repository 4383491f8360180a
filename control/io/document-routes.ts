/** Documents over HTTP: `/v1/documents`, and below it a document, its versions, what differs between two, and which is in force. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { mapName, object, oneOf, optional } from "#kit";
import { inSteps, type Logger } from "#kit/io";
import { controlSettings } from "../config.ts";
import { kindRules } from "../core/kinds.ts";
import { activateRequest, appendRequest, zoneEditRequest } from "../core/wire.ts";
import { type DocumentKind, documentKinds } from "../core/words.ts";
import {
  allow,
  type BodyReader,
  nodeOf,
  noQuery,
  parseQuery,
  queryInteger,
  sendJson,
  type Target,
} from "./http.ts";
import { notFound } from "./refusal.ts";
import type { ControlService } from "./service.ts";

const listQuery = object({ kind: optional(oneOf(documentKinds)) });
const documentQuery = object({
  version: optional(queryInteger(1)),
  /** Of a map: the content that the receiver has; differences that lead from there will do. */
  have: optional(mapName),
});
const diffQuery = object({ from: queryInteger(1), to: queryInteger(1) });
const kindSegment = oneOf(documentKinds);

export interface DocumentRoutesOptions {
  readonly service: ControlService;
  readonly bodies: BodyReader;
  readonly logger: Logger;
}

export async function routeDocuments(
  routes: DocumentRoutesOptions,
  request: IncomingMessage,
  response: ServerResponse,
  rest: readonly string[],
  target: Target,
): Promise<void> {
  const { service, bodies, logger } = routes;
  const [kindText, id, action, ...more] = rest;
  if (kindText === undefined) {
    allow(request, "GET");
    const { kind } = parseQuery(target.query, listQuery);
    const kinds = kind === undefined ? documentKinds : [kind];
    return sendJson(response, 200, JSON.stringify(kinds.flatMap((one) => service.store.documents(one))));
  }
  const kind = kindOf(kindText);
  if (id === undefined || more.length > 0) throw notFound("such resource below /v1/documents");
  switch (action) {
    case undefined: {
      const method = kind === "zone" ? allow(request, "GET", "POST", "PATCH") : allow(request, "GET", "POST");
      if (method === "POST") return append(routes, request, response, kind, id, target);
      if (method === "PATCH") return editZone(routes, request, response, id, target);
      const { version, have } = parseQuery(target.query, documentQuery);
      if (version !== undefined && kind === "map")
        return sendJson(response, 200, service.delivery(kind, id, version, have));
      const { summary, bodyText } = service.document(kind, id, version);
      return sendJson(response, 200, `${JSON.stringify(summary).slice(0, -1)},"body":${bodyText}}`);
    }
    case "versions":
      allow(request, "GET");
      parseQuery(target.query, noQuery);
      return sendJson(response, 200, JSON.stringify(service.versions(kind, id)));
    case "diff": {
      allow(request, "GET");
      const { from, to } = parseQuery(target.query, diffQuery);
      return sendJson(response, 200, JSON.stringify(service.diff(kind, id, from, to)));
    }
    case "activate": {
      allow(request, "POST");
      parseQuery(target.query, noQuery);
      const wanted = await bodies.read(request, controlSettings.smallBodyBytesMax, activateRequest);
      const summary = service.activate(
        kind,
        id,
        wanted.version,
        wanted.expectedActiveVersion,
        wanted.rollout,
      );
      logger.info("activated", {
        document: `${kind}/${id}`,
        version: wanted.version,
        activeVersion: summary.activeVersion,
        node: nodeOf(request),
      });
      return sendJson(response, 200, JSON.stringify(summary));
    }
    default:
      throw notFound("such resource below /v1/documents");
  }
}

async function append(
  { service, bodies, logger }: DocumentRoutesOptions,
  request: IncomingMessage,
  response: ServerResponse,
  kind: DocumentKind,
  id: string,
  target: Target,
): Promise<void> {
  parseQuery(target.query, noQuery);
  const input = await bodies.read(request, kindRules[kind].bodyBytesMax, appendRequest);
  const signed = { ...input, author: input.author === "" ? nodeOf(request) : input.author };
  const summary =
    kind === "map"
      ? (await inSteps(service.appendMapInSteps(id, signed))).value
      : service.append(kind, id, signed);
  const { version, activeVersion } = summary;
  const { author } = signed;
  logger.info("appended", { document: `${kind}/${id}`, version, activeVersion, author });
  sendJson(response, 201, JSON.stringify(summary));
}

async function editZone(
  { service, bodies, logger }: DocumentRoutesOptions,
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  target: Target,
): Promise<void> {
  parseQuery(target.query, noQuery);
  const input = await bodies.read(request, kindRules.zone.bodyBytesMax, zoneEditRequest);
  const author = input.author === "" ? nodeOf(request) : input.author;
  const edited = service.editZone(id, { ...input, author });
  const { version, serial } = edited;
  logger.info("zone-edited", {
    zone: id,
    version,
    serial,
    edits: input.edits.length,
    author,
  });
  sendJson(response, 200, JSON.stringify(edited));
}

function kindOf(text: string): DocumentKind {
  try {
    return kindSegment.parse(text);
  } catch {
    throw notFound(
      `kind of document ${JSON.stringify(text.slice(0, 80))}; there are ${documentKinds.join(", ")}`,
    );
  }
}
