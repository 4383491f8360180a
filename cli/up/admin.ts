/** The supervisor's own door: HTTP over a Unix socket that only this user can open. Client and server of it in one place. */
import type { Server } from "node:http";
import { once } from "node:events";
import { http } from "#kit/io";
import { messageOf, UsageError } from "../usage.ts";

const BODY_BYTES_MAX = 65_536;

export type AdminHandler = (path: string, body: unknown) => Promise<unknown>;

/** Serves `handler` at the socket path; a {@link UsageError} becomes status 400 with its message. */
export async function serveAdmin(socketPath: string, handler: AdminHandler): Promise<Server> {
  const server = http.createServer((incoming, outgoing) => {
    const answer = (status: number, body: unknown) => {
      outgoing.writeHead(status, { "content-type": "application/json" });
      outgoing.end(JSON.stringify(body));
    };
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > BODY_BYTES_MAX) incoming.destroy();
      else chunks.push(chunk);
    });
    incoming.on("end", () => {
      const run = async () => {
        const text = Buffer.concat(chunks).toString("utf8");
        return handler(incoming.url ?? "/", text === "" ? undefined : JSON.parse(text));
      };
      run().then(
        (body) => answer(200, body),
        (error: unknown) =>
          answer(error instanceof UsageError ? 400 : 500, {
            error: messageOf(error),
          }),
      );
    });
    incoming.on("error", () => {});
  });
  server.listen(socketPath);
  await once(server, "listening");
  return server;
}

/** Asks a running supervisor; throws {@link UsageError} with its words when it refuses. */
export async function askAdmin(socketPath: string, path: string, body?: unknown): Promise<unknown> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const outgoing = http.request(
      { socketPath, path, method: payload === undefined ? "GET" : "POST", timeout: 10_000 },
      (incoming) => {
        let text = "";
        incoming.setEncoding("utf8");
        incoming.on("data", (chunk: string) => {
          text += chunk;
        });
        incoming.on("end", () => {
          const parsed: unknown = JSON.parse(text);
          if (incoming.statusCode === 200) resolve(parsed);
          else
            reject(new UsageError((parsed as { error?: string }).error ?? `status ${incoming.statusCode}`));
        });
        incoming.on("error", reject);
      },
    );
    outgoing.on("timeout", () =>
      outgoing.destroy(new UsageError("The running world does not answer within 10 s", 1)),
    );
    outgoing.on("error", (error) =>
      reject(
        error instanceof UsageError
          ? error
          : new UsageError(`Cannot reach the running world: ${error.message}`, 1),
      ),
    );
    outgoing.end(payload);
  });
}
