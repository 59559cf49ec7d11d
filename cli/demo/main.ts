import { readConfig } from '#runtime/config.ts'
import { listen, parseListenAddress } from '#runtime/http/listen.ts'
import { runProcess } from '#runtime/process/lifecycle.ts'
import { DEMO_CONFIG } from './config.ts'
import { createDemoService } from './service.ts'

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
