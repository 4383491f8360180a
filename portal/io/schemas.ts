/** JSON Schemas of the API's requests and answers. Answers are written through them: a field that is not named cannot leak. */

type S = Readonly<Record<string, unknown>>;

export const text: S = { type: "string" };
export const count: S = { type: "integer", minimum: 0 };
export const amount: S = { type: "number" };
export const flag: S = { type: "boolean" };
export const anything: S = { description: "any JSON value" };

export function nullable(schema: S): S {
  return typeof schema["type"] === "string"
    ? { ...schema, type: [schema["type"], "null"] }
    : { anyOf: [schema, { type: "null" }] };
}

export function list(items: S, limits: S = {}): S {
  return { type: "array", items, ...limits };
}

/** Every key is required unless it stands in `optional`. */
export function shape(properties: Readonly<Record<string, S>>, optional: readonly string[] = []): S {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: "object", properties, required, additionalProperties: false };
}

export const idText: S = { type: "string", pattern: "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", maxLength: 63 };
export const versionNumber: S = { type: "integer", minimum: 1, maximum: 2_147_483_647 };
/** In a query everything is text. */
export const versionText: S = { type: "string", pattern: "^[1-9][0-9]{0,8}$" };

export const viewer = shape({ name: text, customerId: nullable(text) });

export const fault = shape({
  path: text,
  value: text,
  expected: text,
  line: nullable(count),
  column: nullable(count),
});
const errorAnswer = shape({
  error: shape(
    { code: text, message: text, faults: list(fault), presentVersion: count, retryAfterSeconds: count },
    ["faults", "presentVersion", "retryAfterSeconds"],
  ),
});

const errorMeanings: Readonly<Record<number, string>> = {
  400: "The request does not fit its schema",
  401: "Not logged in",
  403: "The request does not come from the portal's own page",
  404: "Not there, or not yours",
  409: "Somebody else was quicker",
  413: "The body is larger than the portal reads",
  415: "The body is no JSON",
  422: "The document or request was refused; `faults` says where and why",
  429: "Too many tries; `retryAfterSeconds` says when to come back",
  503: "Control cannot be reached, or the portal is busy",
};

/** The error answers of a route, by status. */
export function errors(...statuses: readonly number[]): Readonly<Record<number, S>> {
  return Object.fromEntries(
    statuses.map((status) => [status, { description: errorMeanings[status] ?? "Error", ...errorAnswer }]),
  );
}

export const change = shape({
  path: text,
  kind: { type: "string", enum: ["added", "removed", "changed"] },
  from: nullable(text),
  to: nullable(text),
});

const rollout = shape({ applied: count, live: count });

export const propertySummary = shape({
  propertyId: text,
  customerId: text,
  hostnames: list(text),
  trafficClass: text,
  isActive: flag,
  activeVersion: nullable(count),
  latestVersion: count,
  rollout,
  requestsPerSecond: amount,
  hitRatio: nullable(amount),
});

export const versionSummary = shape({
  version: count,
  isActive: flag,
  createdAtEpochMs: count,
  author: text,
  note: text,
});

export const propertyDetail = shape({
  propertyId: text,
  version: count,
  activeVersion: nullable(count),
  latestVersion: count,
  rollout,
  document: anything,
  json: text,
  yaml: text,
  isLastKnown: flag,
});

export const validateAnswer = shape({
  isValid: flag,
  faults: list(fault),
  draft: anything,
  document: anything,
  json: nullable(text),
  yaml: nullable(text),
  changes: list(change),
});

/** A draft: `text` in a `format`, or the `document` itself. */
export function draftFields(charactersMax: number): Readonly<Record<string, S>> {
  return {
    text: { type: "string", maxLength: charactersMax },
    format: { type: "string", enum: ["json", "yaml"] },
    document: { type: "object" },
  };
}

const serverDetails = shape({
  address: text,
  port: count,
  incarnation: nullable(text),
  activeRequests: nullable(amount),
  cacheBytes: nullable(amount),
  cacheObjects: nullable(amount),
});

const liveServer = shape(
  {
    serverId: text,
    state: text,
    requestsPerSecond: nullable(amount),
    hitRatio: nullable(amount),
    reportAgeMs: nullable(amount),
    details: serverDetails,
  },
  ["details"],
);

export const liveState = shape({
  atEpochMs: amount,
  control: text,
  world: nullable(text),
  mapVersion: nullable(count),
  totals: shape({
    requestsPerSecond: nullable(amount),
    hitRatio: nullable(amount),
    bytesPerSecond: nullable(amount),
    errorsPerSecond: nullable(amount),
    serversUp: count,
    serversWatched: count,
  }),
  sites: list(
    shape({
      clusterId: text,
      city: text,
      role: text,
      latitude: amount,
      longitude: amount,
      servers: list(liveServer),
    }),
  ),
  links: list(
    shape({
      fromClusterId: text,
      toClusterId: text,
      via: nullable(text),
      kind: text,
      srttMs: nullable(amount),
      directSrttMs: nullable(amount),
      lossRatio: nullable(amount),
      basis: text,
      isBusy: flag,
    }),
  ),
});

export const seriesAnswer = shape({
  propertyId: nullable(text),
  stepSeconds: amount,
  atEpochSeconds: list(amount),
  requestsPerSecond: list(nullable(amount)),
  hitRatio: list(nullable(amount)),
  bytesPerSecond: list(nullable(amount)),
  errorsPerSecond: list(nullable(amount)),
});
