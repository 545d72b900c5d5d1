// A failure of the set-up that a person can mend: one sentence with the remedy, and the end of the tool's output where there is one.

export class SetUpError extends Error {
  /** @param {string[]} tail last lines of the tool that failed. */
  constructor(message, tail = []) {
    super(tail.length === 0 ? message : `${tail.map((line) => `  ${line}`).join('\n')}\n${message}`);
    this.name = 'SetUpError';
  }
}
