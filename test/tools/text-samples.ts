/** Text that compresses as a site's does: made here from a seed, so that figures can be repeated. */
import { Random } from "#kit";

const WORDS =
  "the edge cache answer request origin header field value stored fresh stale validate range content length client server path map time travel page script style image click state event listener element document window function return const await promise import export default children props render update effect memo context provider router".split(
    " ",
  );

/** About `bytes` of JavaScript: functions that differ and still look alike. Another `version` has another function in its middle. */
export function script(bytes: number, version = 1): Buffer {
  const random = new Random(7);
  const word = (): string => random.pick(WORDS);
  const parts: string[] = [];
  let length = 0;
  while (length < bytes) {
    const part = `export function ${word()}${random.int(10_000)}(${word()}, ${word()}) {\n  if (${word()}.${word()} === ${random.int(1_000)}) return ${word()}(${word()}.${word()}, "${word()}-${word()}");\n  // ${word()} ${word()} ${word()} ${word()}\n  return { ${word()}: ${random.int(100)}, ${word()}: "${word()}" };\n}\n`;
    parts.push(part);
    length += part.length;
  }
  const middle = Math.floor(parts.length / 2);
  parts[middle] = `export const version = ${version};\n${parts[middle]}`;
  return Buffer.from(parts.join(""));
}

/** About `bytes` of a page: markup around text. */
export function page(bytes: number): Buffer {
  const random = new Random(11);
  const word = (): string => random.pick(WORDS);
  let text = "<!doctype html>\n<html><head><title>Sample</title></head><body>\n";
  while (text.length < bytes)
    text += `<article class="card card-${random.int(9)}"><h2><a href="/${word()}/${word()}-${random.int(1_000)}">${word()} ${word()}</a></h2><p>${Array.from({ length: 30 }, word).join(" ")}.</p></article>\n`;
  return Buffer.from(`${text}</body></html>\n`);
}

/** About `bytes` of JSON: a list of records. */
export function json(bytes: number): Buffer {
  const random = new Random(13);
  const records: unknown[] = [];
  let length = 0;
  while (length < bytes) {
    const record = {
      id: random.int(1e9),
      name: random.pick(WORDS),
      price: random.int(10_000) / 100,
      tags: [random.pick(WORDS), random.pick(WORDS)],
      isActive: random.int(2) === 0,
    };
    records.push(record);
    length += JSON.stringify(record).length + 1;
  }
  return Buffer.from(JSON.stringify(records));
}
