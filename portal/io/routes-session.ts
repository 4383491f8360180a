/** Log-in and log-out. */
import { createHash, randomBytes } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { MonotonicMs } from "#kit";
import { PASSWORD_CHARACTERS_MAX } from "../core/accounts.ts";
import { addressKey } from "../core/address-key.ts";
import type { PortalContext } from "./context.ts";
import { Fault } from "./fault.ts";
import { PasswordBookBusyError } from "./passwords.ts";
import { errors, nullable, shape, text, viewer } from "./schemas.ts";

const COOKIE = "isochrone_session";
const ID_BYTES = 32;

/** What the table knows a session by: whoever reads our memory or a dump of it cannot log in with it. */
function keyOf(cookie: string): string {
  return createHash("sha256").update(cookie).digest("base64url");
}

/** Puts the session of an API token (RFC 6750, or Fastly's own field), else that of the cookie, on each request. */
export function readSession(context: PortalContext, request: FastifyRequest): void {
  const { authorization, "fastly-key": fastlyKey } = request.headers;
  const token =
    (typeof fastlyKey === "string" ? fastlyKey : undefined) ??
    /^Bearer +([!-~]+) *$/i.exec(authorization ?? "")?.[1];
  if (token !== undefined) {
    const viewer = context.tokens.viewerOf(token);
    request.isByToken = viewer !== undefined;
    // Whoever shows a wrong token is not taken for the cookie's account.
    request.session =
      viewer === undefined ? null : { key: `token ${viewer.name}`, viewer, endsAt: Infinity as MonotonicMs };
    return;
  }
  const cookie = request.cookies[COOKIE];
  request.session =
    cookie === undefined || cookie.length > 64
      ? null
      : (context.sessions.find(keyOf(cookie), context.clock.monotonic()) ?? null);
}

function setCookie(reply: FastifyReply, value: string, maxAgeSeconds: number): void {
  reply.setCookie(COOKIE, value, {
    httpOnly: true,
    sameSite: "strict",
    path: "/",
    maxAge: maxAgeSeconds,
    // Behind a proxy that speaks TLS the page is https; here it is plain, and a Secure cookie would never come back.
    secure: reply.request.headers["x-forwarded-proto"] === "https",
  });
}

export function sessionRoutes(app: FastifyInstance, context: PortalContext): void {
  const { passwords, sessions, accountAttempts, addressAttempts, clock, metrics, logger, settings } = context;

  app.get(
    "/api/v1/session",
    {
      schema: {
        operationId: "session",
        summary: "Who is logged in; null: nobody",
        tags: ["session"],
        security: [],
        response: { 200: { description: "The account", ...shape({ viewer: nullable(viewer) }) } },
      },
    },
    (request) => ({ viewer: request.session?.viewer ?? null }),
  );

  app.post(
    "/api/v1/session",
    {
      schema: {
        operationId: "logIn",
        summary: "Log in; the answer sets the session cookie",
        tags: ["session"],
        security: [],
        body: shape({
          name: { ...text, minLength: 1, maxLength: 63 },
          password: { ...text, minLength: 1, maxLength: PASSWORD_CHARACTERS_MAX },
        }),
        response: {
          200: { description: "Logged in", ...shape({ viewer }) },
          ...errors(400, 401, 403, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { name, password } = request.body as { name: string; password: string };
      const now = clock.monotonic();
      const address = addressKey(request.ip);
      for (const [limiter, key, what] of [
        [addressAttempts, address, "from this address"],
        [accountAttempts, name, "for this account"],
      ] as const) {
        const verdict = limiter.take(key, now);
        if (verdict.isAllowed) continue;
        metrics.logins.inc({ result: "limited" });
        logger.warn("login-limited", { account: name, address, what });
        const retryAfterSeconds = Math.max(1, Math.ceil(verdict.retryAfterMs / 1_000));
        throw new Fault(
          429,
          "too-many-attempts",
          `Too many wrong passwords ${what}: try again in ${retryAfterSeconds} s`,
          {
            retryAfterSeconds,
          },
        );
      }
      const account = await passwords.check(name, password).catch((error: unknown) => {
        if (!(error instanceof PasswordBookBusyError)) throw error;
        metrics.logins.inc({ result: "busy" });
        throw new Fault(503, "busy", error.message, { retryAfterSeconds: 2 });
      });
      if (account === undefined) {
        metrics.logins.inc({ result: "refused" });
        logger.warn("login-refused", { account: name, address });
        throw new Fault(401, "wrong-password", "The name or the password is wrong");
      }
      addressAttempts.giveBack(address);
      accountAttempts.giveBack(name);
      // A new id at each log-in, whatever cookie came with the request: none can be planted beforehand.
      if (request.session !== null) sessions.end(request.session.key);
      const id = randomBytes(ID_BYTES).toString("base64url");
      sessions.begin(keyOf(id), account, clock.monotonic());
      setCookie(reply, id, Math.floor(settings.sessionLifetimeMs / 1_000));
      metrics.logins.inc({ result: "accepted" });
      logger.info("login", { account: name, address });
      return { viewer: account };
    },
  );

  app.delete(
    "/api/v1/session",
    {
      schema: {
        operationId: "logOut",
        summary: "Log out; live streams of the session end",
        tags: ["session"],
        security: [],
        response: { 204: { description: "Logged out", type: "null" }, ...errors(403) },
      },
    },
    async (request, reply) => {
      if (request.session !== null) {
        sessions.end(request.session.key);
        context.hub.endSession(request.session.key);
      }
      setCookie(reply, "", 0);
      return reply.code(204).send();
    },
  );
}
