/** Zones of customers: what stands in one, and edits of it by RRset. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Fastify awaits its handlers */
import { hasRecords, ParseError, type ZoneDocument, zoneDocument, zoneEdits, zoneOfDocument } from "#kit";
import { ControlError } from "#control";
import type { FastifyInstance } from "fastify";
import { maySee } from "../core/tenancy.ts";
import type { Viewer } from "../core/wire.ts";
import { type PortalContext, sessionOf } from "./context.ts";
import { faultOf } from "./draft-text.ts";
import { Fault } from "./fault.ts";
import { faultOfControl } from "./property-desk.ts";
import { count, errors, flag, idText, list, nullable, shape, text } from "./schemas.ts";

const NOTE_CHARACTERS_MAX = 500;

const rrSet = shape({ name: text, type: text, ttlSeconds: count, data: list(text) });

export function zoneRoutes(app: FastifyInstance, context: PortalContext): void {
  const { control, logger } = context;
  const params = shape({ zoneId: idText });

  /** The version in force. What is another's is answered like what is not there. */
  const owned = async (viewer: Viewer, zoneId: string): Promise<{ version: number; zone: ZoneDocument }> => {
    const record = await control
      .document("zone", zoneId)
      .catch((error: unknown) => faultOfControl(context, error));
    const zone = record === undefined ? undefined : zoneDocument.parse(record.body);
    if (record === undefined || zone === undefined || !maySee(viewer, zone.customerId))
      throw new Fault(404, "not-found", `There is no zone ${JSON.stringify(zoneId)}`);
    return { version: record.version, zone };
  };

  app.get<{ Params: { zoneId: string } }>(
    "/api/v1/zones/:zoneId",
    {
      schema: {
        operationId: "zone",
        summary:
          "A zone as it is in force; without RRsets when name servers fetch it from the customer's own",
        tags: ["zones"],
        params,
        response: {
          200: {
            description: "The zone",
            ...shape({
              zoneId: text,
              origin: text,
              version: count,
              serial: nullable(count),
              isActive: flag,
              sets: list(rrSet),
            }),
          },
          ...errors(400, 401, 404, 503),
        },
      },
    },
    async (request) => {
      const { version, zone } = await owned(sessionOf(request).viewer, request.params.zoneId);
      const { zoneId, origin, isActive, sets } = zone;
      return {
        zoneId,
        origin,
        version,
        serial: hasRecords(zone) ? zoneOfDocument(zone).serial : null,
        isActive,
        sets,
      };
    },
  );

  app.patch<{
    Params: { zoneId: string };
    Body: { edits: unknown; expectedSerial?: number; note?: string };
  }>(
    "/api/v1/zones/:zoneId",
    {
      schema: {
        operationId: "editZone",
        summary:
          "Set, add to or delete RRsets, all or none; the serial grows by itself, and with `expectedSerial` another one refuses them",
        tags: ["zones"],
        params,
        body: shape(
          {
            edits: list(
              shape(
                {
                  action: { type: "string", enum: ["set", "add", "delete"] },
                  name: { ...text, maxLength: 1_024 },
                  type: { ...text, maxLength: 10 },
                  ttlSeconds: count,
                  data: list({ ...text, maxLength: 300_000 }, { maxItems: 1_000 }),
                },
                ["ttlSeconds", "data"],
              ),
              { minItems: 1, maxItems: 1_000 },
            ),
            expectedSerial: count,
            note: { ...text, maxLength: NOTE_CHARACTERS_MAX },
          },
          ["expectedSerial", "note"],
        ),
        response: {
          200: {
            description: "The version in force from now on",
            ...shape({ version: count, serial: count }),
          },
          ...errors(400, 401, 403, 404, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request) => {
      const { viewer } = sessionOf(request);
      const { zoneId } = request.params;
      await owned(viewer, zoneId);
      const { edits, expectedSerial, note } = request.body;
      const { version, serial } = await control
        .editZone(zoneId, {
          edits: editsOf(edits),
          author: viewer.name,
          ...(expectedSerial !== undefined && { expectedSerial }),
          ...(note !== undefined && { note }),
        })
        .catch((error: unknown) => {
          if (error instanceof ControlError && error.code === "conflict") {
            const presentVersion = error.presentVersion ?? 0;
            throw new Fault(
              409,
              "version-conflict",
              `Nothing was changed: somebody else has edited the zone meanwhile, its serial is ${presentVersion}`,
              { presentVersion },
            );
          }
          return faultOfControl(context, error);
        });
      logger.info("zone-edited", { account: viewer.name, zoneId, version, serial });
      return { version, serial };
    },
  );
}

/** Throws {@link Fault} 422. */
function editsOf(value: unknown) {
  try {
    return zoneEdits.parse(value, ["edits"]);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new Fault(422, "refused", error.message, { faults: [faultOf(error, null)] });
  }
}
