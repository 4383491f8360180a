/** The portal: what a customer may see and change, as an API and a page. Other rooms start it; none asks it anything. */
export { type PortalSettings, settings } from "./config.ts";
export { parseAccounts, type StatedAccount } from "./core/accounts.ts";
export type { ControlFeed, ControlPort, FeedHandlers } from "./io/control-port.ts";
export {
  type DraftFormat,
  type DraftText,
  faultOf,
  type Place,
  readDraft,
  writeDraft,
} from "./io/draft-text.ts";
export { createPortal, type Portal, type PortalOptions } from "./io/server.ts";
export { webBuild, type WebBuildOptions } from "./io/web-build.ts";
