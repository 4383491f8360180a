/** The portal's HTTP server: API, page, health, metrics, and the rules that hold for all of them. */
import fastifyCookie from "@fastify/cookie";
import fastifySwagger from "@fastify/swagger";
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { type PortalSettings, settings as defaults } from "../config.ts";
import { AttemptLimiter } from "../core/attempt-limiter.ts";
import type { StatedAccount } from "../core/accounts.ts";
import { SessionTable } from "../core/session-table.ts";
import type { PortalContext } from "./context.ts";
import type { ControlFeed, ControlPort } from "./control-port.ts";
import { Fault } from "./fault.ts";
import { Hub } from "./hub.ts";
import { PortalMetrics } from "./metrics.ts";
import { CONTENT_SECURITY_POLICY, pageRoutes, type PageState } from "./page.ts";
import { PasswordBook } from "./passwords.ts";
import { liveRoutes } from "./routes-live.ts";
import { propertyRoutes } from "./routes-property.ts";
import { purgeAdapterRoutes } from "./routes-purge-adapters.ts";
import { purgeRoutes } from "./routes-purge.ts";
import { PurgeDesk } from "./purge-desk.ts";
import { TokenBook } from "./token-book.ts";
import { policyRoutes } from "./routes-policy.ts";
import { zoneRoutes } from "./routes-zone.ts";
import { readSession, sessionRoutes } from "./routes-session.ts";

export interface PortalOptions {
  readonly control: ControlPort;
  readonly feed: ControlFeed;
  readonly accounts: readonly StatedAccount[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings?: Partial<PortalSettings>;
}

export interface Portal {
  readonly app: FastifyInstance;
  readonly hub: Hub;
  /** What the page's paths answer from now on. */
  setPage(state: PageState): void;
  /** Begins to follow control and listens; resolves with the port. */
  listen(host: string, port: number): Promise<number>;
  /** Drains: not ready any more, streams end, requests under way are finished. */
  close(): Promise<void>;
}

const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": CONTENT_SECURITY_POLICY,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
};

const SAFE_METHODS: readonly string[] = ["GET", "HEAD", "OPTIONS"];
const CSRF_HEADER = "isochrone-portal";

/**
 * A page of another site can neither set a header of its own on a request to us without asking first (and we never grant
 * it), nor hide its Origin.
 */
function refuseForeignOrigin(request: FastifyRequest): void {
  // A token does not come by itself, as a cookie does.
  if (SAFE_METHODS.includes(request.method) || request.isByToken) return;
  const { origin } = request.headers;
  const isForeign =
    origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== request.headers.host);
  if (isForeign || request.headers[CSRF_HEADER] !== "1") {
    throw new Fault(
      403,
      "foreign-origin",
      `Changes need the header "${CSRF_HEADER}: 1" and, from a browser, the portal's own origin`,
    );
  }
}

