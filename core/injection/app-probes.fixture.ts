import { Compile } from 'typebox/compile'
import { AppProbes } from './app-probe.ts'

const validator = Compile(AppProbes)

/** As the proxy reads `SIGNET_PROBES`. Throws where it would refuse. */
export function parseAppProbes(text: string | undefined): AppProbes {
  const value: unknown = JSON.parse(text ?? '{}')
  if (!validator.Check(value)) throw new Error(`the proxy would refuse ${text}`)
  return value
}
