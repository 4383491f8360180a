/**
 * Whether a ring does what it says, before the first client depends on it: a kernel may know the operations and a sandbox or a fault
 * still keep their ends from us. One pair of sockets goes through all that a connection does: receive, send, end of reading.
 */
import { Socket } from "node:net";
import type { RingReads } from "./ring-reads.ts";

/** How long all of it may take, ms: a start on a machine that is busy with others. */
const PROBE_MS = 5_000;
const QUESTION = Buffer.from("is the ring there?");
const ANSWER = Buffer.alloc(8_192, "it is. ");
/** What the kernel reads where it lies, behind a copied head. */
const PIECES = [Buffer.alloc(16_384, "all of it. "), Buffer.from("to the end.")];
const LONG_ANSWER = Buffer.concat([ANSWER.subarray(0, 500), ...PIECES]);

/** Rejects with an Error that says how far it came. */
export async function probe(
  ring: { take(handle: unknown): RingReads },
  socketPair: () => readonly [number, number],
): Promise<void> {
  const [nearDescriptor, farDescriptor] = socketPair();
  const near = new Socket({ fd: nearDescriptor, manualStart: true } as { fd: number });
  const far = new Socket({ fd: farDescriptor });
  const reads = ring.take((near as unknown as { readonly _handle: unknown })._handle);
  reads.attach(near);
  let step = "receives nothing";
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (error?: Error): void =>
        reject(new Error(`io_uring ${step}${error ? `: ${error.message}` : ""}`));
      timer = setTimeout(fail, PROBE_MS);
      let heard: Buffer[] = [];
      let bytes = 0;
      let asked = 0;
      near.on("error", fail);
      far.on("error", fail);
      reads.sink = (question) => {
        if (!question.equals(QUESTION)) fail();
        step = "sends nothing";
        const isSent = asked++ === 0 ? reads.send(ANSWER) : reads.sendPieces(ANSWER.subarray(0, 500), PIECES);
        if (!isSent) fail();
      };
      far.on("data", (piece: Buffer) => {
        heard.push(piece);
        bytes += piece.byteLength;
        const expected = asked === 1 ? ANSWER : LONG_ANSWER;
        if (bytes < expected.byteLength) return;
        step = "sends other bytes";
        if (!Buffer.concat(heard).equals(expected)) fail();
        if (asked === 1) {
          heard = [];
          bytes = 0;
          step = "receives no more";
          far.write(QUESTION);
          return;
        }
        step = "does not end a receive";
        reads.leave(() => resolve());
      });
      near.read(0);
      far.write(QUESTION);
    });
  } finally {
    clearTimeout(timer);
    near.destroy();
    far.destroy();
  }
}
