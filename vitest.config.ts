import { defineConfig } from 'vitest/config'

const REAL_THINGS = { testTimeout: 120_000, hookTimeout: 180_000 }

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{core,engine,runtime,proxy,ledger,operator,governance,sdk,cli,tools,policies}/**/*.test.ts'],
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
          exclude: ['test/docs/**', 'test/operator/**', 'test/e2e/kubernetes/**'],
          ...REAL_THINGS,
          fileParallelism: false,
        },
      },
      {
        // The same with a Kubernetes API server of each file's own.
        test: { name: 'operator', include: ['test/operator/**/*.test.ts'], ...REAL_THINGS },
      },
      {
        // A whole node: one at a time.
        test: {
          name: 'kubernetes',
          include: ['test/e2e/kubernetes/**/*.test.ts'],
          ...REAL_THINGS,
          fileParallelism: false,
        },
      },
    ],
  },
})
