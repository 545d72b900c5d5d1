// Memory that a piece of bytes has for itself, which can be given away or given back.

/** False = others may use the memory that the bytes lie in, too. */
export function isOwn(bytes: Uint8Array): boolean {
  return bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer;
}

/** Gives own memory back at once, not when garbage is collected next: parts are large, and come faster than that. */
export function free(bytes: Uint8Array): void {
  if (!isOwn(bytes)) return;
  // In ECMAScript since 2024.
  (bytes.buffer as unknown as { transfer(sizeBytes: number): ArrayBuffer }).transfer(0);
}
