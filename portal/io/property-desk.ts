/** What an account does with properties, between the routes and control: ownership first, then control, errors in the user's words. */
import { ParseError, type PropertyDocument, propertyDocument } from "#kit";
import { ControlError, diffDocuments, type DocumentRecord, type DocumentSummary } from "#control";
import { changesOf } from "../core/changes.ts";
import { DEPTH_MAX, isShallow } from "../core/json-places.ts";
import { hostnameFault, maySee, ownershipFault } from "../core/tenancy.ts";
import type {
  Change,
  DraftFault,
  PropertyDetail,
  PropertySummary,
  ValidateAnswer,
  VersionSummary,
  Viewer,
} from "../core/wire.ts";
import type { PortalContext } from "./context.ts";
import { type DraftFormat, faultOf, readDraft, writeDraft } from "./draft-text.ts";
import { Fault, noSuchProperty } from "./fault.ts";

export interface Draft {
  readonly text?: string;
  readonly format?: DraftFormat;
  readonly document?: unknown;
}

type Desk = Pick<PortalContext, "control" | "hub" | "logger">;

/** Bodies that are fetched one by one for the list: only those of properties that were never activated. */
const NEVER_ACTIVE_MAX = 200;
/** Stored versions that are asked for host names which the one in force has not. */
const GRANTING_VERSIONS_MAX = 10;

function controlAway(): Fault {
  return new Fault(
    503,
    "control-unreachable",
    "Control cannot be reached: nothing was changed, and servers go on with what they have. Try again shortly",
    { retryAfterSeconds: 2 },
  );
}

/** A control error in the words of the page; others pass. Control's own message names its address, which is not for customers. */
export function faultOfControl(desk: Pick<Desk, "logger">, error: unknown): never {
  if (!(error instanceof ControlError)) throw error;
  desk.logger.warn("control-refused", { code: error.code, error });
  switch (error.code) {
    case "conflict": {
      const present = error.presentVersion ?? 0;
      throw new Fault(
        409,
        "version-conflict",
        `Somebody else saved or activated in the meantime: version ${present} is there now; look at it, then try again`,
        { presentVersion: present },
      );
    }
    case "refused":
      throw new Fault(
        422,
        "refused",
        `Control refused it: ${error.path ?? "(document)"}: got ${error.value ?? "nothing"}, expected ${error.expected ?? "something else"}`,
        {
          faults: [
            {
              path: error.path ?? "(document)",
              value: error.value ?? "nothing",
              expected: error.expected ?? error.message,
              line: null,
              column: null,
            },
          ],
        },
      );
    case "not-found":
      throw new Fault(404, "not-found", "There is no such version; reload the list of versions");
    default:
      throw controlAway();
  }
}

export class PropertyDesk {
  readonly #desk: Desk;
  constructor(desk: Desk) {
    this.#desk = desk;
  }

  /** The newest picture that control has, else what is known to be in force. */
  async list(viewer: Viewer): Promise<readonly PropertySummary[]> {
    const { control, hub, logger } = this.#desk;
    const newest = await control.documents("property").catch((error: unknown) => {
      logger.warn("control-refused", { error });
      return undefined;
    });
    const rates = hub.rates();
    const rows: PropertySummary[] = [];
    const add = (document: PropertyDocument, activeVersion: number | null, latestVersion: number): void => {
      if (!maySee(viewer, document.customerId)) return;
      const { propertyId, customerId, hostnames, trafficClass, isActive } = document;
      const rate = rates.get(propertyId) ?? { requestsPerSecond: 0, hitRatio: null };
      const rollout = hub.rollout(propertyId, activeVersion);
      rows.push({
        propertyId,
        customerId,
        hostnames,
        trafficClass,
        isActive,
        activeVersion,
        latestVersion,
        rollout,
        ...rate,
      });
    };
    const listed = new Set<string>();
    let fetched = 0;
    for (const summary of newest ?? []) {
      listed.add(summary.id);
      const inForce = hub.fleet.property(summary.id);
      if (inForce !== undefined) {
        add(inForce, summary.activeVersion, summary.version);
      } else if (fetched < NEVER_ACTIVE_MAX) {
        fetched += 1;
        const record = await control.document("property", summary.id, summary.version).catch(() => undefined);
        if (record !== undefined)
          add(propertyDocument.parse(record.body), summary.activeVersion, summary.version);
      }
    }
    for (const document of hub.fleet.properties()) {
      if (listed.has(document.propertyId)) continue;
      const version = hub.versionInForce(document.propertyId);
      add(document, version, version ?? 0);
    }
    return rows.sort((a, b) => (a.propertyId < b.propertyId ? -1 : 1));
  }

