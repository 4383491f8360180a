/** Properties: list, show, versions, validate, save, diff, activate. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Fastify awaits its handlers */
import type { FastifyInstance } from "fastify";
import { type PortalContext, sessionOf } from "./context.ts";
import { type Draft, PropertyDesk } from "./property-desk.ts";
import { Fault } from "./fault.ts";
import {
  change,
  draftFields,
  errors,
  flag,
  idText,
  list,
  nullable,
  propertyDetail,
  propertySummary,
  shape,
  text,
  validateAnswer,
  versionNumber,
  versionSummary,
  versionText,
} from "./schemas.ts";

const NOTE_CHARACTERS_MAX = 500;

export function propertyRoutes(app: FastifyInstance, context: PortalContext): PropertyDesk {
  const desk = new PropertyDesk(context);
  const params = shape({ propertyId: idText });
  const draft = draftFields(context.settings.draftCharactersMax);
  const tags = ["properties"];

  app.get(
    "/api/v1/properties",
    {
      schema: {
        operationId: "properties",
        summary: "The properties of the account; an operator's are all",
        tags,
        response: {
          200: { description: "By id", ...shape({ properties: list(propertySummary) }) },
          ...errors(401),
        },
      },
    },
    async (request) => ({ properties: await desk.list(sessionOf(request).viewer) }),
  );

  app.get<{ Params: { propertyId: string }; Querystring: { version?: string } }>(
    "/api/v1/properties/:propertyId",
    {
      schema: {
        operationId: "property",
        summary: "One version of a property, by default the newest",
        tags,
        params,
        querystring: shape({ version: versionText }, ["version"]),
        response: { 200: { description: "The version", ...propertyDetail }, ...errors(400, 401, 404, 503) },
      },
    },
    (request) => {
      const { version } = request.query;
      return desk.show(
        sessionOf(request).viewer,
        request.params.propertyId,
        version === undefined ? undefined : Number(version),
      );
    },
  );

  app.get<{ Params: { propertyId: string } }>(
    "/api/v1/properties/:propertyId/versions",
    {
      schema: {
        operationId: "versions",
        summary: "Every kept version, newest first",
        tags,
        params,
        response: {
          200: { description: "Versions", ...shape({ versions: list(versionSummary) }) },
          ...errors(400, 401, 404, 503),
        },
      },
    },
    async (request) => ({
      versions: await desk.versions(sessionOf(request).viewer, request.params.propertyId),
    }),
  );

  app.post<{ Params: { propertyId: string }; Body: Draft }>(
    "/api/v1/properties/:propertyId/validate",
    {
      schema: {
        operationId: "validate",
        summary: "What is wrong with a draft, and what it would change",
        tags,
        params,
        body: shape(draft, ["text", "format", "document"]),
        response: {
          200: { description: "Verdict", ...validateAnswer },
          ...errors(400, 401, 403, 404, 413, 415, 503),
        },
      },
    },
    (request) => {
      oneDraft(request.body);
      return desk.validate(sessionOf(request).viewer, request.params.propertyId, request.body);
    },
  );

  app.post<{
    Params: { propertyId: string };
    Body: Draft & { expectedVersion: number; note?: string; activate?: boolean };
  }>(
    "/api/v1/properties/:propertyId/versions",
    {
      schema: {
        operationId: "save",
        summary: "Append a version behind the newest one that was seen (`expectedVersion`)",
        tags,
        params,
        body: shape(
          {
            ...draft,
            expectedVersion: { type: "integer", minimum: 0, maximum: 2_147_483_647 },
            note: { ...text, maxLength: NOTE_CHARACTERS_MAX },
            activate: flag,
          },
          ["text", "format", "document", "note", "activate"],
        ),
        response: {
          201: { description: "Saved", ...versionSummary },
          ...errors(400, 401, 403, 404, 413, 415, 409, 422, 503),
        },
      },
    },
    async (request, reply) => {
      oneDraft(request.body);
      const { expectedVersion, note = "", activate = false } = request.body;
      const saved = await desk.save(sessionOf(request).viewer, request.params.propertyId, request.body, {
        expectedVersion,
        note,
        activate,
      });
      return reply.code(201).send(saved);
    },
  );

  app.get<{ Params: { propertyId: string }; Querystring: { from: string; to: string } }>(
    "/api/v1/properties/:propertyId/diff",
    {
      schema: {
        operationId: "diff",
        summary: "What differs between two versions",
        tags,
        params,
        querystring: shape({ from: versionText, to: versionText }),
        response: {
          200: { description: "Changes", ...shape({ changes: list(change) }) },
          ...errors(400, 401, 404, 503),
        },
      },
    },
    async (request) => {
      const { from, to } = request.query;
      return {
        changes: await desk.diff(
          sessionOf(request).viewer,
          request.params.propertyId,
          Number(from),
          Number(to),
        ),
      };
    },
  );

  app.post<{
    Params: { propertyId: string };
    Body: { version: number; expectedActiveVersion: number | null };
  }>(
    "/api/v1/properties/:propertyId/activate",
    {
      schema: {
        operationId: "activate",
        summary: "Put a version in force, forward or back (roll back)",
        tags,
        params,
        body: shape({ version: versionNumber, expectedActiveVersion: nullable(versionNumber) }),
        response: {
          200: { description: "In force", ...versionSummary },
          ...errors(400, 401, 403, 404, 413, 415, 409, 422, 503),
        },
      },
    },
    (request) => {
      const { version, expectedActiveVersion } = request.body;
      return desk.activate(
        sessionOf(request).viewer,
        request.params.propertyId,
        version,
        expectedActiveVersion,
      );
    },
  );

  return desk;
}

function oneDraft(draft: Draft): void {
  if ((draft.text === undefined) === (draft.document === undefined)) {
    throw new Fault(400, "bad-request", "Send either text (with format) or document");
  }
}
