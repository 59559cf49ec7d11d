// Starts a node, says where it is, and waits to be killed: for node.test.ts.
import path from 'node:path'
import { startNode } from '#test/support/node.ts'

const node = await startNode()
process.stdout.write(`${path.dirname(node.kubeconfig)}\n`)
setInterval(() => undefined, 60_000)
