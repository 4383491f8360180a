/** A world's property as the raw property document, before its schema has seen it. */
import type { ClusterId, CustomerId } from "#kit";
import type { WorldProperty } from "./world.ts";

const urlPattern = /^(https?):\/\/([^/:?#@[\]]+)(?::([0-9]{1,5}))?\/?$/i;

/** Not yet parsed: `propertyDocument.parse` decides. `origin` tells where a cluster's first server listens. */
export function rawPropertyDocument(
  customerId: CustomerId,
  property: WorldProperty,
  origin: (clusterId: ClusterId) => { readonly address: string; readonly port: number },
): unknown {
  return {
    propertyId: property.id,
    customerId,
    hostnames: property.hostnames,
    origins: [
      "cluster" in property.origin ? inWorld(origin(property.origin.cluster)) : outside(property.origin.url),
    ],
    ...property.settings,
  };
}

function inWorld(at: { readonly address: string; readonly port: number }): unknown {
  return { scheme: "http", host: at.address, port: at.port };
}

/** What is not `scheme://host[:port]` yields a host that the document's schema refuses, with the reason. */
function outside(url: string): unknown {
  const parts = urlPattern.exec(url);
  if (parts === null) return { scheme: "http", host: url, port: 80 };
  const [, scheme, host, port] = parts;
  const isTls = scheme?.toLowerCase() === "https";
  return {
    scheme: isTls ? "https" : "http",
    host: host?.toLowerCase(),
    port: port === undefined ? (isTls ? 443 : 80) : Number(port),
  };
}
