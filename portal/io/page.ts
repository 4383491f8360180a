/** The page: files of the build, or a plain sentence that says why there is none yet. */
import fastifyStatic from "@fastify/static";
import type { FastifyInstance, FastifyReply } from "fastify";
import { existsSync } from "node:fs";
import { join } from "node:path";

export type PageState =
  | { readonly kind: "building" }
  | { readonly kind: "ready"; readonly directory: string }
  | { readonly kind: "failed"; readonly reason: string };

/** Paths that the page itself routes. Everything else that is no file is a 404. */
const PAGES = ["/", "/properties", "/properties/:propertyId", "/policies", "/purge"] as const;

/** Script and style from here alone, none inline; nobody may frame us. Style attributes set by script are not inline. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export async function pageRoutes(app: FastifyInstance, state: () => PageState): Promise<void> {
  await app.register(fastifyStatic, {
    root: import.meta.dirname,
    serve: false,
    preCompressed: true,
    cacheControl: false,
    dotfiles: "deny",
  });
  const hidden = { schema: { hide: true } } as const;

  for (const path of PAGES) {
    app.get(path, hidden, (_request, reply) => {
      const present = state();
      if (present.kind !== "ready") return explain(reply, present);
      return reply.header("cache-control", "no-cache").sendFile("index.html", present.directory);
    });
  }
  // Names carry a digest of the content, so a copy is good for ever.
  app.get<{ Params: { "*": string } }>("/assets/*", hidden, (request, reply) => {
    const present = state();
    if (present.kind !== "ready") return explain(reply, present);
    const name = request.params["*"];
    // Only what is there may be kept: a miss during an upgrade would else stay a miss in somebody's browser for a year.
    if (!/^[\w-]+(?:\.[\w-]+)+$/.test(name) || !existsSync(join(present.directory, "assets", name)))
      return reply.callNotFound();
    return reply
      .header("cache-control", "public, max-age=31536000, immutable")
      .sendFile(name, join(present.directory, "assets"));
  });
}

function explain(reply: FastifyReply, state: Exclude<PageState, { kind: "ready" }>): FastifyReply {
  const isBuilding = state.kind === "building";
  const title = isBuilding ? "The page is being built" : "The page could not be built";
  const body = isBuilding
    ? "<p>This takes a few seconds at the first start. It reloads by itself.</p>"
    : `<p>The API works: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>. What the build said:</p><pre>${escape(state.reason)}</pre>`;
  return reply
    .code(503)
    .header("retry-after", "2")
    .header("cache-control", "no-store")
    .type("text/html; charset=utf-8")
    .send(
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">${isBuilding ? '<meta http-equiv="refresh" content="1">' : ""}<meta name="color-scheme" content="light dark"><title>Isochrone</title></head><body><h1>${title}</h1>${body}</body></html>`,
    );
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