  /** One version, by default the newest. */
  async show(viewer: Viewer, propertyId: string, version?: number): Promise<PropertyDetail> {
    const owned = await this.owned(viewer, propertyId);
    const versions = await this.#versions(propertyId).catch((error: unknown) => {
      if (error instanceof Fault && error.code === "control-unreachable") return undefined;
      throw error;
    });
    const inForce = this.#desk.hub.versionInForce(propertyId);
    if (versions === undefined && inForce !== null && (version ?? inForce) === inForce)
      return this.#lastKnown(owned, inForce);
    if (versions === undefined) throw controlAway();
    const latest = versions.at(-1);
    if (latest === undefined) throw noSuchProperty(propertyId);
    const record = await this.#record(viewer, propertyId, version ?? latest.version);
    return {
      propertyId,
      version: record.version,
      activeVersion: latest.activeVersion,
      latestVersion: latest.version,
      rollout: this.#desk.hub.rollout(propertyId, latest.activeVersion),
      document: record.body,
      json: writeDraft(record.body, "json"),
      yaml: writeDraft(record.body, "yaml"),
      isLastKnown: false,
    };
  }

  /** Without control: the version in force, as it was last heard of. */
  #lastKnown(document: PropertyDocument, version: number): PropertyDetail {
    const body = plain(document);
    return {
      propertyId: document.propertyId,
      version,
      activeVersion: version,
      latestVersion: version,
      rollout: this.#desk.hub.rollout(document.propertyId, version),
      document: body,
      json: writeDraft(body, "json"),
      yaml: writeDraft(body, "yaml"),
      isLastKnown: true,
    };
  }

  /** Newest first. */
  async versions(viewer: Viewer, propertyId: string): Promise<readonly VersionSummary[]> {
    await this.owned(viewer, propertyId);
    return (await this.#versions(propertyId)).map(summaryOf).reverse();
  }

  async validate(viewer: Viewer, propertyId: string, draft: Draft): Promise<ValidateAnswer> {
    const owner = await this.owned(viewer, propertyId);
    const { value, document, faults } = await this.#read(viewer, draft, owner);
    const inForce = this.#desk.hub.fleet.property(propertyId);
    return {
      isValid: document !== undefined,
      faults,
      draft: value ?? null,
      document: document ?? null,
      json: value === undefined ? null : writeDraft(value, "json"),
      yaml: value === undefined ? null : writeDraft(value, "yaml"),
      changes: document === undefined ? [] : changesOf(diffDocuments(plain(inForce ?? {}), plain(document))),
    };
  }

  /** Appends a version. Throws {@link Fault} 422 with what is wrong, 409 when it was not the newest that was edited. */
  async save(
    viewer: Viewer,
    propertyId: string,
    draft: Draft,
    options: { readonly expectedVersion: number; readonly note: string; readonly activate: boolean },
  ): Promise<VersionSummary> {
    const owner = await this.owned(viewer, propertyId);
    const { document, faults } = await this.#read(viewer, draft, owner);
    if (document === undefined) {
      const [first] = faults;
      const where =
        first === undefined ? "" : `${first.path}: got ${first.value}, expected ${first.expected}`;
      throw new Fault(422, "invalid-document", `The document was not saved: ${where}`, { faults });
    }
    const { expectedVersion, note, activate } = options;
    const { control, logger } = this.#desk;
    const saved = await control
      .put("property", propertyId, document, { expectedVersion, note, author: viewer.name, activate })
      .catch((error: unknown) => faultOfControl(this.#desk, error));
    logger.info("property-saved", { account: viewer.name, propertyId, version: saved.version, activate });
    return summaryOf(saved);
  }

  async diff(viewer: Viewer, propertyId: string, from: number, to: number): Promise<readonly Change[]> {
    await this.owned(viewer, propertyId);
    const [before, after] = await Promise.all([
      this.#record(viewer, propertyId, from),
      this.#record(viewer, propertyId, to),
    ]);
    return changesOf(diffDocuments(before.body, after.body));
  }

  /** Forward or back. */
  async activate(
    viewer: Viewer,
    propertyId: string,
    version: number,
    expectedActiveVersion: number | null,
  ): Promise<VersionSummary> {
    await this.owned(viewer, propertyId);
    // A version of a time when the property was somebody else's is none of this account's.
    await this.#record(viewer, propertyId, version);
    const { control, logger } = this.#desk;
    const activated = await control
      .activate("property", propertyId, { version, expectedActiveVersion })
      .catch((error: unknown) => faultOfControl(this.#desk, error));
    logger.info("property-activated", { account: viewer.name, propertyId, version });
    return summaryOf(activated);
  }

  /** The document that says whose the property is: the one in force, else the newest. Throws {@link Fault} 404. */
  async owned(viewer: Viewer, propertyId: string): Promise<PropertyDocument> {
    const inForce = this.#desk.hub.fleet.property(propertyId);
    const document = inForce ?? (await this.#newest(propertyId));
    if (document === undefined || !maySee(viewer, document.customerId)) throw noSuchProperty(propertyId);
    return document;
  }

  async #newest(propertyId: string): Promise<PropertyDocument | undefined> {
    const newest = (await this.#versions(propertyId)).at(-1);
    if (newest === undefined) return undefined;
    const record = await this.#desk.control
      .document("property", propertyId, newest.version)
      .catch((error: unknown) => faultOfControl(this.#desk, error));
    return record === undefined ? undefined : propertyDocument.parse(record.body);
  }

  async #versions(propertyId: string): Promise<readonly DocumentSummary[]> {
    return this.#desk.control
      .versions("property", propertyId)
      .catch((error: unknown) => faultOfControl(this.#desk, error));
  }

  async #record(viewer: Viewer, propertyId: string, version: number): Promise<DocumentRecord> {
    const record = await this.#desk.control
      .document("property", propertyId, version)
      .catch((error: unknown) => faultOfControl(this.#desk, error));
    if (record === undefined || !maySee(viewer, propertyDocument.parse(record.body).customerId)) {
      throw new Fault(404, "not-found", `Property ${JSON.stringify(propertyId)} has no version ${version}`);
    }
    return record;
  }

  /**
   * Host names that are the property's: of the version in force, and of the newest stored ones, which operators may have
   * added and not yet put in force. By this rule no stored version holds one that a customer added by itself.
   */
  async #granted(owner: PropertyDocument, document: PropertyDocument): Promise<ReadonlySet<string>> {
    const granted = new Set<string>(owner.hostnames);
    if (document.hostnames.every((name) => granted.has(name))) return granted;
    const { control } = this.#desk;
    // Without control nothing can be saved anyway; the verdict is then by the version in force.
    const stored = await control.versions("property", owner.propertyId).catch(() => []);
    for (const { version } of stored.slice(-GRANTING_VERSIONS_MAX)) {
      const record = await control.document("property", owner.propertyId, version).catch(() => undefined);
      if (record === undefined) continue;
      const held = propertyDocument.parse(record.body);
      if (held.customerId === owner.customerId) for (const name of held.hostnames) granted.add(name);
    }
    return granted;
  }

  async #read(
    viewer: Viewer,
    draft: Draft,
    owner: PropertyDocument,
  ): Promise<{
    readonly value: unknown;
    readonly document: PropertyDocument | undefined;
    readonly faults: readonly DraftFault[];
  }> {
    const read =
      draft.text === undefined
        ? { value: draft.document, fault: null, locate: null }
        : readDraft(draft.text, draft.format ?? "json");
    if (read.fault !== null) return { value: undefined, document: undefined, faults: [read.fault] };
    if (!isShallow(read.value)) {
      const fault = new ParseError(["document"], "(too deep)", `no more than ${DEPTH_MAX} levels`);
      return { value: undefined, document: undefined, faults: [faultOf(fault, null)] };
    }
    try {
      const document = propertyDocument.parse(read.value);
      const wrong =
        ownershipFault(document, owner.propertyId, owner.customerId) ??
        hostnameFault(viewer, document, await this.#granted(owner, document));
      if (wrong !== undefined) throw new ParseError(wrong.path, wrong.value, wrong.expected);
      return { value: read.value, document, faults: [] };
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      return { value: read.value, document: undefined, faults: [faultOf(error, read.locate)] };
    }
  }
}

function summaryOf(summary: DocumentSummary): VersionSummary {
  const { version, activeVersion, createdAtEpochMs, author, note } = summary;
  return { version, isActive: version === activeVersion, createdAtEpochMs, author, note };
}

/** Parsed records have no prototype; a diff compares plain JSON. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
