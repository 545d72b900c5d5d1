// How the tests run: each file in a process of its own, two at a time, because the parts under test start processes themselves.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // The slowest single test starts servers and kills them; twice its time on a loaded two-core machine, ms.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // A poll that comes true goes on at once; its limit is for what never does, also on a loaded machine, ms.
    expect: { poll: { timeout: 20_000 } },
    // Output of a test that hangs must be seen while it hangs.
    disableConsoleIntercept: true,
    reporters: ['default', './test/support/slowest-reporter.ts'],
  },
});