export async function createPortal(options: PortalOptions): Promise<Portal> {
  const { control, feed, clock, logger } = options;
  const settings: PortalSettings = { ...defaults, ...options.settings };
  const metrics = new PortalMetrics();
  const hub = new Hub({ feed, clock, settings, logger });
  const context: PortalContext = {
    control,
    hub,
    passwords: await PasswordBook.of(options.accounts, settings),
    tokens: new TokenBook(options.accounts),
    sessions: new SessionTable({
      lifetimeMs: settings.sessionLifetimeMs,
      sessionsMax: settings.sessionsMax,
      sessionsPerAccountMax: settings.sessionsPerAccountMax,
    }),
    accountAttempts: new AttemptLimiter(settings.accountAttempts),
    addressAttempts: new AttemptLimiter(settings.addressAttempts),
    clock,
    settings,
    logger,
    metrics,
  };
  metrics.observe(hub, context.sessions);

  let page: PageState = { kind: "building" };
  let isReady = false;

  const app = Fastify({
    bodyLimit: settings.bodyBytesMax,
    requestTimeout: 30_000,
    keepAliveTimeout: 65_000,
    forceCloseConnections: true,
    http: { maxHeaderSize: 16_384 },
    // What Fastify refuses before any hook runs, such as an address with a broken escape.
    frameworkErrors: (error, _request, reply) => {
      const fault = new Fault(
        400,
        "bad-request",
        `The address cannot be read: ${error.message.slice(0, 200)}`,
      );
      void (reply as FastifyReply)
        .headers({ ...SECURITY_HEADERS, "cache-control": "no-store" })
        .code(400)
        .type("application/json; charset=utf-8")
        .send(JSON.stringify(fault.answer()));
    },
    // What does not fit is refused, never bent or cut to fit.
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        allowUnionTypes: true,
      },
    },
  });
  app.decorateRequest("session", null);
  app.decorateRequest("isByToken", false);
  await app.register(fastifyCookie);
  await app.register(fastifySwagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Isochrone portal",
        version: "1",
        description: `Properties, purge and the live state of a CDN. Log in with POST /api/v1/session; requests that change something carry the header "${CSRF_HEADER}: 1". Programs send an API token as "Authorization: Bearer ..." instead.`,
      },
      components: {
        securitySchemes: {
          session: { type: "apiKey", in: "cookie", name: "isochrone_session" },
          token: { type: "http", scheme: "bearer" },
        },
      },
      security: [{ session: [] }, { token: [] }],
    },
  });

  app.addHook("onRequest", async (request, reply) => {
    reply.headers(SECURITY_HEADERS);
    // Files and pages say otherwise; a fault or an answer of the API is never kept.
    reply.header("cache-control", "no-store");
    readSession(context, request);
    refuseForeignOrigin(request);
  });
  app.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "(none)";
    metrics.requests.inc({ route, method: request.method, status: reply.statusCode });
    if (route !== "/api/v1/live") metrics.seconds.observe({ route }, reply.elapsedTime / 1_000);
  });

  app.setErrorHandler(async (error: FastifyError | Fault, request, reply) => {
    const fault = asFault(error);
    if (fault === undefined) {
      logger.error("request-failed", {
        method: request.method,
        route: request.routeOptions.url ?? null,
        error,
      });
      const unknown = new Fault(500, "internal", "The portal failed at this request; its log says why");
      return reply
        .code(500)
        .type("application/json; charset=utf-8")
        .serializer(JSON.stringify)
        .send(unknown.answer());
    }
    if (fault.detail.retryAfterSeconds !== undefined)
      reply.header("retry-after", fault.detail.retryAfterSeconds);
    return reply
      .code(fault.status)
      .type("application/json; charset=utf-8")
      .serializer(JSON.stringify)
      .send(fault.answer());
  });
  app.setNotFoundHandler(async (request, reply) => {
    const fault = new Fault(
      404,
      "not-found",
      `There is nothing at ${request.method} ${request.url.slice(0, 200)}; the API is described at /api/v1/openapi.json`,
    );
    reply.code(404).header("cache-control", "no-store");
    // A person who mistyped an address gets the page, which says so.
    const { accept = "" } = request.headers;
    if (
      page.kind === "ready" &&
      request.method === "GET" &&
      isPageOf(request.url) &&
      accept.includes("text/html")
    )
      return reply.sendFile("index.html", page.directory, { cacheControl: false });
    return reply.type("application/json; charset=utf-8").send(fault.answer());
  });

  const hidden = { schema: { hide: true } } as const;
  app.get("/livez", hidden, async (_request, reply) => reply.type("text/plain").send("ok\n"));
  app.get("/readyz", hidden, async (_request, reply) =>
    reply
      .code(isReady ? 200 : 503)
      .type("text/plain")
      .send(isReady ? "ready\n" : "not ready\n"),
  );
  app.get("/metrics", hidden, async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
  app.get("/api/v1/openapi.json", hidden, async () => app.swagger());

  sessionRoutes(app, context);
  const desk = propertyRoutes(app, context);
  liveRoutes(app, context, desk);
  const purges = new PurgeDesk(context);
  purgeRoutes(app, context, desk, purges);
  zoneRoutes(app, context);
  policyRoutes(app, context);
  purgeAdapterRoutes(app, context, desk, purges);
  await pageRoutes(app, () => page);

  return {
    app,
    hub,
    setPage: (state) => {
      page = state;
    },
    listen: async (host, port) => {
      await hub.start();
      await app.listen({ host, port });
      isReady = true;
      const address = app.server.address();
      return typeof address === "object" && address !== null ? address.port : port;
    },
    close: async () => {
      isReady = false;
      await hub.close();
      await app.close();
    },
  };
}

function isPageOf(url: string): boolean {
  return !url.startsWith("/api/") && !url.startsWith("/assets/");
}

/** Our own faults and Fastify's refusals of what does not fit; undefined: a bug. */
function asFault(error: FastifyError | Fault): Fault | undefined {
  if (error instanceof Fault) return error;
  if (error.validation !== undefined) {
    const [first] = error.validation;
    const path = `${error.validationContext ?? "request"}${(first?.instancePath ?? "").replaceAll("/", ".")}`;
    const extra =
      first?.keyword === "additionalProperties"
        ? ` ${JSON.stringify(first.params["additionalProperty"])}`
        : "";
    return new Fault(400, "bad-request", `${path}: ${first?.message ?? "does not fit its schema"}${extra}`);
  }
  const status = error.statusCode ?? 500;
  return status >= 400 && status < 500 ? new Fault(status, "bad-request", error.message) : undefined;
}
