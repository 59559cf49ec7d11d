import { expect, it } from 'vitest'
import { countVitestReport } from './vitest-report.ts'

const file = (status: string, tests: string[], message = ''): object => ({
  name: 'a.test.ts',
  status,
  message,
  assertionResults: tests.map((each) => ({
    status: each,
    fullName: 'a test',
    failureMessages: each === 'failed' ? ['Error: no\nat x'] : [],
  })),
})
const report = (...testResults: object[]): string => JSON.stringify({ testResults })

const cases: { name: string; report: string | null; exitCode: number | null; want: [number, number, number] }[] = [
  { name: 'all passed', report: report(file('passed', ['passed', 'passed'])), exitCode: 0, want: [2, 0, 0] },
  { name: 'one failed', report: report(file('failed', ['passed', 'failed'])), exitCode: 1, want: [1, 1, 0] },
  { name: 'skipped', report: report(file('passed', ['passed', 'pending', 'todo'])), exitCode: 0, want: [1, 0, 2] },
  {
    name: 'a file that did not load',
    report: report(file('failed', [], 'Cannot find module'), file('passed', ['passed'])),
    exitCode: 1,
    want: [1, 1, 0],
  },
  { name: 'an error outside of tests', report: report(file('passed', ['passed'])), exitCode: 1, want: [1, 1, 0] },
  { name: 'ended by a signal', report: report(file('passed', ['passed'])), exitCode: null, want: [1, 1, 0] },
  { name: 'nothing ran', report: report(), exitCode: 0, want: [0, 1, 0] },
  { name: 'no report', report: null, exitCode: 1, want: [0, 1, 0] },
  { name: 'a broken report', report: '{', exitCode: 0, want: [0, 1, 0] },
]
it.each(cases)('$name', ({ report, exitCode, want }) => {
  const { counts, failures } = countVitestReport(report, exitCode)
  expect([counts.passed, counts.failed, counts.skipped]).toEqual(want)
  expect(failures).toHaveLength(counts.failed)
})

it('names the test and the first line of its reason', () => {
  expect(countVitestReport(report(file('failed', ['failed'])), 1).failures).toEqual([
    { where: 'a.test.ts › a test', reason: 'Error: no' },
  ])
})
