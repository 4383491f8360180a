/** What is in force at a name server is told to all who serve from it, also while one of them takes over from another. */
import { expect, test } from "vitest";
import { DnsState } from "#mapping";
import { properties, topology } from "./fixture.ts";

test("a successor that gives up takes nothing from the one that goes on", () => {
  const state = new DnsState(() => true);
  const heard = { server: [] as string[], successor: [] as string[] };
  state.onChange(({ kind }) => void heard.server.push(kind));
  state.setTopology(topology, 1);
  const hearNoMore = state.onChange(({ kind }) => void heard.successor.push(kind));
  state.setProperty(properties[0]!, 1);
  hearNoMore();
  state.setProperty(properties[0]!, 2);
  expect(heard).toEqual({ server: ["topology", "property", "property"], successor: ["property"] });
});
