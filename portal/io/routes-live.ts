/** The running picture: one state, the live stream, the graphs. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Fastify awaits its handlers */
import type { FastifyInstance } from "fastify";
import { type PortalContext, sessionOf } from "./context.ts";
import { noSuchProperty } from "./fault.ts";
import type { LiveListener } from "./hub.ts";
import type { PropertyDesk } from "./property-desk.ts";
import { errors, idText, liveState, seriesAnswer, shape } from "./schemas.ts";

export function liveRoutes(app: FastifyInstance, context: PortalContext, desk: PropertyDesk): void {
  const { hub, sessions } = context;
  const tags = ["live"];

  app.get(
    "/api/v1/state",
    {
      schema: {
        operationId: "state",
        summary: "Sites, servers, links in use and totals, now",
        tags,
        response: { 200: { description: "State", ...liveState }, ...errors(401) },
      },
    },
    (request) => hub.state(sessionOf(request).viewer),
  );

  app.get(
    "/api/v1/live",
    {
      schema: {
        operationId: "live",
        summary: "The state each second, as server-sent events `state`",
        tags,
        response: {
          200: {
            description: "Events whose data is what GET /api/v1/state answers",
            content: { "text/event-stream": { schema: { type: "string" } } },
          },
          ...errors(401, 429),
        },
      },
    },
    (request, reply) => {
      const session = sessionOf(request);
      const { raw } = reply;
      let hasBegun = false;
      const listener: LiveListener = {
        viewer: session.viewer,
        sessionKey: session.key,
        isEntitled: (now) => sessions.find(session.key, now) !== undefined,
        send: (event) => {
          if (!hasBegun) {
            hasBegun = true;
            reply.hijack();
            for (const [name, value] of Object.entries(reply.getHeaders()))
              if (value !== undefined) raw.setHeader(name, value);
            raw.writeHead(200, {
              "content-type": "text/event-stream; charset=utf-8",
              "x-accel-buffering": "no",
            });
          }
          // What the page has not read yet is all that it gets.
          if (raw.writableNeedDrain) return false;
          raw.write(event);
          return true;
        },
        end: () => raw.end(),
      };
      const stop = hub.listen(listener);
      raw.on("close", stop);
      raw.on("error", stop);
    },
  );

  app.get<{ Querystring: { propertyId?: string; window?: "ten-minutes" | "hour" } }>(
    "/api/v1/series",
    {
      schema: {
        operationId: "series",
        summary: "Requests and hit ratio over the last ten minutes (1 s) or hour (10 s)",
        tags,
        querystring: shape(
          { propertyId: idText, window: { type: "string", enum: ["ten-minutes", "hour"] } },
          ["propertyId", "window"],
        ),
        response: {
          200: { description: "Columns, oldest first", ...seriesAnswer },
          ...errors(400, 401, 404),
        },
      },
    },
    async (request) => {
      const { viewer } = sessionOf(request);
      const { propertyId, window = "ten-minutes" } = request.query;
      if (propertyId !== undefined) {
        const owned = await desk.owned(viewer, propertyId);
        if (owned.propertyId !== propertyId) throw noSuchProperty(propertyId);
      }
      return hub.series(viewer, propertyId ?? null, window === "hour" ? 3_600_000 : 600_000);
    },
  );
}
