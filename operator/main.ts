import { runProcess } from '#runtime/process/lifecycle.ts'
import { readOperatorConfig } from './config.ts'
import { startOperator } from './process.ts'

await runProcess({
  name: 'signet-operator',
  start: async () => startOperator(readOperatorConfig(process.env), process.env),
})
