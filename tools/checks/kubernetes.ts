import {
  API_SERVER_TOOLS,
  ensureKubernetesTool,
  KUBERNETES_TOOLS,
  type KubernetesTool,
} from '#tools/kubernetes/build.ts'

/** What went wrong, or null when all is there. */
export type Outcome = Promise<string | null>
export type KubernetesBuilds = { readonly apiServer: Outcome; readonly node: Outcome }

/**
 * Starts to build what is missing, one after the other and behind everything else that wants the processor: from cold some 25 minutes,
 * which the checks that need none of it have for themselves.
 */
export function startKubernetesBuilds(options: {
  readonly after: Promise<unknown>
  readonly onProgress: (line: string) => void
}): KubernetesBuilds {
  const apiServer = options.after.then(() => buildAll(API_SERVER_TOOLS, options.onProgress))
  const others = KUBERNETES_TOOLS.filter((name) => !API_SERVER_TOOLS.includes(name))
  const node = apiServer.then((problem) => problem ?? buildAll(others, options.onProgress))
  return { apiServer, node }
}

async function buildAll(names: readonly KubernetesTool[], onProgress: (line: string) => void): Outcome {
  try {
    for (const name of names) await ensureKubernetesTool(name, { onProgress, lowPriority: true })
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
