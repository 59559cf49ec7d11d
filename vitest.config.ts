import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{core,engine,runtime,proxy,ledger,cli,tools,policies}/**/*.test.ts'],
          testTimeout: 20_000,
        },
      },
      {
        // What crosses processes runs the real thing: PostgreSQL, child processes, real HTTP. One file at a time: two cores.
        test: {
          name: 'integration',
          include: ['test/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
