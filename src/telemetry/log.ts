// Logs: one JSON object a line on standard output.

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LEVELS)[number];
type Fields = Record<string, unknown>;
export type Log = Record<LogLevel, (message: string, fields?: Fields) => void>;

export function createLog(part: string, level: LogLevel = 'info'): Log {
  const write =
    (at: LogLevel) =>
    (message: string, fields: Fields = {}) => {
      if (LEVELS.indexOf(at) < LEVELS.indexOf(level)) return;
      process.stdout.write(`${JSON.stringify({ t: new Date().toISOString(), level: at, part, message, ...fields })}\n`);
    };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}
