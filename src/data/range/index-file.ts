// The index of a range: for each row, in their order, what resolving needs to know of it. 32 bytes a row, little endian:
// 16 bytes id, 8 bytes group, u32 bytes of the row's line with its line end, u32 flags.

export const INDEX_BYTES = 32;
export const ID_BYTES = 16;
export const GROUP_AT = 16;
export const LINE_BYTES_AT = 24;
export const FLAGS_AT = 28;

/** A judged answer that is wanted; one that is not. */
export const FLAG_WANTED = 1;
export const FLAG_UNWANTED = 2;

export interface IndexEntry {
  /** 32 and 16 hex digits. */
  id: string;
  group: string;
  /** Of the row in its file, with its line end. */
  lineBytes: number;
  flags: number;
}

export function writeIndexEntry(target: Buffer, at: number, { id, group, lineBytes, flags }: IndexEntry): void {
  target.write(id + group, at, 'hex');
  target.writeUInt32LE(lineBytes, at + LINE_BYTES_AT);
  target.writeUInt32LE(flags, at + FLAGS_AT);
}

export function readIndexEntry(index: Buffer, row: number): IndexEntry {
  const at = row * INDEX_BYTES;
  return {
    id: index.toString('hex', at, at + GROUP_AT),
    group: index.toString('hex', at + GROUP_AT, at + LINE_BYTES_AT),
    lineBytes: index.readUInt32LE(at + LINE_BYTES_AT),
    flags: index.readUInt32LE(at + FLAGS_AT),
  };
}

/** 16 hex digits. */
export function readGroup(index: Buffer, row: number): string {
  const at = row * INDEX_BYTES;
  return index.toString('hex', at + GROUP_AT, at + LINE_BYTES_AT);
}
