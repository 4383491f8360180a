/** What the portal asks of control: `ControlClient` fits {@link ControlPort} as it is, and a test can stand in for it. */
import {
  mapSnapshot,
  type MapSnapshot,
  propertyDocument,
  type PropertyDocument,
  type ServerReport,
  topologyDocument,
  type TopologyDocument,
} from "#kit";
import { type ControlClient, DocumentKeeper } from "#control";
import type { Logger } from "#kit/io";

export type ControlPort = Pick<
  ControlClient,
  "documents" | "document" | "rollouts" | "versions" | "put" | "editZone" | "activate" | "purge"
>;

export interface FeedHandlers {
  readonly onTopology: (topology: TopologyDocument) => void;
  readonly onMap: (map: MapSnapshot) => void;
  readonly onProperty: (property: PropertyDocument, version: number) => void;
  readonly onReport: (report: ServerReport) => void;
  readonly onConnection: (isConnected: boolean) => void;
}

/** The documents in force and the servers' reports, as they come. */
export interface ControlFeed {
  start(handlers: FeedHandlers): Promise<void>;
  close(): Promise<void>;
}

/** From control, with the last known good documents of `stateDirectory` until it answers. */
export function controlFeed(client: ControlClient, stateDirectory: string, logger: Logger): ControlFeed {
  const keeper = new DocumentKeeper({ client, stateDirectory, logger });
  let reports: { close(): void } | undefined;
  return {
    start: async (handlers) => {
      keeper.keep(
        "topology",
        (body) => topologyDocument.parse(body),
        (_id, topology) => handlers.onTopology(topology),
      );
      keeper.keep(
        "map",
        (body) => mapSnapshot.parse(body),
        (_id, map) => handlers.onMap(map),
      );
      keeper.keep(
        "property",
        (body) => propertyDocument.parse(body),
        (_id, property, version) => handlers.onProperty(property, version),
      );
      await keeper.start();
      reports = client.watch(
        ["report"],
        (event) => {
          if (event.type === "report") handlers.onReport(event.report);
        },
        { onState: (state) => handlers.onConnection(state === "connected") },
      );
    },
    close: async () => {
      reports?.close();
      await keeper.close();
    },
  };
}
