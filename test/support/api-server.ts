import { existsSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { ensureKubernetesTool } from '#tools/kubernetes/build.ts'
import { runTool } from '#tools/kubernetes/run-tool.ts'
import { createObjects, type Objects } from './kubernetes/objects.ts'
import { startControlPlane } from './kubernetes/control-plane.ts'
import { kubeconfigFor } from './kubernetes/kubeconfig.ts'
import { startKeeper } from './kubernetes/keeper.ts'
import type { ApiClient } from './kubernetes/api-client.ts'

/**
 * A real Kubernetes API server (etcd and kube-apiserver, no controllers, no node) in a folder and on ports of its own; about 4 s, 320 MB.
 * RBAC, TokenRequest, TokenReview, CRDs with CEL, webhooks (by `url:`), ValidatingAdmissionPolicy and PodSecurity work as in a cluster.
 * No controller makes ServiceAccounts, EndpointSlices or Pods, and nothing is garbage-collected.
 *
 *   const server = await startApiServer({ crds: true })
 *   await server.createNamespace('payments', { 'signet.dev/inject': 'enabled' })
 *   await server.kubectl(['apply', '-f', '-'], yaml)
 *   const { status } = await server.request('POST', '/api/v1/namespaces/payments/pods', pod)
 *   await server.stop()
 */
export type TestApiServer = Objects & {
  readonly url: string
  /** Path of an administrator's kubeconfig. */
  readonly kubeconfig: string
  /** An administrator's bearer token. */
  readonly token: string
  /** PEM of the authority that the server's certificate comes from. */
  readonly ca: string
  readonly request: ApiClient['request']
  /** Standard output of kubectl. @throws with what it said when it ended badly */
  kubectl(args: readonly string[], stdin?: string): Promise<string>
  /** Kills the API server (with `etcd: true` both) and starts it again on the same port and data. */
  restart(options?: { etcd?: boolean }): Promise<void>
  /** Compacts etcd: a watch or list from an older revision is 410 Gone after the next restart. */
  compact(): Promise<void>
  /** The end of the API server's log. */
  output(): Promise<string>
  stop(): Promise<void>
}

const CRDS = path.resolve(import.meta.dirname, '../../crds')

export async function startApiServer(options: { crds?: boolean; extraArgs?: string[] } = {}): Promise<TestApiServer> {
  const [etcd, server, kubectl] = await Promise.all(
    (['etcd', 'kube-apiserver', 'kubectl'] as const).map((name) => ensureKubernetesTool(name)),
  )
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-api-server-'))
  const keeper = startKeeper(folder)
  try {
    const plane = await startControlPlane({
      folder,
      binaries: { etcd: etcd ?? '', 'kube-apiserver': server ?? '' },
      address: '127.0.0.1',
      extraArgs: options.extraArgs ?? [],
      onPrograms: (programs) => keeper.watch(programs.map(({ pid }) => pid)),
    })
    const kubeconfig = path.join(folder, 'kubeconfig')
    await writeFile(kubeconfig, kubeconfigFor(plane.url, plane.ca, plane.token), { mode: 0o600 })
    const test: TestApiServer = {
      ...createObjects(plane.client),
      url: plane.url,
      kubeconfig,
      token: plane.token,
      ca: plane.ca,
      request: plane.client.request,
      kubectl: (args, stdin) =>
        runTool(kubectl ?? '', ['--kubeconfig', kubeconfig, ...args], {
          env: { HOME: folder },
          ...(stdin === undefined ? {} : { input: stdin }),
        }),
      restart: plane.restart,
      compact: plane.compact,
      output: async () => (await plane.programs.at(-1)?.output()) ?? '',
      async stop() {
        await plane.kill()
        await keeper.close()
      },
    }
    for (const namespace of ['default', 'kube-system']) await test.createServiceAccount(namespace, 'default')
    if (options.crds === true) await applyCrds(test)
    return test
  } catch (error) {
    await keeper.close()
    throw error
  }
}

async function applyCrds(server: TestApiServer): Promise<void> {
  if (!existsSync(CRDS)) throw new Error(`there is no ${CRDS}`)
  await server.kubectl(['apply', '--server-side', '-f', CRDS])
  await server.kubectl(['wait', '--for=condition=Established', '--timeout=60s', '-f', CRDS])
}
