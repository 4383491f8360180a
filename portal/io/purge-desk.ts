/** Purges of an account, by whatever call they came: bounded, checked, carried out by control, logged. */
import { ParseError, type PropertyDocument, purgeRequest } from "#kit";
import type { PurgeResult } from "#control";
import type { PurgeWish } from "../core/purge-adapters.ts";
import { foreignPurgeUrl } from "../core/tenancy.ts";
import type { PurgeProgress, Viewer } from "../core/wire.ts";
import type { PortalContext } from "./context.ts";
import { faultOf } from "./draft-text.ts";
import { Fault } from "./fault.ts";

export function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname : undefined;
}

export class PurgeDesk {
  readonly #context: PortalContext;
  #running = 0;

  constructor(context: PortalContext) {
    this.#context = context;
  }

  /**
   * Resolves when all servers have acknowledged or control waits no longer. Throws {@link Fault} 422 or 429 before anything is
   * purged, and what control throws.
   */
  async purge(
    viewer: Viewer,
    property: PropertyDocument,
    wish: PurgeWish & { readonly mode: string },
    onProgress: (progress: PurgeProgress) => void = () => {},
  ): Promise<PurgeResult> {
    const { control, metrics, settings, logger } = this.#context;
    const { propertyId, customerId, hostnames } = property;
    const asked = refusing(() => {
      const request = purgeRequest.parse({ ...wish, propertyId, customerId });
      for (const field of ["urls", "prefixes"] as const) {
        const foreign = foreignPurgeUrl(request[field] ?? [], hostnames, hostOf);
        if (foreign !== undefined)
          throw new ParseError(
            [field, foreign],
            request[field]?.[foreign],
            `a URL of ${propertyId}: http or https with one of the hosts ${hostnames.join(", ")}`,
          );
      }
      return request;
    });
    if (this.#running >= settings.purgesMax)
      throw new Fault(
        429,
        "busy",
        `${this.#running} purges are under way already; try again in a few seconds`,
        {
          retryAfterSeconds: 2,
        },
      );
    this.#running += 1;
    metrics.purges.set(this.#running);
    try {
      const result = await control.purge(asked, onProgress);
      logger.info("purged", {
        account: viewer.name,
        propertyId,
        urls: asked.urls.length,
        tags: asked.tags.length,
        prefixes: asked.prefixes?.length ?? 0,
        hosts: asked.hosts?.length ?? 0,
        isWholeProperty: asked.isWholeProperty ?? false,
        acked: result.acked,
        expected: result.expected,
        elapsedMs: result.elapsedMs,
      });
      return result;
    } catch (error) {
      logger.warn("purge-failed", { account: viewer.name, propertyId, error });
      throw error;
    } finally {
      this.#running -= 1;
      metrics.purges.set(this.#running);
    }
  }
}

/** What a request asked for in a form that does not fit is a 422 that says where. */
export function refusing<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new Fault(422, "refused", `Nothing was purged: ${error.message}`, {
      faults: [faultOf(error, null)],
    });
  }
}
