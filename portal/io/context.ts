/** What the routes share. */
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import type { FastifyRequest } from "fastify";
import type { PortalSettings } from "../config.ts";
import type { AttemptLimiter } from "../core/attempt-limiter.ts";
import type { Session, SessionTable } from "../core/session-table.ts";
import type { ControlPort } from "./control-port.ts";
import { Fault } from "./fault.ts";
import type { Hub } from "./hub.ts";
import type { PortalMetrics } from "./metrics.ts";
import type { PasswordBook } from "./passwords.ts";
import type { TokenBook } from "./token-book.ts";

export interface PortalContext {
  readonly control: ControlPort;
  readonly hub: Hub;
  readonly passwords: PasswordBook;
  readonly tokens: TokenBook;
  readonly sessions: SessionTable;
  readonly accountAttempts: AttemptLimiter;
  readonly addressAttempts: AttemptLimiter;
  readonly clock: Clock;
  readonly settings: PortalSettings;
  readonly logger: Logger;
  readonly metrics: PortalMetrics;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Null: not logged in. Set before any route's handler runs. */
    session: Session | null;
    /** The session is that of an API token, which no browser sends by itself. */
    isByToken: boolean;
  }
}

/** The session of a request; throws {@link Fault} 401 without one. */
export function sessionOf(request: FastifyRequest): Session {
  if (request.session === null) {
    throw new Fault(401, "not-logged-in", "Not logged in, or the session is over: log in again");
  }
  return request.session;
}
