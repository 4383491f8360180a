/** Names, records and zones as text and as octets: what documents hold and name servers answer from. */
export {
  compareCanonically,
  type DomainName,
  isAtOrBelow,
  labelBytesMax,
  labelsOf,
  nameBytesMax,
  type NameFault,
  nameFaults,
  nameFromLabels,
  nameFromText,
  nameToText,
  parentText,
  readName,
  rootName,
} from "./name.ts";
export { expandRdata } from "./rdata-expand.ts";
export { compareSerials } from "./serial.ts";
export { rdataText } from "./rdata-write.ts";
export { isSignatureType, recordTypes, typeFromText, typeText } from "./record-types.ts";
export { type RrSet, type ZoneData, zoneDataOf, type ZoneProblem } from "./zone-data.ts";
export { readZoneFile, recordText, type ZoneRecord } from "./zone-file.ts";
export { ZoneTextError } from "./zone-text.ts";
