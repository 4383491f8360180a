/**
 * A process that puts, deletes and uses objects without pause until it is killed. Each change is told on standard output
 * before it is made, and what has been confirmed is told after: `p KEY VARIANT VERSION`, `x KEY VARIANT` (it was not taken),
 * `d KEY`, `a COUNT` (so many changes of this process are on disk). Run as
 * `node writer.ts DIRECTORY BYTES_MAX SEED FIRST_VERSION KEYS BODY_BYTES_MAX`.
 */
import { writeSync } from "node:fs";
import { Random } from "#kit";
import { formOf, keyOf, objectOf, openStore } from "./content.ts";

/** Bytes of the next object, from 1 on, most of them small, as on the web. */
function bytesOf(random: Random, bodyBytesMax: number): number {
  const kind = random.float();
  const max = kind < 0.6 ? 2_048 : kind < 0.95 ? 65_536 : bodyBytesMax;
  return 1 + Math.floor(random.float() * Math.min(max, bodyBytesMax));
}

/** Bytes that may wait in the store before this process waits too. */
const PENDING_BYTES_MAX = 8 * 2 ** 20;

async function write(
  directory: string,
  bytesMax: number,
  seed: string,
  firstVersion: number,
  keys: number,
  bodyBytesMax: number,
): Promise<void> {
  const random = new Random(seed);
  const say = (line: string): void => void writeSync(1, `${line}\n`);
  const store = await openStore(directory, bytesMax);
  say("r");
  let changes = 0;
  let version = firstVersion;
  for (;;) {
    const burst = 1 + Math.floor(random.float() * 40);
    for (let number = 0; number < burst; number++) {
      const key = Math.floor(random.float() * keys);
      const kind = random.float();
      if (kind < 0.1) {
        say(`d ${key}`);
        store.delete(keyOf(key));
        changes++;
      } else if (kind < 0.2) void store.load(keyOf(key));
      else {
        const variant = random.float() < 0.9 ? 0 : 1 + Math.floor(random.float() * 3);
        say(`p ${key} ${variant} ${++version}`);
        const bytes = bytesOf(random, bodyBytesMax);
        const object = objectOf(key, variant, version, bytes);
        const reason = store.put(keyOf(key), object);
        changes++;
        // Some get another form afterwards: the same version either way.
        if (reason === undefined && version % 4 === 1) {
          object.body.setCoded("br", formOf(key, variant, version, bytes));
          store.supplement(keyOf(key), object);
        }
        if (reason === undefined) continue;
        // Room is still being made: the older form is gone too.
        if (reason !== "queue-full") throw new Error(`Version ${version} was not taken: ${reason}`);
        say(`x ${key} ${variant}`);
        changes++;
      }
    }
    const confirmed = changes;
    const flushed = store.flush().then((isWritten) => {
      if (!isWritten) throw new Error("The disk refused");
      say(`a ${confirmed}`);
      return undefined;
    });
    if (store.pendingBytes > PENDING_BYTES_MAX || random.float() < 0.1) await flushed;
    else await new Promise((resolve) => setImmediate(resolve));
  }
}

if (process.argv[1] === import.meta.filename) {
  const [directory = "", bytesMax, seed = "", firstVersion, keys, bodyBytesMax] = process.argv.slice(2);
  await write(directory, Number(bytesMax), seed, Number(firstVersion), Number(keys), Number(bodyBytesMax));
}
