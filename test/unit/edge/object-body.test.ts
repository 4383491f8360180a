/** Contents of one piece: who reads them gets all of them, whether at once or as any content, and what is kept holds no larger buffer. */
import { expect, test } from "vitest";
import { ObjectBody } from "#edge";

async function textOf(content: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

/** A slice of a buffer that is much larger. */
function slice(text: string): Buffer {
  const large = Buffer.alloc(8_192);
  large.write(text, 100);
  return large.subarray(100, 100 + text.length);
}

test("whole, in part and by many at once, of one piece and of two", async () => {
  for (const chunks of [["content"], ["con", "tent"]]) {
    const body = ObjectBody.of(chunks.map((chunk) => Buffer.from(chunk)));
    expect(await Promise.all([textOf(body.read()), textOf(body.read())])).toEqual(["content", "content"]);
    expect(await textOf(body.read(2, 4))).toBe("nte");
    expect(await textOf(body.read(0, 6))).toBe("content");
    expect(await textOf(body.read(1))).toBe("ontent");
    expect(body.readers).toBe(0);
  }
});

test("who leaves before reading gets nothing more", async () => {
  const content = ObjectBody.of([Buffer.from("content")]).read();
  await content.return?.();
  expect(await content.next()).toEqual({ done: true, value: undefined });
});

test("what is compacted holds its own bytes alone, also for whoever began to read before", async () => {
  const body = new ObjectBody(true);
  const reading = body.read();
  body.append(slice("content"));
  const later = body.read();
  expect(String((await reading.next()).value)).toBe("content");
  body.finish();
  expect(body.memoryBytes).toBeGreaterThan(8_192);
  const compact = body.compact();
  expect(compact.chunks.map(({ buffer }) => buffer.byteLength)).toEqual([7]);
  expect(await textOf(later)).toBe("content");
  expect(await reading.next()).toEqual({ done: true, value: undefined });
  expect(await textOf(compact.read())).toBe("content");
});
