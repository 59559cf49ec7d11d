import { runProcess } from '#runtime/process/lifecycle.ts'
import { readProxyConfig } from './config.ts'
import { startProxy } from './process.ts'

await runProcess({ name: 'signet-proxy', start: async () => startProxy(readProxyConfig(process.env), process.env) })
