/** What a check counts: real tests that ran, or the one that a static check is. */
export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number }

export type Failure = { readonly where: string; readonly reason: string }

type AssertionResult = { status?: string; fullName?: string; failureMessages?: string[] }
type TestResult = { name?: string; status?: string; message?: string; assertionResults?: AssertionResult[] }

/**
 * Counts a vitest JSON report. A file that failed without a failed test (it did not load, or a hook broke) counts as one failure,
 * and so does a run that ended badly though every test passed (an error that no test caught), or one in which nothing ran.
 */
export function countVitestReport(
  report: string | null,
  exitCode: number | null,
): { counts: Counts; failures: Failure[] } {
  const failures: Failure[] = []
  let passed = 0
  let skipped = 0
  for (const file of parse(report)) {
    const results = file.assertionResults ?? []
    const failedBefore = failures.length
    for (const test of results) {
      if (test.status === 'passed') passed += 1
      else if (test.status === 'failed') {
        failures.push({
          where: `${file.name ?? '?'} › ${test.fullName ?? '?'}`,
          reason: firstLine(test.failureMessages?.[0]),
        })
      } else skipped += 1
    }
    if (file.status === 'failed' && failures.length === failedBefore) {
      failures.push({ where: file.name ?? '?', reason: firstLine(file.message) || 'the file did not run' })
    }
  }
  if (failures.length === 0 && exitCode !== 0) {
    failures.push({ where: 'vitest', reason: `it ended with ${exitCode ?? 'a signal'}; its reason is above` })
  }
  if (failures.length === 0 && passed === 0) failures.push({ where: 'vitest', reason: 'no test ran' })
  return { counts: { passed, failed: failures.length, skipped }, failures }
}

function parse(report: string | null): TestResult[] {
  if (report === null) return []
  try {
    const value = JSON.parse(report) as { testResults?: TestResult[] }
    return value.testResults ?? []
  } catch {
    return []
  }
}

function firstLine(text: string | undefined): string {
  return (text ?? '').split('\n', 1)[0]?.slice(0, 300) ?? ''
}
