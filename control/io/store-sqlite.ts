/**
 * The durable store: one SQLite file, write-ahead log, every commit synchronised (`synchronous=FULL`), one process at a time.
 * After kill -9 or a power cut it holds everything that was acknowledged, and no half of anything else.
 */
import { join } from "node:path";
import { DatabaseSync, type StatementSync, type SQLOutputValue } from "node:sqlite";
import {
  type CustomerId,
  IsochroneError,
  type PolicyDocument,
  type PropertyDocument,
  type PurgeRequest,
  type Steps,
} from "#kit";
import { makeDirectory } from "#kit/io";
import { DIFFERENCES_MAX, type KeptDifference } from "../core/difference-chain.ts";
import type { ZoneClaim } from "../core/claims.ts";
import {
  decideActivate,
  decideAppend,
  type DocumentHead,
  emptyHead,
  type LogBounds,
  pruneUpTo,
  type Retention,
  retentionDefaults,
} from "../core/document-log.ts";
import { leaseNames, type LeaseRecord } from "../core/lease.ts";
import { offeredTo, type Rollout, rollout as rolloutSchema } from "../core/rollout.ts";
import type { DocumentKind, DocumentSummary } from "../core/words.ts";
import { BodyParts, bodyPartsTables } from "./body-parts.ts";
import type {
  ActivateCommand,
  ActivateResult,
  AppendCommand,
  AppendResult,
  DocumentStore,
  StoredActivation,
  StoredDocument,
  StoredEvent,
  StoredPurge,
} from "./store.ts";

const FILE_NAME = "control.sqlite";
/** Goes up when the tables change; a file of another format is refused, not guessed at. */
const FORMAT = "1";
/** Of a file that has bodies in parts: a version before them would take those for empty. */
const FORMAT_WITH_PARTS = "2";

const TABLES = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, latest INTEGER NOT NULL, active INTEGER, active_seq INTEGER,
    PRIMARY KEY (kind, id)
  ) STRICT;
  CREATE INDEX documents_active_seq ON documents (active_seq);
  CREATE TABLE versions (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
    author TEXT NOT NULL, note TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id, version)
  ) STRICT;
  CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, id TEXT, version INTEGER, purge_seq INTEGER) STRICT;
  CREATE TABLE purges (
    purge_seq INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL UNIQUE, at INTEGER NOT NULL, request TEXT NOT NULL
  ) STRICT;
`;

/** Came later: made where they are missing; a version before them leaves them alone. */
const LATER = `
  CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY, term INTEGER NOT NULL, holder TEXT, duration_ms REAL NOT NULL, note TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS differences (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
    base TEXT NOT NULL, result TEXT NOT NULL, bytes INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id, version)
  ) STRICT;
  CREATE TABLE IF NOT EXISTS rollouts (
    kind TEXT NOT NULL, id TEXT NOT NULL, is_running INTEGER NOT NULL, offer_seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
  ) STRICT;
  CREATE TABLE IF NOT EXISTS audiences (seq INTEGER PRIMARY KEY, servers TEXT NOT NULL) STRICT;
