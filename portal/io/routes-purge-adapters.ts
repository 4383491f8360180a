/** Purge by the calls of Fastly, Cloudflare and Akamai, with an API token; answers in their shapes. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  akamaiKinds,
  type AkamaiKind,
  akamaiPurge,
  cloudflarePurge,
  fastlyPurgeKeys,
  type PurgeWish,
} from "../core/purge-adapters.ts";
import { maySee } from "../core/tenancy.ts";
import { type PortalContext, sessionOf } from "./context.ts";
import { Fault } from "./fault.ts";
import { faultOfControl, type PropertyDesk } from "./property-desk.ts";
import { hostOf, type PurgeDesk, refusing } from "./purge-desk.ts";

type Mode = "soft" | "hard";

const HIDDEN = { schema: { hide: true } } as const;

/** In whose shape a fault is told. */
type Tell = (fault: Fault) => unknown;
const tellFastly: Tell = ({ code, message }) => ({ msg: code, detail: message });
const tellCloudflare: Tell = ({ status, message }) => ({
  success: false,
  errors: [{ code: status, message }],
  messages: [],
  result: null,
});
const tellAkamai: Tell = ({ status, code, message }) => ({
  httpStatus: status,
  title: code,
  detail: message,
});

export function purgeAdapterRoutes(
  app: FastifyInstance,
  context: PortalContext,
  desk: PropertyDesk,
  purges: PurgeDesk,
): void {
  /** Purges of one property; its number. */
  const purge = async (
    request: FastifyRequest,
    propertyId: string,
    wish: PurgeWish,
    mode: Mode,
  ): Promise<string> => {
    const { viewer } = sessionOf(request);
    const property = await desk.owned(viewer, propertyId);
    const result = await purges
      .purge(viewer, property, { ...wish, mode })
      .catch((error: unknown) =>
        error instanceof Fault ? Promise.reject(error) : faultOfControl(context, error),
      );
    return String(result.purgeSeq);
  };
  const told = async (reply: FastifyReply, tell: Tell, work: () => Promise<unknown>): Promise<unknown> => {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (error.detail.retryAfterSeconds !== undefined)
        reply.header("retry-after", error.detail.retryAfterSeconds);
      return reply.code(error.status).send(tell(error));
    }
  };

  // Fastly.
  const fastlyMode = (request: FastifyRequest): Mode =>
    request.headers["fastly-soft-purge"] === "1" ? "soft" : "hard";
  type Fastly = { Params: { service: string; key: string; "*": string } };
  app.post<Fastly>("/service/:service/purge/:key", HIDDEN, (request, reply) =>
    told(reply, tellFastly, async () => {
      const { service, key } = request.params;
      return { status: "ok", id: await purge(request, service, { tags: [key] }, fastlyMode(request)) };
    }),
  );
  app.post<Fastly>("/service/:service/purge", HIDDEN, (request, reply) =>
    told(reply, tellFastly, async () => {
      const field = request.headers["surrogate-key"];
      const tags = refusing(() =>
        fastlyPurgeKeys(typeof field === "string" ? field : undefined, request.body),
      );
      const number = await purge(request, request.params.service, { tags }, fastlyMode(request));
      return Object.fromEntries(tags.map((tag) => [tag, number]));
    }),
  );
  app.post<Fastly>("/service/:service/purge_all", HIDDEN, (request, reply) =>
    told(reply, tellFastly, async () => {
      await purge(request, request.params.service, { isWholeProperty: true }, "hard");
      return { status: "ok" };
    }),
  );
  app.post<Fastly>("/purge/*", HIDDEN, (request, reply) =>
    told(reply, tellFastly, async () => {
      // The query belongs to the URL that is purged.
      const url = `http://${request.url.slice("/purge/".length)}`;
      const property = propertyOfUrl(request, url);
      return { status: "ok", id: await purge(request, property, { urls: [url] }, fastlyMode(request)) };
    }),
  );

  // Cloudflare.
  app.post<{ Params: { zone: string } }>("/client/v4/zones/:zone/purge_cache", HIDDEN, (request, reply) =>
    told(reply, tellCloudflare, async () => {
      const wish = refusing(() => cloudflarePurge(request.body));
      await purge(request, request.params.zone, wish, "hard");
      return { success: true, errors: [], messages: [], result: { id: request.params.zone } };
    }),
  );

  // Akamai.
  const akamai = async (request: FastifyRequest, reply: FastifyReply, mode: Mode): Promise<unknown> =>
    await told(reply, tellAkamai, async () => {
      const { kind } = request.params as { kind: string };
      if (!(akamaiKinds as readonly string[]).includes(kind))
        throw new Fault(
          404,
          "not-found",
          `There is no purge by ${kind}; there are ${akamaiKinds.join(", ")}`,
        );
      const own = ownProperties(request);
      const wishes = refusing(() => akamaiPurge(kind as AkamaiKind, request.body, own, hostOf));
      const numbers = await Promise.all(
        Array.from(wishes, ([propertyId, wish]) => purge(request, propertyId, wish, mode)),
      );
      return reply.code(201).send({
        httpStatus: 201,
        detail: "Request accepted",
        purgeId: numbers.join("-"),
        supportId: request.id,
        estimatedSeconds: 0,
      });
    });
  // Theirs name a network, which is a detail of their own.
  for (const network of ["", "/:network"]) {
    app.post(`/ccu/v3/invalidate/:kind${network}`, HIDDEN, (request, reply) =>
      akamai(request, reply, "soft"),
    );
    app.post(`/ccu/v3/delete/:kind${network}`, HIDDEN, (request, reply) => akamai(request, reply, "hard"));
  }

  function ownProperties(request: FastifyRequest) {
    const { viewer } = sessionOf(request);
    return Array.from(context.hub.fleet.properties()).filter(({ customerId }) => maySee(viewer, customerId));
  }

  function propertyOfUrl(request: FastifyRequest, url: string): string {
    const host = hostOf(url);
    const found = ownProperties(request).find(
      ({ hostnames }) => host !== undefined && hostnames.includes(host),
    );
    if (found === undefined)
      throw new Fault(
        404,
        "not-found",
        `No property of yours has the host of ${JSON.stringify(url.slice(0, 200))}`,
      );
    return found.propertyId;
  }
}
