/** Purge with progress, as control reports it: one JSON line for each step. */
import { ParseError, purgeRequest } from "#kit";
import type { FastifyInstance } from "fastify";
import { foreignPurgeUrl } from "../core/tenancy.ts";
import type { PurgeProgress } from "../core/wire.ts";
import { type PortalContext, sessionOf } from "./context.ts";
import { faultOf } from "./draft-text.ts";
import { Fault } from "./fault.ts";
import { faultOfControl, type PropertyDesk } from "./property-desk.ts";
import { errors, idText, list, shape, text } from "./schemas.ts";

function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname : undefined;
}

export function purgeRoutes(app: FastifyInstance, context: PortalContext, desk: PropertyDesk): void {
  const { control, metrics, settings, logger } = context;
  let running = 0;

  app.post<{ Body: { propertyId: string } }>(
    "/api/v1/purges",
    {
      schema: {
        operationId: "purge",
        summary:
          "Forget URLs or tags of a property at every server; the answer is NDJSON and ends with `done` or `failed`",
        tags: ["purge"],
        body: shape(
          {
            propertyId: idText,
            urls: list({ ...text, maxLength: 8_192 }, { maxItems: 1_000 }),
            tags: list({ ...text, maxLength: 256 }, { maxItems: 256 }),
            mode: { type: "string", enum: ["soft", "hard"] },
          },
          ["urls", "tags", "mode"],
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
      const property = await desk.owned(viewer, request.body.propertyId);
      const asked = (() => {
        try {
          return purgeRequest.parse({ ...request.body, customerId: property.customerId });
        } catch (error) {
          if (!(error instanceof ParseError)) throw error;
          throw new Fault(422, "refused", `Nothing was purged: ${error.message}`, {
            faults: [faultOf(error, null)],
          });
        }
      })();
      const foreign = foreignPurgeUrl(asked.urls, property.hostnames, hostOf);
      if (foreign !== undefined) {
        const error = new ParseError(
          ["urls", foreign],
          asked.urls[foreign],
          `a URL of ${property.propertyId}: http or https with one of the hosts ${property.hostnames.join(", ")}`,
        );
        throw new Fault(422, "refused", `Nothing was purged: ${error.message}`, {
          faults: [faultOf(error, null)],
        });
      }
      if (running >= settings.purgesMax) {
        throw new Fault(429, "busy", `${running} purges are under way already; try again in a few seconds`, {
          retryAfterSeconds: 2,
        });
      }
      running += 1;
      metrics.purges.set(running);
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
        const result = await control.purge(asked, send);
        logger.info("purged", {
          account: viewer.name,
          propertyId: property.propertyId,
          urls: asked.urls.length,
          tags: asked.tags.length,
          acked: result.acked,
          expected: result.expected,
          elapsedMs: result.elapsedMs,
        });
      } catch (error) {
        if (!hasBegun) faultOfControl(context, error);
        logger.warn("purge-failed", { account: viewer.name, propertyId: property.propertyId, error });
        send({
          type: "failed",
          message: "Control stopped answering; the purge may still go on. Repeat it to be sure",
        });
      } finally {
        running -= 1;
        metrics.purges.set(running);
      }
      raw.end();
      return reply;
    },
  );
}
