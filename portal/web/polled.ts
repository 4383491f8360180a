/** An answer of the API that is asked for again and again while a page shows it. */
import { useEffect, useState } from "preact/hooks";
import { messageOf, read } from "./api.ts";

/** The newest answer, which stays when a later question fails; and what is wrong with the last question, empty if nothing. */
export interface Polled<T> {
  readonly answer: T | undefined;
  readonly fault: string;
}

/** @param path below the API; another one is asked at once, and then every `refreshMs` */
export function usePolled<T>(path: string, refreshMs: number): Polled<T> {
  const [answer, setAnswer] = useState<T | undefined>(undefined);
  const [fault, setFault] = useState("");
  useEffect(() => {
    let isGone = false;
    const load = (): void => {
      read<T>(path).then(
        (newest) => {
          if (isGone) return;
          setAnswer(newest);
          setFault("");
        },
        (error: unknown) => {
          if (!isGone) setFault(messageOf(error));
        },
      );
    };
    load();
    const timer = setInterval(load, refreshMs);
    return () => {
      isGone = true;
      clearInterval(timer);
    };
  }, [path, refreshMs]);
  return { answer, fault };
}
