/** undici on one connection, as a pool uses it: told which protocol is spoken, given the stream, asked with every field as it stands. */
import type { Readable } from "node:stream";
import type { buildConnector, Dispatcher } from "undici";
import Client from "undici/lib/dispatcher/client.js";
import type { TransportSettings } from "../config.ts";
import type { PoolRequest } from "./exchange.ts";
import type { HeaderList } from "./face.ts";

export type UndiciClient = Client;

/** `streamsMax`: requests at once, with HTTP/2. `connect` is called for each stream that it wants. */
export function undiciClient(
  settings: TransportSettings,
  isHttp2: boolean,
  streamsMax: number,
  connect: (callback: buildConnector.Callback) => void,
): Client {
  // The address is never used: the connector knows where to go, and every request has its own Host. TLS, where there is any, is below
  // undici, so that it does not reconnect for another Host header; the scheme of the address is what HTTP/2 states.
  return new Client(isHttp2 ? "https://path.invalid" : "http://path.invalid", {
    pipelining: 1,
    allowH2: isHttp2,
    ...(isHttp2 && {
      h2Options: {
        maxConcurrentStreams: streamsMax,
        connectionWindowSize: settings.http2ConnectionWindowBytes,
      },
      // What its documentation wants in place of it, h2Options.settings, is checked and not used (8.12).
      initialWindowSize: settings.http2StreamWindowBytes,
    }),
    keepAliveTimeout: settings.keepAliveMs,
    keepAliveMaxTimeout: settings.keepAliveMs,
    headersTimeout: settings.headersTimeoutMs,
    bodyTimeout: settings.bodyTimeoutMs,
    maxHeaderSize: settings.headerBytesMax,
    strictContentLength: true,
    connect: (_options: buildConnector.Options, callback: buildConnector.Callback) => connect(callback),
  });
}

export function dispatchOptions(
  request: PoolRequest,
  headers: HeaderList,
  isHttp2: boolean,
): Dispatcher.DispatchOptions {
  return {
    path: request.path,
    method: request.method,
    // [name, value, name, value...]: order and repetitions stay.
    headers: (isHttp2 ? lowerCased(headers) : headers).flat(),
    ...(request.mayReuseAfterHead && { reset: false }),
    body: (request.body as Readable | Buffer | undefined) ?? null,
    headersTimeout: request.headersMs,
    bodyTimeout: request.bodyMs,
  };
}

/** As HTTP/2 has them (RFC 9113 section 8.2.1). undici takes Cookie for the field that may be repeated by that name alone. */
function lowerCased(headers: HeaderList): HeaderList {
  return headers.map(([name, value]) => [name.toLowerCase(), value]);
}
