/** Domain names stand in the kit, where documents need them too; this is the way to them within this folder. */
export {
  type DomainName,
  labelBytesMax,
  nameBytesMax,
  type NameFault,
  nameFaults,
  nameFromText,
  parentText,
  readName,
  rootName,
} from "#kit";
