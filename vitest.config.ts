import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{core,engine,runtime,proxy,ledger,operator,cli,tools,policies}/**/*.test.ts'],
          testTimeout: 20_000,
        },
      },
      {
        // Pages compared with the code that they describe.
        test: { name: 'docs', include: ['test/docs/**/*.test.ts'] },
      },
      {
        // What crosses processes runs the real thing: PostgreSQL, child processes, real HTTP. One file at a time: two cores.
        test: {
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: ['test/docs/**'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
