import Type from 'typebox'
import { readConfig } from '#runtime/config.ts'
import { LISTEN_ADDRESS, listen, parseListenAddress } from '#runtime/http/listen.ts'
import { runProcess } from '#runtime/process/lifecycle.ts'
import { createDemoService } from './service.ts'

const DEMO_CONFIG = Type.Object({
  SIGNET_DEMO_LISTEN: Type.String({
    ...LISTEN_ADDRESS,
    default: '127.0.0.1:8081',
    description: 'Where the demo service listens.',
  }),
})

await runProcess({
  name: 'signet-demo',
  start: async () => {
    const { SIGNET_DEMO_LISTEN } = readConfig(DEMO_CONFIG, process.env)
    const service = createDemoService()
    await listen(service, parseListenAddress('SIGNET_DEMO_LISTEN', SIGNET_DEMO_LISTEN), {
      what: 'demo service',
      variable: 'SIGNET_DEMO_LISTEN',
    })
    return {
      stop: () =>
        new Promise((resolve) => {
          service.close(() => resolve())
          service.closeIdleConnections()
        }),
    }
  },
})
