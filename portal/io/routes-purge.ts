/** Purge with progress, as control reports it: one JSON line for each step. */
import type { FastifyInstance } from "fastify";
import type { PurgeWish } from "../core/purge-adapters.ts";
import type { PurgeProgress } from "../core/wire.ts";
import { type PortalContext, sessionOf } from "./context.ts";
import { Fault } from "./fault.ts";
import { faultOfControl, type PropertyDesk } from "./property-desk.ts";
import type { PurgeDesk } from "./purge-desk.ts";
import { errors, flag, idText, list, shape, text } from "./schemas.ts";

export function purgeRoutes(
  app: FastifyInstance,
  context: PortalContext,
  desk: PropertyDesk,
  purges: PurgeDesk,
): void {
  app.post<{ Body: PurgeWish & { propertyId: string; mode: string } }>(
    "/api/v1/purges",
    {
      schema: {
        operationId: "purge",
        summary:
          "Forget URLs, tags, prefixes, hosts or all of a property at every server; the answer is NDJSON and ends with `done` or `failed`",
        tags: ["purge"],
        body: shape(
          {
            propertyId: idText,
            urls: list({ ...text, maxLength: 8_192 }, { maxItems: 1_000 }),
            tags: list({ ...text, maxLength: 256 }, { maxItems: 256 }),
            prefixes: list({ ...text, maxLength: 2_048 }, { maxItems: 256 }),
            hosts: list({ ...text, maxLength: 253 }, { maxItems: 100 }),
            isWholeProperty: flag,
            mode: { type: "string", enum: ["soft", "hard"] },
          },
          ["urls", "tags", "prefixes", "hosts", "isWholeProperty", "mode"],
        ),
        response: {
          200: {
            description: "Lines: accepted, ack for each server, then done or failed",
            content: { "application/x-ndjson": { schema: { type: "string" } } },
          },
          ...errors(400, 401, 403, 404, 413, 415, 422, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { viewer } = sessionOf(request);
      const { propertyId, ...wish } = request.body;
      const property = await desk.owned(viewer, propertyId);
      const { raw } = reply;
      let hasBegun = false;
      const send = (line: PurgeProgress): void => {
        if (!hasBegun) {
          hasBegun = true;
          reply.hijack();
          for (const [name, value] of Object.entries(reply.getHeaders()))
            if (value !== undefined) raw.setHeader(name, value);
          raw.writeHead(200, {
            "content-type": "application/x-ndjson; charset=utf-8",
            "x-accel-buffering": "no",
          });
        }
        raw.write(`${JSON.stringify(line)}\n`);
      };
      try {
        // The purge goes on when the page is closed: what was accepted is not taken back.
        await purges.purge(viewer, property, wish, send);
      } catch (error) {
        if (error instanceof Fault) throw error;
        if (!hasBegun) faultOfControl(context, error);
        send({
          type: "failed",
          message: "Control stopped answering; the purge may still go on. Repeat it to be sure",
        });
      }
      raw.end();
      return reply;
    },
  );
}