`;

const SUMMARY = "v.kind, v.id, v.version, d.active, v.created_at, v.author, v.note";
const JOINED = "versions v JOIN documents d ON d.kind = v.kind AND d.id = v.id";

type Row = Record<string, SQLOutputValue>;

export class SqliteStore implements DocumentStore {
  readonly #database: DatabaseSync;
  readonly #retention: Retention;
  readonly #logId: string;
  readonly #statements = new Map<string, StatementSync>();
  readonly #parts: BodyParts;

  /**
   * Opens or makes the store in `stateDirectory` (made if missing).
   * @param newLogId names the log if a new one is made
   * @throws IsochroneError of source "configuration": the file is damaged, of another format, or another process has it
   */
  constructor(options: {
    readonly stateDirectory: string;
    readonly newLogId: string;
    readonly retention?: Partial<Retention>;
  }) {
    this.#retention = { ...retentionDefaults, ...options.retention };
    const path = join(options.stateDirectory, FILE_NAME);
    let database: DatabaseSync | undefined;
    try {
      makeDirectory(options.stateDirectory);
      database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
      // Exclusive: a second control on the same directory must fail at the start, not corrupt the log.
      database.exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
      database.exec("BEGIN IMMEDIATE; COMMIT;");
      this.#database = database;
      this.#logId = this.#prepareTables(options.newLogId);
      this.#parts = new BodyParts(database);
    } catch (cause) {
      database?.close();
      throw openError(path, cause);
    }
  }

  keepInSteps(bodyText: string): Steps<number | undefined> {
    return this.#parts.keepInSteps(bodyText);
  }

  append(command: AppendCommand): AppendResult {
    const { kind, id, bodyText, upload, author, note, atEpochMs } = command;
    return this.#transaction(() => {
      const decision = decideAppend(this.#head(kind, id), command.expectedVersion, command.activates);
      if (decision.outcome === "conflict") return decision;
      const { version } = decision;
      this.#run(
        "INSERT INTO documents (kind, id, latest) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET latest = excluded.latest",
        kind,
        id,
        version,
      );
      this.#run(
        "INSERT INTO versions (kind, id, version, created_at, author, note, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        kind,
        id,
        version,
        atEpochMs,
        author,
        note,
        upload === undefined ? bodyText : "",
      );
      if (upload !== undefined) {
        this.#parts.claim(upload, kind, id, version);
        this.#run("UPDATE meta SET value = ? WHERE key = 'format'", FORMAT_WITH_PARTS);
      }
      this.#keepDifference(kind, id, version, command.difference);
      const event = decision.activates ? this.#activate(kind, id, version, bodyText) : undefined;
      const last = pruneUpTo(kind, version, this.#retention);
      if (last > 0) {
        this.#run(
          "DELETE FROM versions WHERE kind = ?1 AND id = ?2 AND version <= ?3 AND version IS NOT (SELECT active FROM documents WHERE kind = ?1 AND id = ?2)",
          kind,
          id,
          last,
        );
      }
      return { outcome: "appended", summary: this.#summary(kind, id, version), event };
    });
  }

  #keepDifference(
    kind: DocumentKind,
    id: string,
    version: number,
    difference: AppendCommand["difference"],
  ): void {
    // A control of before this table may have put another version under the same number meanwhile.
    this.#run(
      "DELETE FROM differences WHERE kind = ? AND id = ? AND (version <= ? OR version >= ?)",
      kind,
      id,
      version - DIFFERENCES_MAX,
      version,
    );
    if (difference === undefined) return;
    const { base, result, text } = difference;
    this.#run(
      "INSERT INTO differences (kind, id, version, base, result, bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
      kind,
      id,
      version,
      base,
      result,
      Buffer.byteLength(text),
      text,
    );
  }

  activate(command: ActivateCommand): ActivateResult {
    const { kind, id, version, rollout } = command;
    return this.#transaction(() => {
      const head = this.#head(kind, id);
      if (head.latestVersion === 0) return { outcome: "unknown-version" };
      const stored = this.document(kind, id, version);
      const decision = decideActivate(head, version, stored !== undefined, command.expectedActiveVersion);
      if (stored === undefined || decision.outcome === "unknown-version" || decision.outcome === "conflict")
        return decision.outcome === "conflict" ? decision : { outcome: "unknown-version" };
      if (decision.outcome === "unchanged" && command.isToldAgain !== true)
        return { outcome: "unchanged", summary: stored.summary };
      const event = this.#activate(kind, id, version, stored.bodyText);
      if (rollout !== undefined) this.#keepRollout(rollout, undefined);
      return { outcome: "activated", summary: this.#summary(kind, id, version), event };
    });
  }

  saveRollout(rollout: Rollout): void {
    this.#transaction(() => this.#keepRollout(rollout, undefined));
  }

  offer(rollout: Rollout): StoredActivation {
    const { kind, id, version } = rollout;
    return this.#transaction(() => {
      const seq = this.#appendLog(kind, id, version, null);
      const audience = offeredTo(rollout);
      this.#run("INSERT INTO audiences (seq, servers) VALUES (?, ?)", seq, JSON.stringify([...audience]));
      this.#run("DELETE FROM audiences WHERE seq <= ?", seq - this.#retention.eventsMax);
      this.#keepRollout(rollout, seq);
      const bodyText = this.document(kind, id, version)?.bodyText ?? "null";
      return { type: "document", seq, kind, id, version, bodyText, audience };
    });
  }

  rollouts(id?: string): readonly Rollout[] {
    return this.#all(
      "SELECT body FROM rollouts WHERE ?1 IS NULL OR id = ?1 ORDER BY kind, id",
      id ?? null,
    ).map(({ body }) => rolloutSchema.parse(JSON.parse(String(body))));
  }

  /** @param offerSeq undefined: the place of its offer stays */
  #keepRollout(rollout: Rollout, offerSeq: number | undefined): void {
    const { kind, id, state } = rollout;
    this.#run(
      `INSERT INTO rollouts (kind, id, is_running, offer_seq, body) VALUES (?1, ?2, ?3, coalesce(?4, 0), ?5)
       ON CONFLICT DO UPDATE SET is_running = ?3, offer_seq = coalesce(?4, offer_seq), body = ?5`,
      kind,
      id,
      state === "running" ? 1 : 0,
      offerSeq ?? null,
      JSON.stringify(rollout),
    );
  }

  appendPurge(request: PurgeRequest, atEpochMs: number): StoredPurge {
    return this.#transaction(() => {
      // The place and the number name each other, so the number is taken before its row exists.
      const purgeSeq = this.newestPurgeSeq() + 1;
      const seq = this.#appendLog(null, null, null, purgeSeq);
      this.#run(
        "INSERT INTO purges (purge_seq, seq, at, request) VALUES (?, ?, ?, ?)",
        purgeSeq,
        seq,
        atEpochMs,
        JSON.stringify(request),
      );
      this.#run("DELETE FROM purges WHERE purge_seq <= ?", purgeSeq - this.#retention.purgesMax);
      return { type: "purge", seq, purge: { purgeSeq, atEpochMs, request } };
    });
  }

  saveLease({ name, term, holderId, durationMs, note }: LeaseRecord): void {
    this.#transaction(() =>
      this.#run(
        "INSERT OR REPLACE INTO leases (name, term, holder, duration_ms, note) VALUES (?, ?, ?, ?, ?)",
        name,
        term,
        holderId,
        durationMs,
        note,
      ),
    );
  }

  leases(): readonly LeaseRecord[] {
    return this.#all("SELECT name, term, holder, duration_ms, note FROM leases ORDER BY name").flatMap(
      (row) => {
        const name = leaseNames.find((one) => one === row["name"]);
        if (name === undefined) return [];
        const holder = row["holder"];
        return {
          name,
          term: Number(row["term"]),
          holderId: holder === null ? null : String(holder),
          durationMs: Number(row["duration_ms"]),
          note: String(row["note"]),
        };
      },
    );
  }

  document(kind: DocumentKind, id: string, version?: number): StoredDocument | undefined {
    const which = version === undefined ? "d.active" : "?3";
    const row = this.#one(
      `SELECT ${SUMMARY}, v.body FROM ${JOINED} WHERE v.kind = ?1 AND v.id = ?2 AND v.version = ${which}`,
      kind,
      id,
      ...(version === undefined ? [] : [version]),
    );
    if (row === undefined) return undefined;
    const summary = summaryOf(row);
    return { summary, bodyText: this.#bodyText(kind, id, summary.version, row) };
  }

  versions(kind: DocumentKind, id: string): readonly DocumentSummary[] {
    return this.#all(
      `SELECT ${SUMMARY} FROM ${JOINED} WHERE v.kind = ? AND v.id = ? ORDER BY v.version`,
      kind,
      id,
    ).map(summaryOf);
  }

  differences(kind: DocumentKind, id: string): readonly KeptDifference[] {
    return this.#all(
      "SELECT version, base, result, bytes FROM differences WHERE kind = ? AND id = ? ORDER BY version",
      kind,
      id,
    ).map((row) => ({
      version: Number(row["version"]),
      base: String(row["base"]),
      result: String(row["result"]),
      bytes: Number(row["bytes"]),
    }));
  }

  differenceText(kind: DocumentKind, id: string, version: number): string | undefined {
    const row = this.#one(
      "SELECT body FROM differences WHERE kind = ? AND id = ? AND version = ?",
      kind,
      id,
      version,
    );
    return row && String(row["body"]);
  }

  documents(kind: DocumentKind): readonly DocumentSummary[] {
    return this.#all(
      `SELECT ${SUMMARY} FROM ${JOINED} WHERE v.kind = ? AND v.version = d.latest ORDER BY v.id`,
      kind,
    ).map(summaryOf);
  }

  documentCount(kind: DocumentKind): number {
    return Number(this.#one("SELECT count(*) AS n FROM documents WHERE kind = ?", kind)?.["n"]);
  }

  activeProperties(): readonly PropertyDocument[] {
    return this.#active("property");
  }

  activePolicies(): readonly PolicyDocument[] {
    return this.#active("policy");
  }

  activeZones(): readonly ZoneClaim[] {
    return this.#all(
      `SELECT v.id, v.body ->> '$.customerId' AS customerId, v.body ->> '$.origin' AS origin, v.body ->> '$.isActive' AS isActive
       FROM ${JOINED} WHERE v.kind = 'zone' AND v.version = d.active ORDER BY v.id`,
    ).map(({ id, customerId, origin, isActive }) => ({
      zoneId: String(id) as ZoneClaim["zoneId"],
      customerId: String(customerId) as CustomerId,
      origin: String(origin),
      isActive: isActive === 1,
    }));
  }

  #active<T>(kind: DocumentKind): readonly T[] {
    return this.#all(
      `SELECT v.body FROM ${JOINED} WHERE v.kind = ? AND v.version = d.active ORDER BY v.id`,
      kind,
    ).map((row) => JSON.parse(String(row["body"])) as T);
  }

  bounds(): LogBounds {
    const newestSeq = this.#newestOf("log");
    const oldest = this.#one("SELECT min(seq) AS n FROM log")?.["n"];
    return { logId: this.#logId, oldestSeq: typeof oldest === "number" ? oldest : newestSeq + 1, newestSeq };
  }

  events(afterSeq: number, upToSeq: number, limit: number): readonly StoredEvent[] {
    const found: StoredEvent[] = [];
    let after = afterSeq;
    while (found.length < limit) {
      const rows = this.#all(
        "SELECT seq FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 100",
        after,
        upToSeq,
      );
      for (const row of rows) {
        after = Number(row["seq"]);
        const event = this.event(after);
        if (event !== undefined && found.length < limit) found.push(event);
      }
      if (rows.length < 100) break;
    }
    return found;
  }

  snapshotSeqs(): { readonly documents: readonly number[]; readonly purges: readonly number[] } {
    const seqs = (sql: string) => this.#all(sql).map((row) => Number(row["seq"]));
    return {
      documents: seqs(
        `SELECT active_seq AS seq FROM documents WHERE active IS NOT NULL
         UNION SELECT l.seq FROM rollouts r JOIN log l ON l.seq = r.offer_seq WHERE r.is_running = 1 ORDER BY seq`,
      ),
      purges: seqs("SELECT seq FROM purges ORDER BY purge_seq"),
    };
  }

  event(seq: number): StoredEvent | undefined {
    const purge = this.#one("SELECT purge_seq, at, request FROM purges WHERE seq = ?", seq);
    if (purge !== undefined) {
      const request = JSON.parse(String(purge["request"])) as PurgeRequest;
      return {
        type: "purge",
        seq,
        purge: { purgeSeq: Number(purge["purge_seq"]), atEpochMs: Number(purge["at"]), request },
      };
    }
    const row =
      this.#one(
        "SELECT v.kind, v.id, v.version, v.body FROM log l JOIN versions v ON v.kind = l.kind AND v.id = l.id AND v.version = l.version WHERE l.seq = ?",
        seq,
      ) ??
      // An activation in force outlives its row in the log.
      this.#one(
        `SELECT v.kind, v.id, v.version, v.body FROM ${JOINED} WHERE d.active_seq = ? AND v.version = d.active`,
        seq,
      );
    if (row === undefined) return undefined;
    const kind = row["kind"] as DocumentKind;
    const id = String(row["id"]);
    const version = Number(row["version"]);
    return {
      type: "document",
      seq,
      kind,
      id,
      version,
      bodyText: this.#bodyText(kind, id, version, row),
      ...this.#audience(seq),
    };
  }

  #audience(seq: number): Pick<StoredActivation, "audience"> {
    const row = this.#one("SELECT servers FROM audiences WHERE seq = ?", seq);
    return row === undefined
      ? {}
      : { audience: new Set(JSON.parse(String(row["servers"])) as readonly string[]) };
  }

  /** No body is empty: it stands in parts then. */
  #bodyText(kind: DocumentKind, id: string, version: number, { body }: Row): string {
    return body === "" ? this.#parts.text(kind, id, version) : String(body);
  }

  oldestPurgeSeq(): number | null {
    const oldest = this.#one("SELECT min(purge_seq) AS n FROM purges")?.["n"];
    return typeof oldest === "number" ? oldest : null;
  }

  newestPurgeSeq(): number {
    return this.#newestOf("purges");
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #head(kind: DocumentKind, id: string): DocumentHead {
    const row = this.#one("SELECT latest, active FROM documents WHERE kind = ? AND id = ?", kind, id);
    if (row === undefined) return emptyHead;
    const active = row["active"];
    return { latestVersion: Number(row["latest"]), activeVersion: active === null ? null : Number(active) };
  }

  #activate(kind: DocumentKind, id: string, version: number, bodyText: string): StoredActivation {
    const seq = this.#appendLog(kind, id, version, null);
    this.#run(
      "UPDATE documents SET active = ?, active_seq = ? WHERE kind = ? AND id = ?",
      version,
      seq,
      kind,
      id,
    );
    return { type: "document", seq, kind, id, version, bodyText };
  }

  #appendLog(
    kind: DocumentKind | null,
    id: string | null,
    version: number | null,
    purgeSeq: number | null,
  ): number {
    const { lastInsertRowid } = this.#statement(
      "INSERT INTO log (kind, id, version, purge_seq) VALUES (?, ?, ?, ?)",
    ).run(kind, id, version, purgeSeq);
    const seq = Number(lastInsertRowid);
    this.#run("DELETE FROM log WHERE seq <= ?", seq - this.#retention.eventsMax);
    return seq;
  }

  #summary(kind: DocumentKind, id: string, version: number): DocumentSummary {
    const row = this.#one(
      `SELECT ${SUMMARY} FROM ${JOINED} WHERE v.kind = ? AND v.id = ? AND v.version = ?`,
      kind,
      id,
      version,
    );
    if (row === undefined) throw new RangeError(`${kind}/${id} has no version ${version}`);
    return summaryOf(row);
  }

  /** AUTOINCREMENT's own memory: it outlives the deletion of the rows. */
  #newestOf(table: "log" | "purges"): number {
    return Number(this.#one("SELECT seq FROM sqlite_sequence WHERE name = ?", table)?.["seq"] ?? 0);
  }

  #prepareTables(newLogId: string): string {
    const isNew = this.#one("SELECT name FROM sqlite_master WHERE name = 'meta'") === undefined;
    if (isNew) {
      this.#transaction(() => {
        this.#database.exec(TABLES);
        this.#run("INSERT INTO meta (key, value) VALUES ('format', ?), ('log_id', ?)", FORMAT, newLogId);
      });
    }
    const meta = (key: string) => this.#one("SELECT value FROM meta WHERE key = ?", key)?.["value"];
    const format = meta("format");
    if (format !== FORMAT && format !== FORMAT_WITH_PARTS)
      throw new Error(
        `it has format ${String(format)}, this version reads ${FORMAT} and ${FORMAT_WITH_PARTS}`,
      );
    this.#transaction(() => this.#database.exec(LATER + bodyPartsTables));
    return String(meta("log_id"));
  }

  #transaction<T>(work: () => T): T {
    this.#database.exec("BEGIN IMMEDIATE");
    let result: T;
    try {
      result = work();
      this.#database.exec("COMMIT");
    } catch (error) {
      // A failed COMMIT may leave the transaction open (disk full); the change must then not be seen.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
    return result;
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, ...values: (string | number | null)[]): void {
    this.#statement(sql).run(...values);
  }

  #one(sql: string, ...values: (string | number | null)[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  #all(sql: string, ...values: (string | number | null)[]): Row[] {
    return this.#statement(sql).all(...values);
  }
}

function summaryOf(row: Row): DocumentSummary {
  const active = row["active"];
  return {
    kind: row["kind"] as DocumentKind,
    id: String(row["id"]),
    version: Number(row["version"]),
    activeVersion: active === null ? null : Number(active),
    createdAtEpochMs: Number(row["created_at"]),
    author: String(row["author"]),
    note: String(row["note"]),
  };
}

function openError(path: string, cause: unknown): IsochroneError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const advice = /locked|busy/i.test(why)
    ? "another control process uses this state directory; stop it or give another --state"
    : /malformed|not a database|format/i.test(why)
      ? "put back a copy of the file, or move it away to begin with an empty log"
      : "check that the directory can be written";
  return new IsochroneError(`Cannot open control's store ${JSON.stringify(path)}: ${why}; ${advice}`, {
    code: "store-unusable",
    source: "configuration",
    retry: "never",
    cause,
  });
}
