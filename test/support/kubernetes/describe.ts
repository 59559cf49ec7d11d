import type { Program } from './child.ts'

type Kubectl = (args: readonly string[]) => Promise<string>
type Pod = {
  metadata: { namespace: string; name: string }
  spec: { initContainers?: { name: string }[]; containers: { name: string }[] }
  status?: { conditions?: { type: string; status: string }[]; phase?: string }
}

const LOG_LINES = '30'

/** What a person would look at when a cluster does not do what it should. */
export async function describeCluster(kubectl: Kubectl, programs: readonly Program[]): Promise<string> {
  const ask = (...args: string[]): Promise<string> => kubectl(args).catch((error: Error) => error.message)
  const parts = [
    `--- pods\n${await ask('get', 'pods', '-A', '-o', 'wide')}`,
    `--- warnings\n${await ask('get', 'events', '-A', '--field-selector', 'type=Warning', '--sort-by', '.lastTimestamp')}`,
    ...(await podLogs(kubectl, ask)),
  ]
  for (const program of programs)
    if (program.ended()) parts.push(`--- ${program.name} ended\n${await program.output()}`)
  return parts.join('\n')
}

async function podLogs(kubectl: Kubectl, ask: (...args: string[]) => Promise<string>): Promise<string[]> {
  const listed = await kubectl(['get', 'pods', '-A', '-o', 'json']).catch(() => '{"items":[]}')
  const parts: string[] = []
  for (const { metadata, spec, status } of (JSON.parse(listed) as { items: Pod[] }).items) {
    const ready = status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') === true
    if (status?.phase === 'Succeeded') continue
    for (const { name } of [...(spec.initContainers ?? []), ...spec.containers]) {
      const where = ['-n', metadata.namespace, metadata.name, '-c', name]
      parts.push(
        `--- ${metadata.namespace}/${metadata.name} ${name}${ready ? '' : ' (not ready)'}`,
        await ask('logs', ...where, '--tail', LOG_LINES),
      )
      if (!ready) parts.push(await ask('logs', ...where, '--previous', '--tail', LOG_LINES))
    }
  }
  return parts
}
